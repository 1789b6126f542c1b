import { describe, expect, it, vi } from "vitest";

import { isReadByTheService } from "../src/acceptedPictures.ts";
import { AnalyzerError } from "../src/client.ts";
import type { DrawPicture } from "../src/drawPicture.ts";
import { isOnThisMachine } from "../src/loopback.ts";
import { preparePicture, sendPicture, type ShrinkLimits } from "../src/shrink.ts";

const LIMITS: ShrinkLimits = {
  mostBytes: 5000,
  worthwhileBytes: 100,
  shorterEdgePx: 1000,
  longerEdgePx: 8000,
  quality: 0.9,
};

/** A file that begins so, a character for each byte. */
function fileOf(beginning: string, bytes: number, name = "lake.jpg"): File {
  const content = new Uint8Array(bytes);
  content.set(Array.from(beginning, (character) => character.charCodeAt(0)));
  return new File([content], name);
}

const JPEG = "\xff\xd8\xff\xe0";
const HEIC = "\0\0\0\x18ftypheic\0\0\0\0mif1heic";
const LARGE = fileOf(JPEG, 1000);

/** A browser that shows a picture of this size; tells which size it was to draw. */
function browserShowing(widthPx: number, heightPx: number, drawnBytes: number, isVector = false) {
  const drawn = vi.fn<(size: readonly [number, number]) => void>();
  const draw: DrawPicture = (_, choose) => {
    const size = choose({ widthPx, heightPx, isVector });
    if (size !== null) drawn(size);
    return Promise.resolve(size && new Blob([new Uint8Array(drawnBytes)]));
  };
  return { draw, drawn };
}

const showsNothing: DrawPicture = () => Promise.reject(new Error("not shown"));

describe("a picture that the service reads", () => {
  it.each([
    [4000, 3000, 1333, 1000],
    [3000, 4000, 1000, 1333],
    [9000, 1500, 6000, 1000],
    [20000, 1500, 8000, 600],
  ])("of %d × %d is made as small as it may be, for a service elsewhere", async (width, height, ...size) => {
    const { draw, drawn } = browserShowing(width, height, 200);
    expect((await preparePicture(LARGE, { small: true, limits: LIMITS, draw })).size).toBe(200);
    expect(drawn).toHaveBeenCalledExactlyOnceWith(size);
  });

  it.each([
    ["has no pixels to spare", LARGE, true, browserShowing(4000, 1000, 200).draw],
    ["would not get smaller", LARGE, true, browserShowing(4000, 3000, 1000).draw],
    ["cannot be shown here", LARGE, true, showsNothing],
    ["is small", fileOf(JPEG, 100), true, browserShowing(4000, 3000, 10).draw],
    ["goes to this machine", LARGE, false, browserShowing(4000, 3000, 10).draw],
    ["is too large, and cannot be shown here", fileOf(JPEG, 6000), false, showsNothing],
  ])("is sent itself if it %s", async (_, file, small, draw) => {
    expect(await preparePicture(file, { small, limits: LIMITS, draw })).toBe(file);
  });

  it("is drawn on this machine too if it is larger than the service takes", async () => {
    const { draw, drawn } = browserShowing(4000, 800, 200);
    expect((await preparePicture(fileOf(JPEG, 6000), { limits: LIMITS, draw })).size).toBe(200);
    expect(drawn).toHaveBeenCalledExactlyOnceWith([4000, 800]);
  });
});

describe("a picture that the service does not read", () => {
  it.each([
    ["small", 400, 300, false, [400, 300]],
    ["large", 4000, 3000, false, [1333, 1000]],
    ["a drawing", 40, 30, true, [1333, 1000]],
  ])("becomes a JPEG where the browser shows it: %s", async (_, width, height, isVector, size) => {
    const { draw, drawn } = browserShowing(width, height, 20_000, isVector);
    expect((await preparePicture(fileOf(HEIC, 50), { limits: LIMITS, draw })).size).toBe(20_000);
    expect(drawn).toHaveBeenCalledExactlyOnceWith(size);
  });

  it("is named where the browser does not show it either", async () => {
    await expect(preparePicture(fileOf(HEIC, 50, "holiday.heic"), { draw: showsNothing })).rejects.toMatchObject({
      code: "unreadable_image",
      message: "holiday.heic cannot be shown by this browser: save it as JPEG, and choose that.",
    });
  });

  it("is named where the file is gone", async () => {
    const gone = new File([], "gone.jpg");
    gone.slice = () => ({ arrayBuffer: () => Promise.reject(new DOMException("", "NotFoundError")) }) as Blob;
    await expect(preparePicture(gone)).rejects.toMatchObject({
      code: "unreadable_image",
      message: "gone.jpg cannot be read any more: choose it again.",
    });
  });
});

describe("a picture that the service refuses", () => {
  const refusal = (code: string) => new AnalyzerError("Send another one.", code);
  const sendRefusing = (code: string) =>
    vi.fn((image: Blob) => (image === LARGE ? Promise.reject(refusal(code)) : Promise.resolve(image.size)));

  it.each(["upload_too_large", "too_many_pixels", "format_not_accepted", "unreadable_image"])(
    "is sent once more as the browser draws it: %s",
    async (code) => {
      const { draw } = browserShowing(400, 300, 2000);
      expect(await sendPicture(LARGE, sendRefusing(code), { limits: LIMITS, draw })).toBe(2000);
    },
  );

  it.each([
    ["queue_full", browserShowing(400, 300, 200).draw],
    ["unreadable_image", showsNothing],
  ])("is not, if drawing does not mend it: %s", async (code, draw) => {
    const send = sendRefusing(code);
    await expect(sendPicture(LARGE, send, { limits: LIMITS, draw })).rejects.toMatchObject({ code });
    expect(send).toHaveBeenCalledOnce();
  });

  it("is not drawn twice", async () => {
    const send = vi.fn(() => Promise.reject(refusal("unreadable_image")));
    const { draw } = browserShowing(400, 300, 200);
    await expect(sendPicture(fileOf(HEIC, 50), send, { draw })).rejects.toThrow("Send another one.");
    expect(send).toHaveBeenCalledOnce();
  });
});

describe("isReadByTheService", () => {
  it.each([
    [JPEG, true],
    ["\x89PNG\r\n\x1a\n", true],
    ["RIFF\x10\0\0\0WEBPVP8 ", true],
    ["GIF89a", true],
    ["BM", true],
    ["II*\0", true],
    ["MM\0*", true],
    ["II+\0", true],
    ["\0\0\0\x1cftypavif", true],
    ["\0\0\0\x1cftypmif1\0\0\0\0mif1avif", true],
    [HEIC, false],
    ["RIFF\x10\0\0\0WAVEfmt ", false],
    ["\0\0\x01\0", false],
    ["\xff\x0a", false],
    ["<svg", false],
  ])("%j: %s", async (beginning, expected) => {
    expect(await isReadByTheService(fileOf(beginning, 100))).toBe(expected);
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
