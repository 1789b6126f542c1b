/** A stand-in for the service, behind `fetch`: it answers as told, and remembers what it was asked. */

import { AT_FIRST, type Settings } from "../page/settings.ts";
import type { Analysis, AnalyzeAnswer, ModelsAnswer, StreamEvent, TargetsAnswer } from "../src/index.ts";

const labels = [
  { value: "calm", score: 0.6 },
  { value: "bright", score: 0.3 },
];

export const ANALYSIS: Analysis = {
  style: labels,
  mood: labels,
  composition: labels,
  color_palette: labels,
  subjects: labels,
  time_of_day: labels,
};

export const ANALYZED = {
  status: "analyzed",
  analysis: ANALYSIS,
  tags: [{ value: "lake", group: "places", score: 0.9 }],
  palette: [{ hex: "#aabbcc", share: 0.5 }],
  analyzer: "clip",
  cached: false,
  timings: { decode: 5, analysis: 20, total: 25 },
  warnings: ["first"],
} as const satisfies StreamEvent;

export const COMPLETE = {
  status: "complete",
  generatedPrompt: "a calm lake",
  userInput: "at dusk",
  promptSource: "ollama",
  vision: false,
  target: "prose",
  aspectRatio: "3:2",
  truncated: false,
  timings: { decode: 5, analysis: 20, prompt: 300, total: 325 },
  warnings: ["first", "second"],
} as const satisfies StreamEvent;

const { status: _analyzed, ...analyzed } = ANALYZED;
const { status: _complete, ...complete } = COMPLETE;

export const ANSWER: AnalyzeAnswer = { success: true, ...analyzed, ...complete };

const held = { gpu_share: null, size_bytes: null, hosts: ["http://a"] };

export const SETTINGS: Settings = { ...AT_FIRST, userPrompt: "at dusk", target: "prose" };

export const MODELS: ModelsAnswer = {
  default: "Mistral",
  allowed: ["Mistral", "qwen3:4b", "gemma3", "nomic", "old", "gone"],
  models: [
    { ...held, name: "mistral:latest", capabilities: ["completion", "tools"], loaded: true, gpu_share: 1 },
    { ...held, name: "qwen3:4b", capabilities: ["completion", "thinking"], loaded: false },
    { ...held, name: "library/gemma3:latest", capabilities: ["completion", "vision"], loaded: true, gpu_share: 0 },
    { ...held, name: "nomic:latest", capabilities: ["embedding"], loaded: false },
    { ...held, name: "old:latest", capabilities: null, loaded: false },
  ],
  hosts: [{ host: "http://a", version: "0.33.0", reason: "", remedy: "" }],
};

const target = { languages: ["en" as const], unit: null, limits: {} };

export const TARGETS: TargetsAnswer = {
  default: "prose",
  targets: [
    { ...target, name: "prose", title: "Prose", help: "A paragraph.", shape: "prose", negative: false, weights: false },
    { ...target, name: "sdxl", title: "SDXL", help: "Phrases.", shape: "phrases", negative: true, weights: true },
  ],
};

/** One request that the stand-in got; its answer is given by hand. */
export class Asked {
  readonly url: string;
  readonly form: FormData;
  readonly signal: AbortSignal;
  readonly headers: Headers;
  #resolve: (response: Response) => void = () => undefined;
  #reject: (error: unknown) => void = () => undefined;
  #body: ReadableStreamDefaultController<Uint8Array> | null = null;
  readonly response: Promise<Response>;

  constructor(url: string, request: RequestInit) {
    this.url = url;
    this.form = request.body as FormData;
    this.signal = request.signal ?? new AbortController().signal;
    this.headers = new Headers(request.headers);
    this.response = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.signal.addEventListener("abort", () => {
      this.#reject(this.signal.reason);
      this.#body?.error(this.signal.reason);
    });
  }

  json(body: unknown, status = 200, headers: Record<string, string> = {}): void {
    this.#resolve(Response.json(body, { status, headers }));
  }

  text(body: string, status = 200, type = "text/html"): void {
    this.#resolve(new Response(body, { status, headers: { "Content-Type": type } }));
  }

  fail(error: unknown): void {
    this.#reject(error);
    this.#body?.error(error);
  }

  events(...events: StreamEvent[]): void {
    if (this.#body === null) {
      const body = new ReadableStream<Uint8Array>({ start: (controller) => void (this.#body = controller) });
      this.#resolve(new Response(body, { headers: { "Content-Type": "text/event-stream" } }));
    }
    for (const event of events) {
      this.#body?.enqueue(new TextEncoder().encode(`data: ${JSON.stringify(event)}\n\n`));
    }
  }

  end(): void {
    this.#body?.close();
  }
}

/** Gives a `fetch`, and the requests that it got so far. */
export function standIn(): { fetch: typeof fetch; asked: Asked[]; latest: () => Asked } {
  const asked: Asked[] = [];
  const latest = (): Asked => {
    const last = asked.at(-1);
    if (last === undefined) throw new Error("nothing was asked");
    return last;
  };
  return {
    asked,
    latest,
    fetch: (url, request) => {
      const one = new Asked(url as string, request ?? {});
      asked.push(one);
      return one.response;
    },
  };
}

export const PICTURE = new File(["picture"], "lake.jpg", { type: "image/jpeg" });
