import { cleanup, render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { type ReactElement, useEffect } from "react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { Gallery } from "../page/Gallery.tsx";
import type { Remembered } from "../page/history.ts";
import type { Settings } from "../page/settings.ts";
import { type History, useHistory } from "../page/useHistory.ts";
import { ANSWER, SETTINGS } from "./service.ts";

const opened = vi.fn<(entry: Remembered) => void>();
const page: { history?: History } = {};

/** The real thing, in a browser without a database. */
function Page({ openId = null }: { openId?: string | null }): ReactElement {
  const history = useHistory();
  useEffect(() => {
    page.history = history;
  });
  return <Gallery history={history} openId={openId} onOpen={opened} />;
}

async function remember(name: string, generatedPrompt: string, settings?: Partial<Settings>): Promise<string> {
  const file = new File(["picture"], name, { type: "image/jpeg" });
  const id = await page.history?.remember({ ...ANSWER, generatedPrompt }, file, { ...SETTINGS, ...settings });
  return id ?? "";
}

const cards = (): HTMLElement[] => screen.getAllByRole("listitem");
const told = (): string[] => cards().map((card) => within(card).getAllByRole("button")[0]?.textContent ?? "");
const press = async (name: string | RegExp): Promise<void> => {
  await userEvent.click(await screen.findByRole("button", { name }));
};

beforeEach(() => opened.mockClear());
afterEach(cleanup);

async function shown(): Promise<void> {
  render(<Page />, { reactStrictMode: true });
  await remember("lake.jpg", "a calm lake");
  await remember("cat.jpg", "a wild cat at night", { language: "de", seed: 7, without: ["boat", "sky"] });
  await screen.findByRole("heading", { name: "History 2" });
}

describe("Gallery", () => {
  it("is not there while there is nothing in it", () => {
    expect(render(<Page />).container.textContent).toBe("");
  });

  it("shows the newest first, marks the open one, and opens one with all that belongs to it", async () => {
    const { rerender } = render(<Page />);
    const id = await remember("lake.jpg", "a calm lake");
    await remember("cat.jpg", "a wild cat", { language: "de", seed: 7 });
    rerender(<Page openId={id} />);
    await screen.findByRole("heading", { name: "History 2" });
    expect(told()[0]).toContain("a wild cat");
    expect(screen.getByText("a wild cat")).toHaveProperty("lang", "de");
    expect(screen.getByText("a wild cat")).toHaveProperty("dir", "auto");
    const [, open] = screen.getAllByTitle(/\.jpg$/);
    expect(open?.getAttribute("aria-current")).toBe("true");
    await press(/a wild cat/);
    const [[entry] = []] = opened.mock.calls;
    expect(entry).toMatchObject({ filename: "cat.jpg", settings: { language: "de", seed: 7 } });
    expect(await entry?.picture.text()).toBe("picture");
  });

  it("says that a browser without a database keeps nothing", async () => {
    await shown();
    expect(await screen.findByText(/gone when you close the page/)).toBeTruthy();
  });

  it("takes one away and all, gives them back, and leaves the focus in the gallery", async () => {
    await shown();
    await press("Remove cat.jpg");
    expect(screen.getByRole("status").textContent).toBe("Removed. Undo");
    expect(document.activeElement).toBe(screen.getByRole("heading", { name: "History 1" }));
    await press("Clear history");
    expect(screen.queryAllByRole("listitem")).toEqual([]);
    expect(screen.getByRole("status").textContent).toBe("Removed 2. Undo");
    await press("Undo");
    expect(told()).toHaveLength(2);
    expect(screen.getByRole("status").textContent).toBe("");
  });

  it("shows a dozen, and all when asked", async () => {
    render(<Page />, { reactStrictMode: true });
    for (let index = 0; index < 13; index++) await remember(`${String(index)}.jpg`, "a lake");
    await screen.findByRole("heading", { name: "History 13" });
    expect(cards()).toHaveLength(12);
    await press("Show all 13");
    expect(cards()).toHaveLength(13);
  });
});

describe("Compare", () => {
  it("shows two side by side, the older first, and tells what is different", async () => {
    await shown();
    await press("Compare");
    expect(screen.getByRole("status").textContent).toBe("Choose two to compare.");
    await press(/a wild cat/);
    await press(/a calm lake/);
    expect(opened).not.toHaveBeenCalled();
    const dialog = screen.getByRole("dialog", { name: "Two prompts compared" });
    expect([...dialog.querySelectorAll(".compare-prompt")].map(({ innerHTML }) => innerHTML)).toEqual([
      "a <mark>calm lake</mark>",
      "a <mark>wild cat at night</mark>",
    ]);
    const rows = within(dialog).getAllByRole("row").slice(1);
    expect(rows.map((row) => [...row.children].map(({ textContent }) => textContent))).toEqual([
      ["Language", "English", "Deutsch"],
      ["Seed", "random", "7"],
      ["Left out", "nothing", "boat, sky"],
    ]);
    expect(within(dialog).getAllByRole("button", { name: "Copy the prompt" })).toHaveLength(2);
    await press("Close");
    expect(screen.queryByRole("dialog")).toBeNull();
    await press(/a calm lake/);
    expect(opened).toHaveBeenCalledOnce();
  });

  it("says so when nothing was set differently, and lets a choice be taken back", async () => {
    render(<Page />, { reactStrictMode: true });
    for (const prompt of ["one lake", "two lakes", "three lakes"]) await remember("lake.jpg", prompt);
    await press("Compare");
    await press(/one lake/);
    await press(/one lake/);
    await press(/two lakes/);
    expect(screen.queryByRole("dialog")).toBeNull();
    await press(/three lakes/);
    expect(screen.getByText("Both were written with the same settings.")).toBeTruthy();
  });
});
