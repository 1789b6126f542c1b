/** What the service takes and gives, named; all of it comes from the service's own OpenAPI document. */

import type { components, paths } from "./schema.ts";

type Schemas = components["schemas"];

export type AnalyzeAnswer = Schemas["AnalyzeAnswer"];
export type Analysis = Schemas["AnalysisBody"];
/** The five that are always there; others may follow them. */
export type Category = keyof { [Name in keyof Analysis as string extends Name ? never : Name]: unknown };
export type ScoredLabel = Schemas["ScoredLabel"];
export type ScoredTag = Schemas["ScoredTag"];
export type Colour = Schemas["Colour"];
export type Timings = Schemas["Timings"];
export type ErrorAnswer = Schemas["ErrorAnswer"];
export type HealthAnswer = Schemas["HealthAnswer"];
export type ComponentHealth = Schemas["ComponentHealth"];
export type ModelsAnswer = Schemas["ModelsAnswer"];
export type TargetsAnswer = Schemas["TargetsAnswer"];
export type TokenUnit = NonNullable<AnalyzeAnswer["tokenUnit"]>;
export type AnalyzeForm = Schemas["AnalyzeForm"];
export type Language = NonNullable<AnalyzeForm["language"]>;
/** Whether a model looks at the picture itself: where it is quick about it, if it can, or not. */
export type Vision = NonNullable<AnalyzeForm["vision"]>;
export type Length = NonNullable<AnalyzeForm["length"]>;

/** The codes of the service's failures: those that its OpenAPI document shows, and those of routes that there are not. */
export type ServiceCode =
  | "unreadable_image"
  | "key_required"
  | "origin_not_allowed"
  | "not_found"
  | "method_not_allowed"
  | "upload_too_slow"
  | "upload_too_large"
  | "too_many_pixels"
  | "format_not_accepted"
  | "invalid_form"
  | "too_many_labels"
  | "queue_full"
  | "rate_limited"
  | "internal_error"
  | "component_unavailable"
  | "clip_unavailable"
  | "out_of_memory"
  | "ollama_unavailable"
  | "shutting_down"
  | "deadline_passed";

/** The codes of failures that the service does not tell of: it cannot be asked, or was given up. */
export type OwnCode = "unreachable" | "stream_cut" | "not_the_service" | "headers_failed" | "cancelled" | "unexpected";

/** A failure's code; a newer service may have more of them. */
export type ErrorCode = ServiceCode | OwnCode | (string & {});

/** One event of the stream route, told apart by its `status`. */
export type StreamEvent = Schemas["StreamEvent"];

export const ROUTES = {
  analyze: "/api/images/analyze",
  stream: "/api/images/analyze-stream",
  health: "/api/images/health",
  models: "/api/images/models",
  targets: "/api/images/targets",
} as const satisfies Record<string, keyof paths>;

/** The largest seed that the service takes; the smallest is 0. */
export const MAX_SEED = 2 ** 31 - 1;

/** The languages that a prompt can be written in, each by its own name. */
export const LANGUAGES: Readonly<Record<Language, string>> = {
  en: "English",
  es: "Español",
  fr: "Français",
  de: "Deutsch",
  it: "Italiano",
  pt: "Português",
  ja: "日本語",
  zh: "中文",
  ar: "العربية",
};
