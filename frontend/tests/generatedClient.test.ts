// @vitest-environment node
import { readFile } from "node:fs/promises";
import createClient from "openapi-fetch";
import { describe, expect, it } from "vitest";
import { readEventStream } from "../src/eventStream.ts";
import type { components, paths } from "../src/schema.ts";

type Schemas = components["schemas"];

const { SERVICE_URL, SERVICE_KEY = "" } = process.env;

const PICTURE = new URL("../../examples/coffee.jpg", import.meta.url);

/** openapi-fetch sends JSON unless told otherwise. */
function toForm(fields: unknown): FormData {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields as object))
    form.append(name, value instanceof Blob ? value : String(value));
  return form;
}

function formOf(content: BlobPart): Schemas["AnalyzeForm"] {
  // openapi-typescript calls every file a string.
  return { image: new File([content], "picture.jpg") as unknown as string, user_prompt: "at dusk", language: "ja" };
}

// tests/frontend/test_clients.py starts the service.
describe.skipIf(SERVICE_URL === undefined)("a client generated from the document", () => {
  const client = createClient<paths>({
    baseUrl: SERVICE_URL ?? "",
    headers: { Authorization: `Bearer ${SERVICE_KEY}` },
    bodySerializer: toForm,
  });

  it("uploads a picture", async () => {
    const { data } = await client.POST("/api/images/analyze", { body: formOf(await readFile(PICTURE)) });
    expect(data?.generatedPrompt).toBe("A quiet harbour.");
    expect(data?.analysis.style[0]?.value).toBe("style 0");
  });

  it("streams", async () => {
    const body = formOf(await readFile(PICTURE));
    const { data } = await client.POST("/api/images/analyze-stream", { body, parseAs: "stream" });
    let text = "";
    for await (const line of readEventStream(data ?? new Blob().stream())) {
      const event = JSON.parse(line) as Schemas["StreamEvent"];
      if (event.status === "delta") text += event.text;
      if (event.status === "complete") expect(event.generatedPrompt).toBe(text);
    }
    expect(text).toBe("A quiet harbour.");
  });

  it("reads errors", async () => {
    const body = formOf("no picture");
    const { error, response } = await client.POST("/api/images/analyze", { body });
    expect([response.status, error?.code]).toEqual([400, "unreadable_image"]);
    const unkeyed = await client.POST("/api/images/analyze", { body, headers: { Authorization: null } });
    expect([unkeyed.response.status, unkeyed.error?.code]).toEqual([401, "key_required"]);
  });
});
