import { describe, expect, it } from "vitest";

import { EventStreamParser, readEventStream } from "../src/eventStream.ts";

const encode = (text: string): Uint8Array => new TextEncoder().encode(text);

function parsed(chunks: Uint8Array[]): string[] {
  const parser = new EventStreamParser();
  return chunks.flatMap((chunk) => parser.push(chunk));
}

describe("EventStreamParser", () => {
  it.each([
    ["one event", "data: one\n\n", ["one"]],
    ["several", "data: one\n\ndata: two\n\n", ["one", "two"]],
    ["CRLF", "data: one\r\n\r\ndata: two\r\n\r\n", ["one", "two"]],
    ["CR", "data: one\r\rdata: two\r\r", ["one", "two"]],
    ["a comment", ": still working\n\ndata: one\n\n", ["one"]],
    ["a comment within an event", "data: one\n:\ndata: more\n\n", ["one\nmore"]],
    ["several lines of data", "data: one\ndata:two\ndata\n\n", ["one\ntwo\n"]],
    ["only the first blank dropped", "data:  one\n\n", [" one"]],
    ["a colon in the data", 'data: {"a":"b: c"}\n\n', ['{"a":"b: c"}']],
    ["other fields", "event: x\nid: 1\nretry: 5\nnothing\ndata: one\n\n", ["one"]],
    ["empty data", "data:\n\n", [""]],
    ["a byte order mark", "\uFEFFdata: one\n\n", ["one"]],
    ["line separators that are not line ends", "data: a\u2028b\u0085c\n\n", ["a\u2028b\u0085c"]],
    ["an event that was not ended", "data: one\n\ndata: two\n", ["one"]],
  ])("reads %s, wherever it is cut", (_, text, events) => {
    const bytes = encode(text);
    expect(parsed([bytes])).toEqual(events);
    for (let cut = 0; cut <= bytes.length; cut++) {
      expect(parsed([bytes.subarray(0, cut), bytes.subarray(cut)]), `cut at ${String(cut)}`).toEqual(events);
    }
    expect(parsed([...bytes].map((byte) => Uint8Array.of(byte)))).toEqual(events);
  });

  it("puts characters together that were cut within", () => {
    const bytes = encode("data: 夕暮れの寺 🏯 é\n\n");
    for (let cut = 0; cut <= bytes.length; cut++) {
      expect(parsed([bytes.subarray(0, cut), bytes.subarray(cut)])).toEqual(["夕暮れの寺 🏯 é"]);
    }
  });

  it("gives an event as soon as its blank line is there", () => {
    const parser = new EventStreamParser();
    expect(parser.push(encode("data: one\n"))).toEqual([]);
    expect(parser.push(encode("\n"))).toEqual(["one"]);
    expect(parser.push(encode("data: two\r\n\r"))).toEqual(["two"]);
    expect(parser.push(encode("\n"))).toEqual([]);
  });
});

describe("readEventStream", () => {
  it("lets go of the body when its reader stops early", async () => {
    let isCancelled = false;
    const body = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        controller.enqueue(encode("data: one\n\n"));
      },
      cancel: () => {
        isCancelled = true;
      },
    });
    for await (const data of readEventStream(body)) {
      expect(data).toBe("one");
      break;
    }
    expect(isCancelled).toBe(true);
  });
});
