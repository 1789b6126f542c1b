import { act, renderHook, waitFor } from "@testing-library/react";
import { StrictMode, useEffect, useRef } from "react";
import { describe, expect, expectTypeOf, it, vi } from "vitest";

import type document from "../openapi.json";
import {
  type AnalyzeResult,
  type AnalyzerConfig,
  type ImageAnalyzer,
  type ServiceCode,
  useImageAnalyzer,
} from "../src/index.ts";
import { FakeXhr } from "./fakeXhr.ts";
import { ANALYSIS, ANALYZED, ANSWER, type Asked, COMPLETE, PICTURE, standIn } from "./service.ts";

function setUp(config: AnalyzerConfig = {}) {
  const service = standIn();
  const hook = renderHook(() => useImageAnalyzer({ shrink: false, fetch: service.fetch, ...config }));
  const now = (): ImageAnalyzer => hook.result.current;
  const start = async (
    ...call: Parameters<ImageAnalyzer["analyzeImage"]>
  ): Promise<{ result: Promise<AnalyzeResult> }> => {
    const before = service.asked.length;
    // Within an object, so that nobody waits for the answer here.
    const begun = await act(() => Promise.resolve({ result: now().analyzeImage(...call) }));
    await waitFor(() => {
      expect(service.asked.length).toBe(before + 1);
    });
    return begun;
  };
  return { service, hook, now, start };
}

const told = async (tell: () => void): Promise<void> => {
  await act(async () => {
    tell();
    await new Promise((resolve) => setTimeout(resolve));
  });
};

describe("useImageAnalyzer", () => {
  it("sends the form that the service takes", async () => {
    const { service, start } = setUp({ baseUrl: "https://prompts.example/", headers: { Authorization: "Bearer k" } });
    await start(PICTURE, "at dusk", true, { language: "ja", model: "qwen3:4b", seed: 7 });
    const { url, form, headers } = service.latest();
    expect(url).toBe("https://prompts.example/api/images/analyze-stream");
    expect((form.get("image") as File).name).toBe("lake.jpg");
    expect(form.get("user_prompt")).toBe("at dusk");
    expect(form.get("deep_thinking")).toBe("true");
    expect(form.get("language")).toBe("ja");
    expect(form.get("analysis_only")).toBe("false");
    expect(form.get("model")).toBe("qwen3:4b");
    expect(form.get("seed")).toBe("7");
    expect(headers.get("Authorization")).toBe("Bearer k");
  });

  it("takes all by its name, as it takes the same by its place", async () => {
    const { service, start } = setUp();
    await start(PICTURE, "at dusk", true, { language: "ja", seed: 0 });
    const byPlace = service.latest();
    await start(PICTURE, { userPrompt: "at dusk", deepThinking: true, language: "ja", seed: 0 });
    expect(service.latest().url).toBe(byPlace.url);
    expect([...service.latest().form]).toEqual([...byPlace.form]);
    await start(PICTURE, { stream: false });
    expect(service.latest().url).toBe("/api/images/analyze");
    expect(service.latest().form.has("user_prompt")).toBe(false);
  });

  it.each([
    ["at once", (key: string) => ({ Authorization: key })],
    ["later", (key: string) => Promise.resolve({ Authorization: key })],
  ])("asks for headers anew with every request, where they come %s", async (_, headersOf) => {
    let count = 0;
    const { service, start } = setUp({ headers: () => headersOf(`Bearer ${String((count += 1))}`) });
    await start(PICTURE);
    await start(PICTURE);
    expect(service.asked.map(({ headers }) => headers.get("Authorization"))).toEqual(["Bearer 1", "Bearer 2"]);
  });

  it("says so when the headers fail", async () => {
    const { hook, now } = setUp({ headers: () => Promise.reject(new Error("signed out")) });
    await act(() => now().analyzeImage(PICTURE));
    expect(hook.result.current).toMatchObject({
      stage: "error",
      error: "The request's headers failed: Error: signed out",
      failure: { code: "headers_failed" },
    });
  });

  it("tells how it ended, once, and nothing of what is given up", async () => {
    const onFinish = vi.fn();
    const onError = vi.fn();
    const { service, now, start } = setUp({ onFinish, onError });
    await start(PICTURE);
    await start(PICTURE);
    act(() => {
      now().cancel();
    });
    await start(PICTURE);
    await told(() => {
      service.latest().events(ANALYZED, COMPLETE);
    });
    expect(onFinish).toHaveBeenCalledExactlyOnceWith(ANSWER, PICTURE);
    expect(onError).not.toHaveBeenCalled();
    await start(PICTURE, { stream: false });
    await told(() => {
      service.latest().json({ success: false, error: "Come back.", code: "queue_full" }, 429, { "Retry-After": "2" });
    });
    const failure = { success: false, error: "Come back.", code: "queue_full", retryAfterS: 2 };
    expect(onError).toHaveBeenCalledExactlyOnceWith(failure, PICTURE);
    expect(now()).toMatchObject({ failure, error: "Come back.", errorCode: "queue_full" });
    await start(PICTURE);
    expect(now().failure).toBeNull();
    expect(onFinish).toHaveBeenCalledOnce();
  });

  it("knows every code that the service's description shows", () => {
    type Answers = (typeof document)["paths"]["/api/images/analyze"]["post"]["responses"];
    type Shown<Answer> = Answer extends { content: { "application/json": { examples: infer All } } }
      ? keyof All
      : never;
    // Those that no route answers are in no route's description.
    type Codes =
      { [Status in keyof Answers]: Shown<Answers[Status]> }[keyof Answers] | "not_found" | "method_not_allowed";
    expectTypeOf<ServiceCode>().toEqualTypeOf<Codes>();
  });

  it("asks for tags and compares with labels of one's own, and leaves out what is not asked for", async () => {
    const { service, start } = setUp();
    await start(PICTURE, "", false, { tags: 0, tagGroups: ["food", "places"], labels: { vehicle: ["car", "tram"] } });
    const { form } = service.latest();
    expect(["tags", "tag_groups", "labels"].map((name) => form.get(name))).toEqual([
      "0",
      "food,places",
      '{"vehicle":["car","tram"]}',
    ]);
    await start(PICTURE);
    expect(["tags", "tag_groups", "labels"].filter((name) => service.latest().form.has(name))).toEqual([]);
  });

  it("shows each stage as it comes, and the prompt growing", async () => {
    const { service, now, start } = setUp();
    const grown: string[] = [];
    const { result } = await start(PICTURE, "at dusk", false, { onPrompt: (prompt) => grown.push(prompt) });
    const asked: Asked = service.latest();
    expect(now()).toMatchObject({ stage: "analyzing", isAnalyzing: true, analysis: null });
    await told(() => {
      asked.events({ status: "analyzing", message: "Reading." }, ANALYZED);
    });
    expect(now()).toMatchObject({
      analysis: ANALYSIS,
      tags: ANALYZED.tags,
      palette: ANALYZED.palette,
      analyzer: "clip",
      warnings: ["first"],
    });
    await told(() => {
      asked.events({ status: "generating", message: "Writing." });
    });
    expect(now().stage).toBe("generating");
    await told(() => {
      asked.events({ status: "delta", text: "a calm" });
    });
    expect(now().generatedPrompt).toBe("a calm");
    await told(() => {
      asked.events({ status: "delta", text: " lake" });
    });
    expect(now().generatedPrompt).toBe("a calm lake");
    await told(() => {
      asked.events(COMPLETE);
    });
    expect(now()).toMatchObject({
      stage: "complete",
      isAnalyzing: false,
      generatedPrompt: "a calm lake",
      warnings: ["first", "second"],
      promptSource: "ollama",
      timings: COMPLETE.timings,
      error: null,
    });
    expect(await result).toEqual(ANSWER);
    expect(grown).toEqual(["a calm", "a calm lake"]);
  });

  it("tells the place in line, that the model thinks, and who wrote", async () => {
    const { service, now, start } = setUp();
    await start(PICTURE);
    const asked = service.latest();
    const generating = { status: "generating", message: "" } as const;
    for (const [event, state] of [
      [
        { ...generating, before: 2 },
        { before: 2, thinking: false, stage: "generating" },
      ],
      [
        { ...generating, vision: true },
        { before: null, looking: true, stage: "generating" },
      ],
      [generating, { before: null, looking: false, thinking: false, stage: "generating" }],
      [
        { status: "thinking", message: "" },
        { before: null, thinking: true, stage: "generating" },
      ],
      [generating, { before: null, thinking: false, stage: "generating" }],
      [
        { status: "thinking", message: "" },
        { before: null, thinking: true, truncated: false, model: null },
      ],
      [
        { ...COMPLETE, model: "qwen3:4b", truncated: true },
        { before: null, thinking: false, truncated: true, model: "qwen3:4b", stage: "complete" },
      ],
    ] as const) {
      await told(() => {
        asked.events(event);
      });
      expect(now()).toMatchObject(state);
    }
    await start(PICTURE);
    expect(now()).toMatchObject({ truncated: false, model: null });
    await told(() => {
      service.latest().events({ ...generating, before: 1 });
    });
    act(() => {
      now().cancel();
    });
    expect(now()).toMatchObject({ stage: "cancelled", before: null });
  });

  it("tells how much of a large picture is sent, while that lasts", async () => {
    vi.stubGlobal("XMLHttpRequest", FakeXhr);
    const { hook, now } = setUp({ fetch: undefined });
    const large = new File([new Uint8Array(1_000_000)], "lake.jpg");
    await act(() => Promise.resolve({ result: now().analyzeImage(large) }));
    await waitFor(() => {
      expect(FakeXhr.latest.send).toHaveBeenCalledOnce();
    });
    vi.spyOn(performance, "now").mockReturnValue(performance.now() + 10_000);
    const { upload, abort } = FakeXhr.latest;
    for (const [loaded, uploaded] of [
      [250_000, 0.25],
      [1_000_000, null],
    ] as const) {
      act(() => upload.onprogress?.({ loaded, total: 1_000_000 }));
      expect(now()).toMatchObject({ stage: "analyzing", uploaded });
    }
    act(() => upload.onprogress?.({ loaded: 1, total: 2 }));
    act(() => {
      now().cancel();
    });
    expect(now()).toMatchObject({ stage: "cancelled", uploaded: null });
    expect(abort).toHaveBeenCalledOnce();
    hook.unmount();
    vi.unstubAllGlobals();
  });

  it("begins again when the writer does", async () => {
    const { service, now, start } = setUp();
    await start(PICTURE);
    const asked = service.latest();
    await told(() => {
      asked.events(ANALYZED, { status: "generating", message: "" }, { status: "delta", text: "void" });
    });
    await told(() => {
      asked.events({ status: "generating", message: "Another writes." });
    });
    expect(now().generatedPrompt).toBe("");
    await told(() => {
      asked.events({ status: "delta", text: "anew" });
    });
    expect(now().generatedPrompt).toBe("anew");
  });

  it("passes over what it does not know", async () => {
    const { service, now, start } = setUp();
    const { result } = await start(PICTURE);
    await told(() => {
      service.latest().events(ANALYZED, { status: "of the future" } as never, COMPLETE);
    });
    expect(await result).toEqual(ANSWER);
    expect(now().stage).toBe("complete");
  });

  it("asks the plain route without streaming", async () => {
    const { service, now, start } = setUp();
    const { result } = await start(PICTURE, "", false, { stream: false });
    expect(service.latest().url).toBe("/api/images/analyze");
    await told(() => {
      service.latest().json(ANSWER);
    });
    expect(await result).toEqual(ANSWER);
    expect(now()).toMatchObject({ stage: "complete", generatedPrompt: "a calm lake", analysis: ANALYSIS });
  });

  it.each([true, false])("gives the service's own sentence and code (stream: %s)", async (stream) => {
    const { service, now, start } = setUp();
    const { result } = await start(PICTURE, "", false, { stream });
    await told(() => {
      service.latest().json({ success: false, error: "Come back.", code: "queue_full" }, 429, { "Retry-After": "2" });
    });
    expect(await result).toEqual({ success: false, error: "Come back.", code: "queue_full", retryAfterS: 2 });
    expect(now()).toMatchObject({ stage: "error", isAnalyzing: false, error: "Come back.", errorCode: "queue_full" });
  });

  it("gives the sentence of a stream that fails midway, and keeps the analysis", async () => {
    const { service, now, start } = setUp();
    const { result } = await start(PICTURE);
    await told(() => {
      service.latest().events(ANALYZED, { status: "error", error: "Ollama is gone.", code: "ollama_unavailable" });
    });
    expect(await result).toMatchObject({ success: false, code: "ollama_unavailable" });
    expect(now()).toMatchObject({ stage: "error", error: "Ollama is gone.", analysis: ANALYSIS });
  });

  it("names the address when nothing answers, and what to allow when it is another origin", async () => {
    const { service, now, start } = setUp({ baseUrl: "http://elsewhere.example:8000" });
    const { result } = await start(PICTURE);
    await told(() => {
      service.latest().fail(new TypeError("Failed to fetch"));
    });
    expect(await result).toMatchObject({ success: false, code: "unreachable" });
    expect(now().error).toContain("http://elsewhere.example:8000/api/images/analyze-stream");
    expect(now().error).toContain(`cors_origins has ${location.origin}`);
  });

  it.each([
    [
      "cut",
      (asked: Asked) => {
        asked.fail(new TypeError("network error"));
      },
    ],
    [
      "ended early",
      (asked: Asked) => {
        asked.end();
      },
    ],
  ])("says so when the stream is %s", async (_, happens) => {
    const { service, now, start } = setUp();
    const { result } = await start(PICTURE);
    await told(() => {
      service.latest().events(ANALYZED);
    });
    await told(() => {
      happens(service.latest());
    });
    expect(await result).toMatchObject({ success: false, code: "stream_cut" });
    expect(now().error).toContain("/api/images/analyze-stream");
  });

  it.each([
    [
      "HTML",
      (asked: Asked) => {
        asked.text("<h1>502 Bad Gateway</h1>", 502);
      },
    ],
    [
      "JSON of another kind",
      (asked: Asked) => {
        asked.json({ detail: "Bad Gateway" }, 502);
      },
    ],
    [
      "no JSON after all",
      (asked: Asked) => {
        asked.text("Bad Gateway", 502, "application/json");
      },
    ],
  ])("says so when something else answers at the address with %s", async (_, answers) => {
    const { service, now, start } = setUp();
    const { result } = await start(PICTURE);
    await told(() => {
      answers(service.latest());
    });
    expect(await result).toMatchObject({ success: false, code: "not_the_service" });
    expect(now().error).toContain("502");
  });

  it("cancels: the request is aborted, what has come stays", async () => {
    const { service, now, start } = setUp();
    const { result } = await start(PICTURE);
    await told(() => {
      service.latest().events(ANALYZED, { status: "generating", message: "" }, { status: "delta", text: "half" });
    });
    act(() => {
      now().cancel();
    });
    expect(service.latest().signal.aborted).toBe(true);
    expect(await result).toMatchObject({ success: false, code: "cancelled" });
    expect(now()).toMatchObject({ stage: "cancelled", isAnalyzing: false, generatedPrompt: "half", error: null });
    act(() => {
      now().reset();
    });
    expect(now()).toMatchObject({ stage: "idle", generatedPrompt: "", analysis: null });
  });

  it("leaves a finished answer alone when cancelled", async () => {
    const { service, now, start } = setUp();
    const { result } = await start(PICTURE);
    await told(() => {
      service.latest().events(ANALYZED, COMPLETE);
    });
    await result;
    act(() => {
      now().cancel();
    });
    expect(now().stage).toBe("complete");
  });

  it("gives up the picture before when another comes, and shows nothing of it", async () => {
    const { service, now, start } = setUp();
    const grown: string[] = [];
    const { result: first } = await start(PICTURE, "", false, { onPrompt: (prompt) => grown.push(prompt) });
    const before = service.latest();
    await told(() => {
      before.events(ANALYZED, { status: "generating", message: "" });
    });
    await start(new File(["other"], "other.jpg"));
    expect(before.signal.aborted).toBe(true);
    expect(await first).toMatchObject({ success: false, code: "cancelled" });
    expect(now()).toMatchObject({ stage: "analyzing", analysis: null });
    await told(() => {
      service.latest().events({ ...ANALYZED, warnings: ["of the second"] });
    });
    expect(now().warnings).toEqual(["of the second"]);
    expect(grown).toEqual([]);
  });

  it("gives up when its component goes", async () => {
    const { service, hook, start } = setUp();
    const { result } = await start(PICTURE);
    hook.unmount();
    expect(service.latest().signal.aborted).toBe(true);
    expect(await result).toMatchObject({ success: false, code: "cancelled" });
  });

  it("is not left busy by what StrictMode gives up", async () => {
    const service = standIn();
    const hook = renderHook(
      () => {
        const analyzer = useImageAnalyzer({ shrink: false, fetch: service.fetch });
        const begun = useRef(false);
        const { analyzeImage } = analyzer;
        useEffect(() => {
          if (!begun.current) void analyzeImage(PICTURE);
          begun.current = true;
        }, [analyzeImage]);
        return analyzer;
      },
      { wrapper: StrictMode },
    );
    await act(() => Promise.resolve());
    expect(hook.result.current).toMatchObject({ stage: "cancelled", isAnalyzing: false });
  });
});
