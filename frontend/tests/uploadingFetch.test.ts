import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { fetchFor, uploadingFetch } from "../src/uploadingFetch.ts";
import { FakeXhr } from "./fakeXhr.ts";

function ask(request: RequestInit = {}) {
  const shares: (number | null)[] = [];
  const send = uploadingFetch((share) => shares.push(share), FakeXhr as unknown as typeof XMLHttpRequest);
  const response = send("/analyze", { method: "POST", headers: { Authorization: "Bearer k" }, ...request });
  return { shares, response, xhr: FakeXhr.latest };
}

describe("uploadingFetch", () => {
  beforeEach(() => vi.useFakeTimers());
  afterEach(() => vi.useRealTimers());

  it("sends what fetch would send", () => {
    const body = new FormData();
    const { xhr } = ask({ body });
    expect(xhr.opened).toEqual(["POST", "/analyze"]);
    expect(xhr.sentHeaders).toEqual({ authorization: "Bearer k" });
    expect(xhr.send).toHaveBeenCalledExactlyOnceWith(body);
  });

  it("gives the answer's text piece by piece, whole characters of any language", async () => {
    const { xhr, response } = ask();
    xhr.answer(200);
    const { status, headers, body } = await response;
    expect([status, headers.get("Retry-After")]).toEqual([200, "7"]);
    const reader = body?.pipeThrough(new TextDecoderStream()).getReader();
    for (const piece of ["湖 ", "بحيرة", "😀"]) {
      xhr.write(piece);
      expect((await reader?.read())?.value).toBe(piece);
    }
    xhr.onload();
    expect((await reader?.read())?.done).toBe(true);
  });

  it("tells the share that is sent of an upload that lasts, and when all is", () => {
    const { xhr, shares } = ask();
    xhr.upload.onprogress?.({ loaded: 10, total: 100 });
    expect(shares).toEqual([]);
    vi.advanceTimersByTime(1000);
    for (const loaded of [20, 60, 100]) xhr.upload.onprogress?.({ loaded, total: 100 });
    expect(shares).toEqual([0.2, 0.6, null]);
  });

  it("fails as fetch does, before the answer and within it", async () => {
    const early = ask();
    early.xhr.onerror();
    await expect(early.response).rejects.toBeInstanceOf(TypeError);
    const late = ask();
    late.xhr.answer(200);
    const { body } = await late.response;
    late.xhr.onerror();
    await expect(body?.getReader().read()).rejects.toBeInstanceOf(TypeError);
  });

  it("stops when its signal says so, before the answer and within it", async () => {
    const reason = new Error("given up");
    for (const answered of [false, true]) {
      const controller = new AbortController();
      const { xhr, response } = ask({ signal: controller.signal });
      if (answered) xhr.answer(200);
      controller.abort(reason);
      await expect(answered ? response.then(({ body }) => body?.getReader().read()) : response).rejects.toBe(reason);
      expect(xhr.abort).toHaveBeenCalledOnce();
    }
    await expect(ask({ signal: AbortSignal.abort(reason) }).response).rejects.toBe(reason);
  });

  it("stops when nobody reads on", async () => {
    const { xhr, response } = ask();
    xhr.answer(200);
    await (await response).body?.cancel();
    expect(xhr.abort).toHaveBeenCalledOnce();
  });
});

it("is for large pictures, and for those who have no fetch of their own", () => {
  const [small, large] = [1000, 1_000_000].map((bytes) => new Blob([new Uint8Array(bytes)])) as [Blob, Blob];
  const told = (): void => undefined;
  expect(fetchFor(small, undefined, told)).toBeUndefined();
  expect(fetchFor(large, fetch, told)).toBe(fetch);
  expect(fetchFor(large, undefined, told)).toBeTypeOf("function");
});
