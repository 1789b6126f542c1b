import { describe, expect, it, vi } from "vitest";

import { isOnThisMachine } from "../src/loopback.ts";
import { type PictureCodec, type ShrinkLimits, shrinkPicture } from "../src/shrink.ts";

const LIMITS: ShrinkLimits = { worthwhileBytes: 100, shorterEdgePx: 1000, quality: 0.9 };
const LARGE = new Blob([new Uint8Array(1000)]);

function codecFor(width: number, height: number, encodedBytes: number | null) {
  const close = vi.fn();
  const encode = vi.fn<PictureCodec["encode"]>(() =>
    Promise.resolve(encodedBytes === null ? null : new Blob([new Uint8Array(encodedBytes)])),
  );
  const decode = vi.fn<PictureCodec["decode"]>(() => Promise.resolve({ width, height, close }));
  return { decode, encode, close };
}

describe("shrinkPicture", () => {
  it.each([
    [4000, 3000, 1333, 1000],
    [3000, 4000, 1000, 1333],
    [9000, 1500, 6000, 1000],
  ])("makes the shorter edge of %d × %d as short as it may be", async (width, height, newWidth, newHeight) => {
    const codec = codecFor(width, height, 200);
    const shrunk = await shrinkPicture(LARGE, LIMITS, codec);
    expect(shrunk.size).toBe(200);
    expect(codec.encode).toHaveBeenCalledWith(expect.anything(), newWidth, newHeight, LIMITS.quality);
    expect(codec.close).toHaveBeenCalledOnce();
  });

  it.each([
    ["has no pixels to spare", codecFor(4000, 1000, 200)],
    ["would not get smaller", codecFor(4000, 3000, 1000)],
    ["cannot be encoded", codecFor(4000, 3000, null)],
    ["cannot be read here", { ...codecFor(1, 1, 1), decode: () => Promise.reject(new Error("unreadable")) }],
  ])("sends the file itself if it %s", async (_, codec) => {
    expect(await shrinkPicture(LARGE, LIMITS, codec)).toBe(LARGE);
  });

  it("does not even look at a small file", async () => {
    const codec = codecFor(4000, 3000, 10);
    const small = new Blob([new Uint8Array(100)]);
    expect(await shrinkPicture(small, LIMITS, codec)).toBe(small);
    expect(codec.decode).not.toHaveBeenCalled();
  });
});

describe("a picture that the service does not read", () => {
  const HEIC = new File([new Uint8Array(100)], "lake.heic", { type: "image/heic" });

  it.each([
    [400, 300, 400, 300],
    [4000, 3000, 1333, 1000],
  ])("becomes a JPEG where the browser reads it, at %d × %d", async (width, height, newWidth, newHeight) => {
    const codec = codecFor(width, height, 200);
    expect((await shrinkPicture(HEIC, LIMITS, codec)).size).toBe(200);
    expect(codec.encode).toHaveBeenCalledWith(expect.anything(), newWidth, newHeight, LIMITS.quality);
  });

  it("is sent as it is where the browser does not, so that the service says what to do", async () => {
    const codec = { ...codecFor(1, 1, 1), decode: () => Promise.reject(new Error("unreadable")) };
    expect(await shrinkPicture(HEIC, LIMITS, codec)).toBe(HEIC);
  });
});

describe("isOnThisMachine", () => {
  it.each([
    ["http://localhost:8000/", true],
    ["http://127.0.0.1:8000/", true],
    ["http://[::1]:8000/", true],
    ["https://prompts.example/", false],
    ["http://192.168.0.10:8000/", false],
    ["http://127.0.0.1.example/", false],
  ])("%s: %s", (address, expected) => {
    expect(isOnThisMachine(new URL(address))).toBe(expected);
  });
});
