import { act, cleanup, fireEvent, render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { useState } from "react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { IntelligentModeImageOptions, type IntelligentModeImageOptionsProps } from "../src/index.ts";
import { ANALYZED, ANSWER, COMPLETE, PICTURE, standIn } from "./service.ts";

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
    expect(onResult).toHaveBeenCalledExactlyOnceWith(ANSWER, PICTURE);
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

    await userEvent.click(screen.getByRole("button", { name: "Write again" }));
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
    await userEvent.type(screen.getByLabelText(/What you want/), "at dusk");
    await userEvent.click(screen.getByLabelText(/Deep mode/));
    await userEvent.selectOptions(screen.getByLabelText("Language of the prompt"), "fr");
    await choose();
    await told(ANALYZED, COMPLETE);
    await userEvent.click(screen.getByRole("button", { name: "Write again" }));
    expect(service.asked).toHaveLength(2);
    for (const { form } of service.asked) {
      expect([form.get("user_prompt"), form.get("deep_thinking"), form.get("language")]).toEqual([
        "at dusk",
        "true",
        "fr",
      ]);
    }
  });

  it("cancels", async () => {
    show();
    await choose();
    await userEvent.click(screen.getByRole("button", { name: "Cancel" }));
    expect(service.latest().signal.aborted).toBe(true);
    expect(screen.getByRole("status").textContent).toBe("Cancelled.");
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
    expect(screen.queryByLabelText(/What you want/)).toBeNull();
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
