/** The service's routes as functions; every failure is an `AnalyzerError` whose message says what to do. */

import {
  type AnalyzeAnswer,
  type AnalyzeForm,
  type ErrorAnswer,
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

/** Where the service is, and how it is asked. */
export interface ClientConfig {
  /** Its address, such as `https://prompts.example`; otherwise `VITE_API_BASE_URL`, otherwise the page's own origin. */
  baseUrl?: string | undefined;
  /** Sent with every request. */
  headers?: Readonly<Record<string, string>> | undefined;
  /** In place of the browser's own `fetch`. */
  fetch?: typeof fetch | undefined;
}

/** What is asked of the service. */
export interface AnalyzeRequest {
  image: Blob;
  filename: string;
  userPrompt: string;
  deepThinking: boolean;
  language: Language;
  analysisOnly: boolean;
  /** Empty for the service's own choice, as is no seed. */
  model: string;
  seed: number | null;
  vision: Vision;
  /** Empty for the service's own choice; no length is `long` with deep thinking, else `medium`. */
  target: string;
  length: Length | null;
  weights: boolean;
  /** As many as the service is set to, where it is null; of all groups where there are none. */
  tags: number | null;
  tagGroups: readonly string[];
  /** The caller's own, category to phrases. */
  labels: Readonly<Record<string, readonly string[]>>;
}

/** A failure: `message` is the service's own sentence, or names the address that did not answer. */
export class AnalyzerError extends Error {
  override readonly name = "AnalyzerError";

  constructor(
    message: string,
    /** The service's `code`, or one of ours: `unreachable`, `stream_cut`, `not_the_service`. */
    readonly code: string,
    /** Seconds after which the service says to try again. */
    readonly retryAfterS?: number,
  ) {
    super(message);
  }
}

/** Asks the service. */
export class AnalyzerClient {
  readonly #baseUrl: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #fetch: typeof fetch;

  constructor(config: ClientConfig = {}) {
    this.#baseUrl = (config.baseUrl ?? baseUrlOfTheBuild() ?? "").replace(/\/+$/, "");
    this.#headers = config.headers ?? {};
    this.#fetch = config.fetch ?? ((...request) => fetch(...request));
  }

  /** Where the service is. */
  get address(): URL {
    return this.#addressOf("/");
  }

  /** Gives the whole answer at once. */
  async analyze(request: AnalyzeRequest, signal: AbortSignal): Promise<AnalyzeAnswer> {
    const response = await this.#post(ROUTES.analyze, request, signal);
    return await this.#json<AnalyzeAnswer>(ROUTES.analyze, response);
  }

  /** Gives each stage and each piece of the prompt as it comes; the last is `complete`. Aborting stops the service. */
  async *stream(request: AnalyzeRequest, signal: AbortSignal): AsyncGenerator<StreamEvent, void> {
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
  async health(signal: AbortSignal): Promise<HealthAnswer> {
    const response = await this.#send(ROUTES.health, { headers: this.#headers, signal });
    return await this.#json<HealthAnswer>(ROUTES.health, response);
  }

  /** Tells which models may be asked for, and what each can. */
  async models(signal: AbortSignal): Promise<ModelsAnswer> {
    const response = await this.#send(ROUTES.models, { headers: this.#headers, signal });
    return await this.#json<ModelsAnswer>(ROUTES.models, await this.#accepted(ROUTES.models, response));
  }

  /** Tells what a prompt may be written for. */
  async targets(signal: AbortSignal): Promise<TargetsAnswer> {
    const response = await this.#send(ROUTES.targets, { headers: this.#headers, signal });
    return await this.#json<TargetsAnswer>(ROUTES.targets, await this.#accepted(ROUTES.targets, response));
  }

  async #post(route: string, request: AnalyzeRequest, signal: AbortSignal): Promise<Response> {
    const fields: Record<Exclude<keyof AnalyzeForm, "image">, string> = {
      user_prompt: request.userPrompt,
      deep_thinking: String(request.deepThinking),
      language: request.language,
      analysis_only: String(request.analysisOnly),
      model: request.model,
      seed: String(request.seed ?? ""),
      vision: request.vision === "auto" ? "" : request.vision,
      target: request.target,
      length: request.length ?? "",
      weights: request.weights ? "true" : "",
      tags: String(request.tags ?? ""),
      tag_groups: request.tagGroups.join(","),
      labels: Object.keys(request.labels).length > 0 ? JSON.stringify(request.labels) : "",
    };
    const body = new FormData();
    body.append("image" satisfies keyof AnalyzeForm, request.image, request.filename);
    for (const [name, value] of Object.entries(fields)) if (value !== "") body.append(name, value);
    return await this.#accepted(
      route,
      await this.#send(route, { method: "POST", body, headers: this.#headers, signal }),
    );
  }

  async #accepted(route: string, response: Response): Promise<Response> {
    if (response.ok) return response;
    const answer = await this.#json<Partial<ErrorAnswer>>(route, response);
    if (answer.error === undefined || answer.code === undefined) throw this.#notTheService(response);
    const retryAfterS = Number(response.headers.get("Retry-After") ?? Number.NaN);
    throw new AnalyzerError(answer.error, answer.code, Number.isNaN(retryAfterS) ? undefined : retryAfterS);
  }

  async #send(route: string, request: RequestInit): Promise<Response> {
    try {
      return await this.#fetch(this.#baseUrl + route, request);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      const address = this.#addressOf(route);
      const elsewhere = address.origin !== globalThis.location.origin;
      throw new AnalyzerError(
        `Nothing answers at ${address.href}: check the network and that the service runs` +
          (elsewhere ? `, and that its setting cors_origins has ${globalThis.location.origin}.` : "."),
        "unreachable",
      );
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
    return new URL(this.#baseUrl + route, globalThis.location.href);
  }
}

function baseUrlOfTheBuild(): string | undefined {
  return (import.meta as { env?: Record<string, string | undefined> }).env?.VITE_API_BASE_URL;
}
