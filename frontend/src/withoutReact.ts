/** What `image-analyzer-react/client` gives: the client alone, for scripts, servers and other frameworks. */

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
export { EventStreamParser, readEventStream } from "./eventStream.ts";
