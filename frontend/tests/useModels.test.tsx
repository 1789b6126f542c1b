import { act, renderHook, waitFor } from "@testing-library/react";
import { describe, expect, it } from "vitest";

import { useModels } from "../src/index.ts";
import { type Asked, MODELS, standIn } from "./service.ts";

function setUp() {
  const service = standIn();
  const hook = renderHook(
    ({ apiKey, again }: { apiKey: string; again: number }) =>
      useModels({ fetch: service.fetch, headers: { Authorization: `Bearer ${apiKey}` } }, again),
    { initialProps: { apiKey: "first", again: 0 } },
  );
  const answered = async (times: number, answer: (asked: Asked) => void): Promise<void> => {
    await waitFor(() => {
      expect(service.asked).toHaveLength(times);
    });
    await act(async () => {
      answer(service.latest());
      await new Promise((resolve) => setTimeout(resolve));
    });
  };
  return { service, hook, answered };
}

describe("useModels", () => {
  it("gives what the service tells, asked again with another key and whenever it is told to", async () => {
    const { service, hook, answered } = setUp();
    expect(hook.result.current).toBeNull();
    await answered(1, (asked) => {
      asked.json({ success: false, error: "This needs an API key.", code: "key_required" }, 401);
    });
    expect(hook.result.current).toBeNull();
    for (const apiKey of ["s", "se", "second"]) hook.rerender({ apiKey, again: 0 });
    await answered(2, (asked) => {
      asked.json(MODELS);
    });
    expect(service.latest().headers.get("Authorization")).toBe("Bearer second");
    expect(service.latest().url).toBe("/api/images/models");
    expect(hook.result.current).toEqual(MODELS);
    hook.rerender({ apiKey: "second", again: 0 });
    hook.rerender({ apiKey: "second", again: 1 });
    await answered(3, (asked) => {
      asked.text("Bad Gateway", 502);
    });
    expect(hook.result.current).toEqual(MODELS); // It will be back.
    hook.rerender({ apiKey: "", again: 1 });
    await answered(4, (asked) => {
      asked.json({ success: false, error: "This needs an API key.", code: "key_required" }, 401);
    });
    expect(hook.result.current).toBeNull();
  });

  it.each([
    [
      "an older service",
      (asked: Asked) => {
        asked.json({ success: false, error: "No such route.", code: "not_found" }, 404);
      },
    ],
    [
      "nobody",
      (asked: Asked) => {
        asked.fail(new TypeError("Failed to fetch"));
      },
    ],
  ])("gives nothing where %s answers", async (_, answer) => {
    const { hook, answered } = setUp();
    await answered(1, answer);
    expect(hook.result.current).toBeNull();
  });
});
