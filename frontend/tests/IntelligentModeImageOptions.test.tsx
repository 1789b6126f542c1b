import { act, cleanup, fireEvent, render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { StrictMode, useState } from "react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { IntelligentModeImageOptions, MAX_SEED, type IntelligentModeImageOptionsProps } from "../src/index.ts";
import { FakeXhr } from "./fakeXhr.ts";
import { ANALYZED, ANSWER, COMPLETE, MODELS, PICTURE, standIn, TARGETS } from "./service.ts";

let service = standIn();
beforeEach(() => {
  service = standIn();
});
afterEach(cleanup);

function show(props: IntelligentModeImageOptionsProps = {}) {
  return render(<IntelligentModeImageOptions config={{ fetch: service.fetch, shrink: false }} {...props} />);
}

const promptBox = () => screen.getByLabelText<HTMLTextAreaElement>("Prompt");
const fileInput = () => screen.getByLabelText<HTMLInputElement>(/Choose/);
const choose = (file: File = PICTURE) => userEvent.upload(fileInput(), file, { applyAccept: false });

const told = async (...events: Parameters<ReturnType<typeof standIn>["asked"][0]["events"]>): Promise<void> => {
  await act(async () => {
    service.latest().events(...events);
    await new Promise((resolve) => setTimeout(resolve));
  });
};
const GENERATING = { status: "generating", message: "" } as const;

describe("IntelligentModeImageOptions", () => {
  it("analyses a picture as soon as it is chosen, and fills the prompt box", async () => {
    const onResult = vi.fn();
    show({ onResult });
    await choose();
    expect(screen.getByRole("status").textContent).toBe("Reading the picture …");
    expect(screen.getByAltText("The chosen picture")).toBeTruthy();
    await told(ANALYZED, GENERATING, { status: "delta", text: "a calm" });
    expect(promptBox().value).toBe("a calm");
    expect(screen.getByRole("status").textContent).toBe("Writing the prompt …");
    await told(COMPLETE);
    expect(promptBox().value).toBe("a calm lake");
    expect(screen.getByRole("status").textContent).toBe("Done.");
    expect(onResult).toHaveBeenCalledExactlyOnceWith(ANSWER, PICTURE, expect.anything());
  });

  it("tells nothing of what StrictMode gives up, and analyses a picture that is there from the start", async () => {
    const onResult = vi.fn();
    const config = { fetch: service.fetch, shrink: false };
    const shown = render(
      <StrictMode>
        <IntelligentModeImageOptions config={config} file={PICTURE} onResult={onResult} />
      </StrictMode>,
    );
    await act(() => Promise.resolve());
    expect(service.asked).toHaveLength(1);
    await told(ANALYZED, COMPLETE);
    expect(onResult).toHaveBeenCalledExactlyOnceWith(ANSWER, PICTURE, expect.anything());
    expect(promptBox().value).toBe("a calm lake");
    await userEvent.click(screen.getByRole("button", { name: "Regenerate" }));
    shown.unmount();
    await act(() => Promise.resolve());
    expect(onResult).toHaveBeenCalledOnce();
  });

  it("tells a failure to everybody who listens", async () => {
    const onResult = vi.fn();
    show({ onResult });
    await choose();
    await act(async () => {
      service.latest().json({ success: false, error: "Not a picture.", code: "unreadable_image" }, 400);
      await new Promise((resolve) => setTimeout(resolve));
    });
    expect(screen.getByRole("alert").textContent).toBe("Not a picture.");
    expect(onResult.mock.calls[0]?.[0]).toMatchObject({ success: false, code: "unreadable_image" });
  });

  it("never writes over what the user typed, before or meanwhile", async () => {
    show();
    await userEvent.type(promptBox(), "mine");
    await choose();
    await told(ANALYZED, GENERATING, { status: "delta", text: "a calm" });
    expect(promptBox().value).toBe("mine");
    await told(COMPLETE);
    expect(promptBox().value).toBe("mine");
    await userEvent.click(screen.getByRole("button", { name: "Use it in place of mine" }));
    expect(promptBox().value).toBe("a calm lake");

    await userEvent.click(screen.getByRole("button", { name: "Regenerate" }));
    await told(ANALYZED, GENERATING, { status: "delta", text: "a" });
    expect(promptBox().value).toBe("a");
    await userEvent.type(promptBox(), "!");
    await told({ status: "delta", text: " calm" }, COMPLETE);
    expect(promptBox().value).toBe("a!");
    expect(screen.getByText("a calm lake")).toBeTruthy();
  });

  it("leaves a box alone that the user emptied while it was written", async () => {
    show();
    await choose();
    await told(ANALYZED, GENERATING, { status: "delta", text: "a" });
    await userEvent.clear(promptBox());
    await told({ status: "delta", text: " calm" });
    expect(promptBox().value).toBe("");
  });

  it("puts the next picture's prompt in place of the last one's", async () => {
    show();
    await choose();
    await told(ANALYZED, GENERATING, COMPLETE);
    await choose(new File(["other"], "other.jpg"));
    await told(ANALYZED, GENERATING, { ...COMPLETE, generatedPrompt: "another" });
    expect(promptBox().value).toBe("another");
    expect(screen.queryByRole("button", { name: "Use it in place of mine" })).toBeNull();
  });

  it("sends the wishes, and again when asked to", async () => {
    show();
    await userEvent.type(screen.getByLabelText(/Your idea/), "at dusk");
    await userEvent.click(screen.getByLabelText(/Deep mode/));
    await userEvent.selectOptions(screen.getByLabelText("Language"), "fr");
    await choose();
    await told(ANALYZED, COMPLETE);
    await userEvent.click(screen.getByRole("button", { name: "Regenerate" }));
    expect(service.asked).toHaveLength(2);
    for (const { form } of service.asked) {
      expect([form.get("user_prompt"), form.get("deep_thinking"), form.get("language")]).toEqual([
        "at dusk",
        "true",
        "fr",
      ]);
    }
  });

  it("writes for the target that is chosen, and shows its negative prompt and how much of its budget is used", async () => {
    show({ targets: TARGETS });
    expect(screen.queryByLabelText(/Weigh/)).toBeNull();
    await userEvent.selectOptions(screen.getByLabelText("Prompt for"), "SDXL");
    expect(screen.getByLabelText("Prompt for").getAttribute("aria-describedby")).toBe(
      screen.getByText("Phrases.").getAttribute("id"),
    );
    await userEvent.click(screen.getByLabelText(/Weigh/));
    await userEvent.selectOptions(screen.getByLabelText("Length"), "short");
    await choose();
    const { form } = service.latest();
    expect([form.get("target"), form.get("length"), form.get("weights")]).toEqual(["sdxl", "short", "true"]);
    const budget = { promptTokens: 3, tokenLimit: 40, tokenUnit: "clip_tokens" } as const;
    await told(ANALYZED, GENERATING, { ...COMPLETE, ...budget, target: "sdxl", negativePrompt: "blurry" });
    expect(screen.getByLabelText<HTMLTextAreaElement>("Negative prompt").value).toBe("blurry");
    expect(screen.getByRole("button", { name: "Copy Negative prompt" })).toBeTruthy();
    expect(screen.getByText("3 of 40 tokens")).toBeTruthy();
    await userEvent.type(promptBox(), "!");
    expect(screen.queryByText("3 of 40 tokens")).toBeNull();
    await userEvent.selectOptions(screen.getByLabelText("Prompt for"), "Prose");
    await userEvent.click(screen.getByRole("button", { name: "Regenerate" }));
    await told(ANALYZED, GENERATING, COMPLETE);
    expect(screen.queryByLabelText("Negative prompt")).toBeNull();
    expect(service.latest().form.has("weights")).toBe(false);
  });

  it("asks for no target that there is not, and for the service's own where none is chosen", async () => {
    show({ targets: TARGETS, target: "gone" });
    expect(screen.getByLabelText<HTMLSelectElement>("Prompt for").value).toBe("prose");
    await choose();
    expect(service.latest().form.has("target")).toBe(false);
  });

  it("says how much of the picture is sent, and from the third second on for how long it has been at work", async () => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "performance"] });
    vi.stubGlobal("XMLHttpRequest", FakeXhr);
    const large = new File([new Uint8Array(300_000)], "large.jpg", { type: "image/jpeg" });
    const line = () => document.querySelector(".ia-stage-line")?.textContent;
    render(<IntelligentModeImageOptions file={large} config={{ shrink: false }} />);
    await vi.waitFor(() => {
      expect(FakeXhr.latest.send).toHaveBeenCalledOnce();
    });
    act(() => {
      vi.advanceTimersByTime(1000);
    });
    act(() => FakeXhr.latest.upload.onprogress?.({ loaded: 42, total: 100 }));
    expect(line()).toBe("Sending the picture …42 %");
    act(() => FakeXhr.latest.upload.onprogress?.({ loaded: 100, total: 100 }));
    act(() => {
      vi.advanceTimersByTime(3000);
    });
    expect(line()).toMatch(/^Reading the picture …[3-4] s$/);
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  it("says how many are before, and that the model thinks", async () => {
    show();
    await choose();
    const said: (string | null)[] = [];
    for (const event of [
      { ...GENERATING, before: 2 },
      { ...GENERATING, before: 0 },
      GENERATING,
      { status: "thinking", message: "" },
      { status: "delta", text: "a calm" },
    ] as const) {
      await told(event);
      said.push(screen.getByRole("status").textContent);
    }
    expect(said).toEqual([
      "Waiting in line: 2 before you …",
      "You are next in line …",
      "Writing the prompt …",
      "The model is thinking …",
      "Writing the prompt …",
    ]);
  });

  it("marks a prompt that was cut, until the user changes it", async () => {
    const cut = { ...COMPLETE, truncated: true };
    show();
    await choose();
    await told(ANALYZED, GENERATING, cut);
    const note = screen.getByText("Cut off after what is whole.");
    expect(promptBox().getAttribute("aria-describedby")).toBe(note.id);
    await userEvent.type(promptBox(), "!");
    expect(screen.queryByText(note.textContent)).toBeNull();
    await userEvent.click(screen.getByRole("button", { name: "Regenerate" }));
    await told(ANALYZED, GENERATING, cut);
    expect(screen.getByText(note.textContent).previousElementSibling?.textContent).toBe(cut.generatedPrompt);
    await userEvent.click(screen.getByRole("button", { name: "Regenerate" }));
    await told(ANALYZED, GENERATING, COMPLETE);
    expect(screen.queryByText(note.textContent)).toBeNull();
  });

  it("offers the models that may be asked for, with what is known of each", async () => {
    show({ models: MODELS });
    const choice = screen.getByLabelText<HTMLSelectElement>("Model");
    const offered = Array.from(choice.options, ({ textContent, disabled }) => [textContent, disabled]);
    expect(offered).toEqual([
      ["Mistral (default, loaded)", false],
      ["qwen3:4b (thinks first)", false],
      ["gemma3 (sees pictures, loaded)", false],
      ["nomic (cannot write)", true],
      ["old", false],
      ["gone (not installed)", true],
    ]);
    expect(choice.value).toBe("Mistral");
    await choose();
    expect(service.latest().form.has("model")).toBe(false);
    await userEvent.selectOptions(choice, "qwen3:4b");
    await choose(new File(["other"], "other.jpg"));
    expect(service.latest().form.get("model")).toBe("qwen3:4b");
    expect(screen.getByText("More options").textContent).toContain("qwen3:4b");
  });

  it("takes no model for missing while a server does not tell", () => {
    const hosts = [{ host: "http://b", version: null, reason: "It does not answer.", remedy: "" }];
    show({ models: { ...MODELS, models: [], hosts } });
    expect(Array.from(screen.getByLabelText<HTMLSelectElement>("Model").options, (one) => one.disabled)).not.toContain(
      true,
    );
  });

  it.each([null, { ...MODELS, allowed: ["Mistral"] }])("asks for no model where there is no choice", (models) => {
    const { unmount } = show({ models });
    expect(screen.queryByLabelText("Model")).toBeNull();
    unmount();
    show({ models, hide: ["seed", "vision"] });
    expect(screen.queryByText(/More options/)).toBeNull();
  });

  it("sends the seed that is set, and none otherwise", async () => {
    show();
    const sent = async (): Promise<unknown> => {
      await choose(new File(["another"], "another.jpg"));
      return service.latest().form.get("seed");
    };
    const seed = screen.getByLabelText<HTMLInputElement>("Seed");
    expect(await sent()).toBeNull();
    await userEvent.type(seed, "-4.2e");
    expect(await sent()).toBe("42");
    expect(screen.getByText("More options").textContent).toContain("Seed 42");
    await userEvent.type(seed, "0000000000");
    expect(await sent()).toBe(String(MAX_SEED));
    await userEvent.click(screen.getByRole("button", { name: "New seed" }));
    expect(await sent()).toBe(seed.value);
    expect(seed.value).toMatch(/^\d{1,6}$/);
    await userEvent.clear(seed);
    await userEvent.type(seed, "0");
    expect(await sent()).toBe("0");
    await userEvent.clear(seed);
    expect(await sent()).toBeNull();
  });

  it("asks whether to look, says what auto does, and what is set", async () => {
    show({ autoVision: "auto looks: gemma3 sees pictures." });
    const choice = screen.getByLabelText("A model looks");
    expect(choice.getAttribute("aria-describedby")).toBe(screen.getByText(/^auto looks/).id);
    await choose();
    expect(service.latest().form.get("vision")).toBeNull();
    await told(ANALYZED, { ...GENERATING, vision: true });
    expect(screen.getByRole("status").textContent).toBe("Looking at the picture and writing …");
    await told(COMPLETE);
    await userEvent.selectOptions(choice, "off");
    await userEvent.click(screen.getByRole("button", { name: "Regenerate" }));
    expect(service.latest().form.get("vision")).toBe("off");
  });

  it("cancels", async () => {
    show();
    await choose();
    await userEvent.click(screen.getByRole("button", { name: "Stop" }));
    expect(service.latest().signal.aborted).toBe(true);
    expect(screen.getByRole("status").textContent).toBe("Stopped.");
  });

  it("gives the prompt before back when the next one is stopped", async () => {
    show();
    await choose();
    await told(ANALYZED, GENERATING, COMPLETE);
    await userEvent.click(screen.getByRole("button", { name: "Regenerate" }));
    await told(ANALYZED, GENERATING, { status: "delta", text: "a stump" });
    await userEvent.keyboard("{Escape}");
    expect(promptBox().value).toBe("a stump");
    await userEvent.click(screen.getByRole("button", { name: "Back to the prompt before" }));
    expect(promptBox().value).toBe("a calm lake");
    expect(screen.queryByRole("button", { name: "Back to the prompt before" })).toBeNull();
  });

  it.each(["drop", "paste"] as const)("takes a picture by %s", async (kind) => {
    show();
    const transfer = { files: [PICTURE], types: ["Files"] };
    const target = promptBox();
    await act(async () => {
      if (kind === "drop") fireEvent.drop(target, { dataTransfer: transfer });
      else fireEvent.paste(target, { clipboardData: transfer });
      await Promise.resolve();
    });
    expect(service.asked).toHaveLength(1);
  });

  it("lets text be pasted as ever", () => {
    show();
    const isUntouched = fireEvent.paste(promptBox(), { clipboardData: { files: [], types: ["text/plain"] } });
    expect(isUntouched).toBe(true);
    expect(service.asked).toHaveLength(0);
  });

  it("is controlled by its host where the host wants it", async () => {
    const typed = vi.fn();
    function Host() {
      const [prompt, setPrompt] = useState("from the host");
      const [file, setFile] = useState<File | null>(null);
      return (
        <>
          <button
            onClick={() => {
              setFile(PICTURE);
            }}
          >
            give
          </button>
          <button
            onClick={() => {
              setFile(null);
            }}
          >
            take
          </button>
          <IntelligentModeImageOptions
            config={{ fetch: service.fetch, shrink: false }}
            file={file}
            prompt={prompt}
            onPromptChange={(text) => {
              typed(text);
              setPrompt(text);
            }}
            deepThinking
            hide={["userPrompt", "language"]}
            texts={{ prompt: "Eingabe" }}
          />
        </>
      );
    }
    render(<Host />);
    expect(screen.queryByLabelText(/Your idea/)).toBeNull();
    const box = screen.getByLabelText<HTMLTextAreaElement>("Eingabe");
    await userEvent.click(screen.getByText("give"));
    expect(service.latest().form.get("deep_thinking")).toBe("true");
    await told(ANALYZED, GENERATING, COMPLETE);
    expect(box.value).toBe("from the host");
    await userEvent.click(screen.getByText("Use it in place of mine"));
    expect(typed).toHaveBeenLastCalledWith("a calm lake");
    expect(box.value).toBe("a calm lake");
    await userEvent.click(screen.getByText("take"));
    expect(screen.getByRole("status").textContent).toBe("");
  });

  it("does nothing while disabled", async () => {
    show({ disabled: true });
    expect(fileInput().disabled).toBe(true);
    await act(async () => {
      fireEvent.drop(promptBox(), { dataTransfer: { files: [PICTURE], types: ["Files"] } });
      await Promise.resolve();
    });
    expect(service.asked).toHaveLength(0);
  });
});
