import { act, cleanup, render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import axe from "axe-core";
import { afterEach, describe, expect, it, vi } from "vitest";

import { NOTHING_LEFT_OUT } from "../src/droppedFiles.ts";
import type { AnalyzeResult } from "../src/index.ts";
import { PictureQueue } from "../page/queue.ts";
import { QueueBoard } from "../page/QueueBoard.tsx";
import { ANSWER } from "./service.ts";

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

const FAILURE: AnalyzeResult = { success: false, error: "Save it again as JPEG.", code: "unreadable_image" };

async function setUp(names = ["a.jpg", "b.jpg", "c.jpg"], leftOut = NOTHING_LEFT_OUT) {
  const open = new Map<string, (result: AnalyzeResult) => void>();
  const queue = new PictureQueue((file, _, signal) => {
    return new Promise((resolve) => {
      open.set(file.name, resolve);
      signal.addEventListener("abort", () => {
        resolve({ success: false, error: "The analysis was cancelled.", code: "cancelled" });
      });
    });
  });
  const onOpen = vi.fn();
  const user = userEvent.setup();
  const { container } = render(<QueueBoard queue={queue} onOpen={onOpen} />);
  const answer = async (name: string, result: AnalyzeResult = ANSWER): Promise<void> => {
    await act(async () => {
      open.get(name)?.(result);
      await new Promise((resolve) => setTimeout(resolve));
    });
  };
  const card = (name: string) => within(screen.getByTitle(name).closest("li") ?? document.body);
  const press = async (name: string | RegExp): Promise<void> => {
    await user.click(screen.getByRole("button", { name }));
  };
  await act(async () => {
    queue.add(
      names.map((name) => new File(["x"], name, { type: "image/jpeg" })),
      leftOut,
    );
    await Promise.resolve();
  });
  return { container, queue, answer, card, press, onOpen };
}

const nobody = () => new PictureQueue(() => Promise.resolve(FAILURE));

describe("QueueBoard", () => {
  it("is not there while there are no pictures", () => {
    const { container } = render(<QueueBoard queue={nobody()} onOpen={vi.fn()} />);
    expect(container.childElementCount).toBe(0);
  });

  it("tells how far it is, in words and as a bar", async () => {
    const { answer } = await setUp();
    expect(screen.getByText("0 of 3 done")).toBeTruthy();
    await answer("a.jpg");
    await answer("b.jpg", FAILURE);
    expect(screen.getByText("1 of 3 done · 1 failed")).toBeTruthy();
    const bar = screen.getByRole<HTMLProgressElement>("progressbar", { name: "3 pictures" });
    expect([bar.value, bar.max]).toEqual([2, 3]);
    await answer("c.jpg");
    expect(screen.getByText("2 of 3 done · 1 failed")).toBeTruthy();
    expect(screen.queryByRole("button", { name: "Stop" })).toBeNull();
  });

  it("has a card for each: its state, its prompt, its failure, and what can be done", async () => {
    vi.stubGlobal("isSecureContext", true);
    const { answer, card, press, onOpen, queue } = await setUp(["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]);
    expect(card("a.jpg").getByText("Looking at it …")).toBeTruthy();
    expect(card("e.jpg").getByText("Waiting")).toBeTruthy();
    await answer("a.jpg");
    expect(card("a.jpg").getByText("a calm lake").getAttribute("dir")).toBe("auto");
    await press("Open a.jpg");
    expect(onOpen).toHaveBeenCalledExactlyOnceWith(queue.snapshot().pictures[0]);
    await press("Copy a.jpg");
    expect(card("a.jpg").getByText("Copied")).toBeTruthy();
    expect(await navigator.clipboard.readText()).toBe("a calm lake");
    await answer("b.jpg", FAILURE);
    expect(card("b.jpg").getByText("Save it again as JPEG.")).toBeTruthy();
    await press("Retry b.jpg");
    await answer("b.jpg");
    expect(card("b.jpg").getByText("Done")).toBeTruthy();
  });

  it("retries all that failed at once", async () => {
    const { answer, press } = await setUp();
    for (const name of ["a.jpg", "b.jpg", "c.jpg"]) await answer(name, FAILURE);
    await press("Retry all 3");
    expect(screen.getAllByText("Looking at it …")).toHaveLength(3);
  });

  it("stops, keeps what is done, and goes on", async () => {
    const { answer, card, press } = await setUp();
    await answer("a.jpg");
    await press("Stop");
    expect(screen.getByText("Stopped · 1 of 3 done")).toBeTruthy();
    expect(card("a.jpg").getByText("Done")).toBeTruthy();
    expect(card("b.jpg").getByText("Waiting")).toBeTruthy();
    await press("Go on");
    expect(card("b.jpg").getByText("Looking at it …")).toBeTruthy();
  });

  it("tells what was left out, also where nothing was taken", async () => {
    await setUp([], { noPictures: 3, unreadable: 1, overLimit: 0, unseen: false });
    expect(screen.getByText("3 files are no pictures. 1 file could not be read.")).toBeTruthy();
    expect(screen.queryByRole("progressbar")).toBeNull();
  });

  it("tells that the service asks to wait, and for how long", async () => {
    const { answer } = await setUp();
    await answer("a.jpg", { success: false, error: "As many wait as may.", code: "queue_full", retryAfterS: 12 });
    expect(screen.getByText(/The service asks to wait/).textContent).toContain("The service asks to wait 12\u00a0s;");
  });

  it("tells why where it is not for others that it waits", async () => {
    const { answer } = await setUp();
    await answer("a.jpg", { success: false, error: "Nothing answers at home.", code: "unreachable" });
    expect(screen.getByText(/Trying again/).textContent).toBe("Nothing answers at home. Trying again in 5\u00a0s.");
  });

  it("closes at once while nothing would be lost, and asks where prompts would be", async () => {
    const { answer, press, queue } = await setUp();
    await answer("a.jpg");
    await press("Close");
    await press("Keep");
    expect(queue.snapshot().pictures).toHaveLength(3);
    await press("Close");
    await press("Lose 1 prompt");
    expect(queue.snapshot().pictures).toHaveLength(0);
  });

  it("saves all prompts as a file, after which it closes at once", async () => {
    const links: string[] = [];
    vi.spyOn(HTMLAnchorElement.prototype, "click").mockImplementation(function (this: HTMLAnchorElement) {
      links.push(this.download);
    });
    const { answer, press, queue } = await setUp(["a.jpg"]);
    for (const name of ["Text files", "CSV", "JSON"]) {
      expect(screen.getByRole<HTMLButtonElement>("button", { name }).disabled).toBe(true);
    }
    await answer("a.jpg");
    await press("JSON");
    await vi.waitFor(() => {
      expect(links).toEqual([expect.stringMatching(/^prompts-.*\.json$/)]);
    });
    await press("Close");
    expect(queue.snapshot().pictures).toHaveLength(0);
  });

  it("has nothing that axe finds", async () => {
    const { container, answer } = await setUp(["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]);
    await answer("a.jpg");
    await answer("b.jpg", FAILURE);
    const { violations } = await axe.run(container, { rules: { region: { enabled: false } } });
    expect(violations.map(({ id }) => id)).toEqual([]);
  });
});
