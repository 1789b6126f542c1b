import { describe, expect, it } from "vitest";

import { AnalyzerError, type StreamEvent } from "../src/index.ts";
import { askThrough } from "../page/askThrough.ts";
import { ANALYZED, ANSWER, COMPLETE, PICTURE } from "./service.ts";

const NEVER = new AbortController().signal;

function askOf(events: readonly (StreamEvent | Error)[]) {
  const sent: unknown[] = [];
  const ask = askThrough({
    // eslint-disable-next-line @typescript-eslint/require-await -- as the client's, but at once
    async *stream(image, filename, signal) {
      sent.push([image, filename, signal]);
      for (const event of events) {
        if (event instanceof Error) throw event;
        yield event;
      }
    },
    send: (_, send) => send(new Blob(["small"])),
  });
  return { ask, sent };
}

describe("askThrough", () => {
  it("gives the answer that a stream adds up to, and tells the prompt as it grows and where it starts over", async () => {
    const prompts: string[] = [];
    const { ask, sent } = askOf([
      { status: "analyzing", message: "" },
      ANALYZED,
      { status: "generating", message: "" },
      { status: "delta", text: "a " },
      { status: "delta", text: "lake" },
      { status: "generating", message: "" },
      { status: "delta", text: "a calm" },
      COMPLETE,
    ]);
    expect(await ask(PICTURE, (text) => prompts.push(text), NEVER)).toEqual(ANSWER);
    expect(prompts).toEqual(["a ", "a lake", "a calm"]);
    expect(sent).toEqual([[new Blob(["small"]), "lake.jpg", NEVER]]);
  });

  it("takes what the service refuses for a result, and nothing else", async () => {
    const refused = askOf([new AnalyzerError("As many wait as may.", "queue_full", 12)]);
    expect(await refused.ask(PICTURE, () => undefined, NEVER)).toEqual({
      success: false,
      error: "The service is busy with other pictures.",
      code: "queue_full",
      retryAfterS: 12,
    });
    const faulty = askOf([new Error("a fault of ours")]);
    await expect(faulty.ask(PICTURE, () => undefined, NEVER)).rejects.toThrow("a fault of ours");
  });
});
