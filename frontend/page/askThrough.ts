import { follow } from "../src/follow.ts";
import { type AnalyzeAnswer, AnalyzerError, DEFAULT_TEXTS, type StreamEvent } from "../src/index.ts";
import type { Ask } from "./queue.ts";

/** How a picture is sent: with which key, what is asked for, whether it is shrunk. */
export interface Way {
  /** `AnalyzerClient.stream` with all that is asked for. */
  stream: (image: Blob, filename: string, signal: AbortSignal) => AsyncIterable<StreamEvent>;
  /** Makes of the file what can be sent. */
  send: (file: File, send: (image: Blob) => Promise<AnalyzeAnswer>) => Promise<AnalyzeAnswer>;
}

/** Asks for a queue's pictures by the client's stream; what the service refuses is a result. */
export function askThrough(way: Way): Ask {
  return async (file, onPrompt, signal) => {
    try {
      return await way.send(file, (image) => followed(way.stream(image, file.name, signal), onPrompt));
    } catch (error) {
      if (!(error instanceof AnalyzerError)) throw error;
      const { message, code, retryAfterS } = error;
      return { success: false, error: DEFAULT_TEXTS.errors[code] ?? message, code, retryAfterS };
    }
  };
}

/** Gives the answer; tells the prompt so far, also where the writer starts over. */
async function followed(events: AsyncIterable<StreamEvent>, onPrompt: (text: string) => void): Promise<AnalyzeAnswer> {
  let prompt = "";
  return await follow(events, (event) => {
    if (event.status === "generating") prompt = "";
    if (event.status === "delta") onPrompt((prompt += event.text));
  });
}
