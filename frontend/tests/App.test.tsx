import { act, cleanup, render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { App } from "../page/App.tsx";
import { ANALYZED, COMPLETE, MODELS, TARGETS } from "./service.ts";

const KEPT_AS = "image-analyzer-settings";
const HEALTH = {
  status: "ok",
  components: { analyzer: { status: "ready", active: "clip", reason: "", remedy: "" } },
  key_required: false,
};
const KEY_REQUIRED = {
  success: false,
  error: "Send it as the header 'Authorization: Bearer KEY'.",
  code: "key_required",
};
const SPOKEN = TARGETS.targets.map((target) => ({ ...target, languages: ["en", "ar"] }));
const WHOLE = COMPLETE.generatedPrompt;

/** What the service was asked, and how it answers: with all of an answer, or with what a test says. */
let forms: FormData[] = [];
let answer: () => Promise<Response> | Response = whole;

function whole(): Response {
  const events = [ANALYZED, COMPLETE].map((event) => `data: ${JSON.stringify(event)}\n\n`);
  return new Response(events.join(""), { headers: { "Content-Type": "text/event-stream" } });
}

const never = () => new Promise<Response>(() => undefined);

beforeEach(() => {
  [forms, answer] = [[], whole];
  localStorage.clear();
  vi.stubGlobal("XMLHttpRequest", undefined);
  vi.stubGlobal(
    "IntersectionObserver",
    class {
      observe = () => undefined;
      disconnect = () => undefined;
    },
  );
  vi.stubGlobal("fetch", async (address: string, { body, signal }: RequestInit) => {
    if (address.endsWith("/models")) return Response.json(MODELS);
    if (address.endsWith("/targets")) return Response.json({ ...TARGETS, targets: SPOKEN });
    if (!address.endsWith("/analyze-stream")) return Response.json(HEALTH);
    forms.push(body as FormData);
    const given = new Promise<never>((_, reject) => {
      signal?.addEventListener("abort", () => {
        reject(signal.reason as Error);
      });
    });
    return await Promise.race([answer(), given]);
  });
});

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

const settled = (forMs = 30) => act(() => new Promise((resolve) => setTimeout(resolve, forMs)));

async function shown(): Promise<void> {
  render(<App />);
  await settled(400); // Models and targets are asked for after a while of quiet.
}

async function choose(...names: string[]): Promise<void> {
  const files = names.map((name) => new File([new Uint8Array([0xff, 0xd8, 0xff, 1])], name, { type: "image/jpeg" }));
  const [input] = screen.getAllByLabelText(/Choose/);
  await userEvent.upload(input as HTMLInputElement, files, { applyAccept: false });
  await settled(100);
}

async function press(name: string | RegExp): Promise<void> {
  await userEvent.click(screen.getByRole("button", { name }));
  await settled();
}

async function openEntry(place: number): Promise<void> {
  const entry = document.querySelectorAll(".gallery-open").item(place);
  await userEvent.click(entry);
  await settled();
}

const box = () => screen.getByLabelText<HTMLTextAreaElement>("Prompt");
const sent = (form = forms.at(-1)) =>
  Object.fromEntries([...(form?.entries() ?? [])].filter(([name]) => name !== "image"));
const open = () => document.querySelector('[aria-current="true"]')?.getAttribute("title");

describe("the page", () => {
  it.each(["{", "null", "[]", '{"userPrompt":null}', '{"language":"toString"}', '{"length":"huge"}', '{"vision":5}'])(
    "begins as new where the browser kept %s",
    async (kept) => {
      localStorage.setItem(KEPT_AS, kept);
      await shown();
      await choose("a.jpg");
      expect(sent()).toEqual({ language: "en", deep_thinking: "false", analysis_only: "false" });
    },
  );

  it("asks for no model or target that is gone, for one picture or many", async () => {
    localStorage.setItem(
      KEPT_AS,
      JSON.stringify({ model: "yesterday:1b", target: "gone", weights: true, vision: "off" }),
    );
    await shown();
    await choose("a.jpg");
    await choose("b.jpg", "c.jpg");
    const expected = { language: "en", deep_thinking: "false", analysis_only: "false", vision: "off" };
    expect(forms.map((form) => sent(form))).toEqual([expected, expected, expected]);
  });

  it("sends again what failed for a while, a few times", async () => {
    await shown();
    answer = () => Promise.reject(new TypeError("Failed to fetch"));
    await choose("a.jpg");
    for (let poll = 0; poll < 5; poll += 1) {
      document.dispatchEvent(new Event("visibilitychange"));
      await settled(1100);
    }
    expect(forms).toHaveLength(4);
    expect(screen.getByRole("alert").textContent).toBe("The service cannot be reached.");
    answer = whole;
    await press("Try again");
    expect(box().value).toBe(WHOLE);
  }, 10_000);

  it("tells a queue's visitor of a missing key in his words", async () => {
    answer = () => Response.json(KEY_REQUIRED, { status: 401 });
    await shown();
    await choose("a.jpg", "b.jpg");
    expect(document.querySelector(".queue-notices")?.textContent).toMatch(/^The service wants a key/);
  });

  it("opens a picture of the queue with what was asked for then, and remembers none of it", async () => {
    localStorage.setItem(KEPT_AS, JSON.stringify({ language: "ar" }));
    await shown();
    await choose("a.jpg", "b.jpg");
    await userEvent.selectOptions(screen.getByLabelText("Language"), "en");
    await press("Open b.jpg");
    expect([box().value, box().lang, open()]).toEqual([WHOLE, "ar", "b.jpg"]);
    expect(screen.getByLabelText<HTMLSelectElement>("Language").value).toBe("ar");
    expect(localStorage.getItem(KEPT_AS)).toContain('"language":"en"');
    await userEvent.selectOptions(screen.getByLabelText("Language"), "en");
    expect([box().lang, screen.getByText("for what you have changed")]).toEqual(["ar", expect.anything()]);
    expect(forms).toHaveLength(2);
  });

  it("keeps the user's own words when another answer is opened, and offers that one's", async () => {
    await shown();
    await choose("a.jpg");
    await userEvent.clear(box());
    await userEvent.type(box(), "my own words");
    await openEntry(0);
    expect(box().value).toBe("my own words");
    await press("Use it in place of mine");
    expect(box().value).toBe(WHOLE);
  });

  it("leaves nothing of the last picture beside the next, whatever came between", async () => {
    await shown();
    await choose("a.jpg");
    await openEntry(0);
    answer = never;
    await press("Regenerate");
    await userEvent.keyboard("{Escape}");
    expect(box().value).toBe(WHOLE);
    await choose("b.jpg");
    expect(box().value).toBe("");
    await userEvent.keyboard("{Escape}");
    await press("Remove the picture");
    expect(screen.getByText(/^Any picture in/)).toBeTruthy();
  });

  it("offers no prompt of another picture", async () => {
    await shown();
    await choose("a.jpg");
    await userEvent.type(box(), "!");
    answer = () => {
      const other = { ...COMPLETE, generatedPrompt: "another" };
      return new Response(`data: ${JSON.stringify(ANALYZED)}\n\ndata: ${JSON.stringify(other)}\n\n`, {
        headers: { "Content-Type": "text/event-stream" },
      });
    };
    await press("Regenerate");
    expect(document.querySelector(".ia-suggestion")?.textContent).toContain("another");
    await userEvent.clear(box());
    await openEntry(1);
    expect(document.querySelector(".ia-suggestion")).toBeNull();
  });

  it("remembers the seed of a variant, and the focus stays on its button", async () => {
    await shown();
    await choose("a.jpg");
    await press("New variant");
    const { seed } = sent();
    expect(seed).toMatch(/^\d+$/);
    await openEntry(0);
    expect(screen.getByLabelText<HTMLInputElement>("Seed").value).toBe(seed);
    answer = never;
    await press("Regenerate");
    expect(document.activeElement?.textContent).toBe("Stop");
  });

  it("stays where a gateway answers for the service", async () => {
    const real = fetch;
    vi.stubGlobal("fetch", (address: string, request: RequestInit) =>
      address.endsWith("/health") ? Response.json({ detail: "Bad Gateway" }, { status: 502 }) : real(address, request),
    );
    await shown();
    expect(screen.getByRole("button", { name: "Not answering" })).toBeTruthy();
  });
});
