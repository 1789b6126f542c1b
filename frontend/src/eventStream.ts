/**
 * Server-Sent Events over `fetch`: `EventSource` cannot send a POST.
 *
 * Parses as the HTML standard says (section 9.2.6, "Interpreting an event stream"), for streams that carry data only:
 * `event`, `id` and `retry` fields are passed over.
 */

/** Takes bytes cut anywhere, gives the data of each event that they complete. */
export class EventStreamParser {
  readonly #decoder = new TextDecoder();
  readonly #data: string[] = [];
  #line = "";
  #afterCarriageReturn = false;

  /** Takes the next bytes; gives the data of the events that end in them, several lines joined by `\n`. */
  push(bytes: Uint8Array): string[] {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === "") return [];
    if (this.#afterCarriageReturn && text.startsWith("\n")) text = text.slice(1);
    this.#afterCarriageReturn = text.endsWith("\r");
    const lines = text.split(/\r\n|\n|\r/);
    lines[0] = this.#line + (lines[0] ?? "");
    this.#line = lines.pop() ?? "";
    return lines.flatMap((line) => this.#take(line));
  }

  #take(line: string): string[] {
    if (line === "") {
      return this.#data.length > 0 ? [this.#data.splice(0).join("\n")] : [];
    }
    const [, field, value] = /^([^:]*)(?:: ?)?(.*)$/s.exec(line) ?? [];
    if (field === "data") this.#data.push(value ?? "");
    return [];
  }
}

/** Gives the data of each event of a response's body, as they come; ends with the body. */
export async function* readEventStream(body: ReadableStream<Uint8Array>): AsyncGenerator<string, void> {
  const parser = new EventStreamParser();
  const reader = body.getReader();
  try {
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
      yield* parser.push(chunk.value);
    }
  } finally {
    // Tells the service to stop; a body that has failed already rejects with what was thrown to our caller anyway.
    reader.cancel().catch(() => undefined);
  }
}
