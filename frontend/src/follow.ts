import type { AnalyzeAnswer, StreamEvent } from "./contract.ts";

/** Passes every event on; gives the answer that they add up to. */
export async function follow(
  events: AsyncIterable<StreamEvent>,
  onEvent: (event: StreamEvent) => void,
): Promise<AnalyzeAnswer> {
  let answer: Partial<AnalyzeAnswer> = { success: true };
  for await (const event of events) {
    if (event.status === "analyzed" || event.status === "complete") {
      const { status: _, ...parts } = event;
      answer = { ...answer, ...parts };
    }
    onEvent(event);
  }
  return answer as AnalyzeAnswer;
}
