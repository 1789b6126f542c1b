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
