/** The service's routes as functions; every failure is an `AnalyzerError` whose message says what to do. */

import {
  type AnalyzeAnswer,
  type AnalyzeForm,
  type ErrorAnswer,
  type ErrorCode,
  type HealthAnswer,
  type Language,
  type Length,
  type ModelsAnswer,
  ROUTES,
  type StreamEvent,
  type TargetsAnswer,
  type Vision,
} from "./contract.ts";
import { readEventStream } from "./eventStream.ts";

/** Sent with a request. */
export type RequestHeaders = Readonly<Record<string, string>>;

/** Where the service is, and how it is asked. */
export interface ClientConfig {
  /** Its address, such as `https://prompts.example`; otherwise `VITE_API_BASE_URL`, otherwise the page's own origin. */
  baseUrl?: string | undefined;
  /** Sent with every request; a function is asked anew for each, as for a key that expires. */
  headers?: RequestHeaders | (() => RequestHeaders | Promise<RequestHeaders>) | undefined;
  /** In place of the browser's own `fetch`. */
  fetch?: typeof fetch | undefined;
}

/** What is asked of the service: all but the picture is left to it unless told. */
export interface AnalyzeRequest {
  image: Blob;
  /** A file's own name unless told. */
  filename?: string | undefined;
  /** What the user wants of the picture: woven into the prompt. */
  userPrompt?: string | undefined;
  /** A longer, richer prompt. */
  deepThinking?: boolean | undefined;
  /** The language of the prompt; `en` unless told. */
  language?: Language | undefined;
  /** No prompt, the analysis alone. */
  analysisOnly?: boolean | undefined;
  /** The model that writes, one of the `allowed` of `models()`; the service's own choice unless told. */
  model?: string | undefined;
  /** A whole number from 0 to `MAX_SEED`: the same one gives much the same prompt again. */
  seed?: number | null | undefined;
  /** Whether a model looks at the picture itself; `auto` unless told: where it can and is quick about it. */
  vision?: Vision | undefined;
  /** What the prompt is for, one of `targets()`; the service's own choice, `prose`, unless told. */
  target?: string | undefined;
  /** How long the prompt is to be; `long` with deep thinking, else `medium`, unless told. */
  length?: Length | null | undefined;
  /** Weigh labels, `(words:1.2)`, where that means something to the target. */
  weights?: boolean | undefined;
  /** How many tags are wanted, 0 to 100; as many as the service is set to unless told. */
  tags?: number | null | undefined;
  /** Of which groups; of all unless told. */
  tagGroups?: readonly string[] | undefined;
  /** Labels of your own to compare this picture with, category to phrases: each becomes a category of `analysis`. */
  labels?: Readonly<Record<string, readonly string[]>> | undefined;
  /** What the prompt is to leave out though it was seen, such as tags of an earlier answer. */
  without?: readonly string[] | undefined;
}

/** A failure: `message` is the service's own sentence, or names the address that did not answer. */
export class AnalyzerError extends Error {
  override readonly name = "AnalyzerError";

  constructor(
    message: string,
    readonly code: ErrorCode,
    /** Seconds after which the service says to try again. */
    readonly retryAfterS?: number,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Asks the service. */
export class AnalyzerClient {
  readonly #baseUrl: string;
  readonly #headers: () => RequestHeaders | Promise<RequestHeaders>;
  readonly #fetch: typeof fetch;

  constructor(config: ClientConfig = {}) {
    this.#baseUrl = (config.baseUrl ?? baseUrlOfTheBuild() ?? "").replace(/\/+$/, "");
    const { headers = {} } = config;
    this.#headers = typeof headers === "function" ? headers : () => headers;
    this.#fetch = config.fetch ?? ((...request) => fetch(...request));
  }

  /** Where the service is. */
  get address(): URL {
    return this.#addressOf("/");
  }

  /** Gives the whole answer at once. */
  async analyze(request: AnalyzeRequest, signal?: AbortSignal): Promise<AnalyzeAnswer> {
    const response = await this.#post(ROUTES.analyze, request, signal);
    return await this.#json<AnalyzeAnswer>(ROUTES.analyze, response);
  }

  /** Gives each stage and each piece of the prompt as it comes; the last is `complete`. Aborting stops the service. */
  async *stream(request: AnalyzeRequest, signal?: AbortSignal): AsyncGenerator<StreamEvent, void> {
    const response = await this.#post(ROUTES.stream, request, signal);
    if (response.body === null) throw this.#notTheService(response);
    try {
      for await (const data of readEventStream(response.body)) {
        const event = JSON.parse(data) as StreamEvent;
        if (event.status === "error") throw new AnalyzerError(event.error, event.code);
        yield event;
        if (event.status === "complete") return;
      }
    } catch (error) {
      throw this.#whileReading(error, ROUTES.stream, response);
    }
    throw this.#cut(ROUTES.stream);
  }

  /** Tells how the service stands now; also when it says that it cannot answer. */
  async health(signal?: AbortSignal): Promise<HealthAnswer> {
    const response = await this.#send(ROUTES.health, {}, signal);
    const health = await this.#json<Partial<HealthAnswer>>(ROUTES.health, response);
    if (health.components === undefined) throw this.#notTheService(response); // A gateway's own, in JSON.
    return health as HealthAnswer;
  }

  /** Tells which models may be asked for, and what each can. */
  async models(signal?: AbortSignal): Promise<ModelsAnswer> {
    const response = await this.#send(ROUTES.models, {}, signal);
    return await this.#json<ModelsAnswer>(ROUTES.models, await this.#accepted(ROUTES.models, response));
  }

  /** Tells what a prompt may be written for. */
  async targets(signal?: AbortSignal): Promise<TargetsAnswer> {
    const response = await this.#send(ROUTES.targets, {}, signal);
    return await this.#json<TargetsAnswer>(ROUTES.targets, await this.#accepted(ROUTES.targets, response));
  }

  async #post(route: string, request: AnalyzeRequest, signal?: AbortSignal): Promise<Response> {
    const { image, labels = {} } = request;
    const fields: Record<Exclude<keyof AnalyzeForm, "image">, string> = {
      user_prompt: request.userPrompt ?? "",
      deep_thinking: String(request.deepThinking ?? false),
      language: request.language ?? "en",
      analysis_only: String(request.analysisOnly ?? false),
      model: request.model ?? "",
      seed: String(request.seed ?? ""),
      vision: request.vision === "auto" ? "" : (request.vision ?? ""),
      target: request.target ?? "",
      length: request.length ?? "",
      weights: request.weights === true ? "true" : "",
      tags: String(request.tags ?? ""),
      tag_groups: (request.tagGroups ?? []).join(","),
      labels: Object.keys(labels).length > 0 ? JSON.stringify(labels) : "",
      without: request.without?.join(",") ?? "",
    };
    const body = new FormData();
    const filename = request.filename ?? (image instanceof File ? image.name : "picture");
    body.append("image" satisfies keyof AnalyzeForm, image, filename);
    for (const [name, value] of Object.entries(fields)) if (value !== "") body.append(name, value);
    return await this.#accepted(route, await this.#send(route, { method: "POST", body }, signal));
  }

  async #accepted(route: string, response: Response): Promise<Response> {
    if (response.ok) return response;
    const answer = await this.#json<Partial<ErrorAnswer>>(route, response);
    if (answer.error === undefined || answer.code === undefined) throw this.#notTheService(response);
    const retryAfterS = Number(response.headers.get("Retry-After") ?? Number.NaN);
    throw new AnalyzerError(answer.error, answer.code, Number.isNaN(retryAfterS) ? undefined : retryAfterS);
  }

  async #send(route: string, request: RequestInit, signal?: AbortSignal): Promise<Response> {
    const address = this.#addressOf(route);
    const headers = await this.#currentHeaders();
    signal?.throwIfAborted();
    try {
      return await this.#fetch(this.#baseUrl + route, { ...request, headers, signal: signal ?? null });
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      const origin = pageOf()?.origin;
      throw new AnalyzerError(
        `Nothing answers at ${address.href}: check the network and that the service runs` +
          (origin === undefined || origin === address.origin
            ? "."
            : `, and that its setting cors_origins has ${origin}.`),
        "unreachable",
      );
    }
  }

  async #currentHeaders(): Promise<RequestHeaders> {
    try {
      return await this.#headers();
    } catch (cause) {
      throw new AnalyzerError(`The request's headers failed: ${String(cause)}`, "headers_failed", undefined, { cause });
    }
  }

  async #json<Answer>(route: string, response: Response): Promise<Answer> {
    const isJson = response.headers.get("Content-Type")?.startsWith("application/json") ?? false;
    if (!isJson) throw this.#notTheService(response);
    try {
      return (await response.json()) as Answer;
    } catch (error) {
      throw this.#whileReading(error, route, response);
    }
  }

  /** Names what `fetch` throws while a body is read: TypeError for a cut connection, SyntaxError for bad JSON. */
  #whileReading(error: unknown, route: string, response: Response): unknown {
    if (error instanceof SyntaxError) return this.#notTheService(response);
    return error instanceof TypeError ? this.#cut(route) : error;
  }

  #cut(route: string): AnalyzerError {
    return new AnalyzerError(
      `The connection to ${this.#addressOf(route).href} ended before the answer did: send the picture again.`,
      "stream_cut",
    );
  }

  #notTheService(response: Response): AnalyzerError {
    const address = response.url || this.#baseUrl;
    return new AnalyzerError(
      `${address} answered with status ${String(response.status)}, but not as the Image Analyzer does: ` +
        "check the address and what stands between.",
      "not_the_service",
    );
  }

  #addressOf(route: string): URL {
    try {
      return new URL(this.#baseUrl + route, pageOf()?.href);
    } catch {
      throw new AnalyzerError(
        `There is no service at "${this.#baseUrl}": give its whole address as baseUrl, http:// or https:// included.`,
        "unreachable",
      );
    }
  }
}

/** Undefined outside of a browser. */
function pageOf(): Location | undefined {
  return (globalThis as { location?: Location }).location;
}

function baseUrlOfTheBuild(): string | undefined {
  return (import.meta as { env?: Record<string, string | undefined> }).env?.VITE_API_BASE_URL;
}
