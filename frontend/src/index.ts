"use client";

export { AnalysisBars } from "./AnalysisBars.tsx";
export {
  AnalyzerClient,
  AnalyzerError,
  type AnalyzeRequest,
  type ClientConfig,
  type RequestHeaders,
} from "./client.ts";
export {
  LANGUAGES,
  MAX_SEED,
  type Analysis,
  type AnalyzeAnswer,
  type Category,
  type Colour,
  type ComponentHealth,
  type ErrorCode,
  type HealthAnswer,
  type Language,
  type Length,
  type ModelsAnswer,
  type OwnCode,
  type ScoredLabel,
  type ScoredTag,
  type ServiceCode,
  type StreamEvent,
  type TargetsAnswer,
  type Timings,
  type TokenUnit,
  type Vision,
} from "./contract.ts";
export { CopyButton } from "./CopyButton.tsx";
export { EventStreamParser, readEventStream } from "./eventStream.ts";
export { IntelligentModeImageOptions, type IntelligentModeImageOptionsProps } from "./IntelligentModeImageOptions.tsx";
export { PaletteStrip } from "./PaletteStrip.tsx";
export { preparePicture, sendPicture, SHRINK_LIMITS, type PrepareOptions, type ShrinkLimits } from "./shrink.ts";
export { TagChips } from "./TagChips.tsx";
export { DEFAULT_TEXTS, type Texts } from "./texts.ts";
export { useCopied } from "./useCopied.ts";
export {
  useImageAnalyzer,
  type AnalyzeFailure,
  type AnalyzeOptions,
  type AnalyzeResult,
  type AnalyzerConfig,
  type AnalyzerState,
  type ImageAnalyzer,
  type Stage,
} from "./useImageAnalyzer.ts";
export { useModels } from "./useModels.ts";
export { useTargets } from "./useTargets.ts";
export { HEALTH_INTERVAL_MS, useServiceHealth, type ServiceHealth } from "./useServiceHealth.ts";
