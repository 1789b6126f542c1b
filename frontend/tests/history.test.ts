import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import {
  fileOf,
  type HistoryStore,
  type Kept,
  MOST_ENTRIES,
  PictureHistory,
  type Remembered,
  UNDO_MS,
  withinBounds,
} from "../page/history.ts";
import { ANSWER, PICTURE, SETTINGS } from "./service.ts";

const NOON = new Date("2026-11-29T12:00:00Z").getTime();

function entryOf(id: string, at: number, bytes = 1): Remembered {
  const picture = new Blob([new Uint8Array(bytes)]);
  return { id, at, filename: `${id}.jpg`, picture, thumbnail: null, answer: ANSWER, settings: SETTINGS };
}

/** What two tabs share. `isBlocked` makes all fail, as a private window does; `isFull` what writes. */
class Shared {
  readonly entries = new Map<string, Remembered>();
  readonly #tabs = new Set<() => void>();
  isBlocked = false;
  isFull = false;

  tab(): HistoryStore {
    let own: () => void = () => undefined;
    return {
      all: () => this.#attempt(this.isBlocked, () => [...this.entries.values()].map((entry) => ({ ...entry }))),
      change: (put, drop) =>
        this.#attempt(this.isBlocked || (this.isFull && put.length > 0), () => {
          for (const id of drop) this.entries.delete(id);
          for (const entry of put) this.entries.set(entry.id, entry);
          for (const tell of this.#tabs) if (tell !== own) tell();
        }),
      watch: (onChange) => {
        own = onChange;
        this.#tabs.add(onChange);
        return () => this.#tabs.delete(onChange);
      },
    };
  }

  async #attempt<Result>(fails: boolean, act: () => Result): Promise<Result> {
    await Promise.resolve();
    if (fails) throw new DOMException("no", "QuotaExceededError");
    return act();
  }
}

const keepAll = (picture: File): Promise<Kept> => Promise.resolve({ picture, thumbnail: null });

function opened(shared: Shared, prepare = keepAll): PictureHistory {
  const history = new PictureHistory(shared.tab(), prepare);
  history.subscribe(() => undefined);
  return history;
}

async function remember(history: PictureHistory, ...names: string[]): Promise<void> {
  for (const name of names) await history.remember(ANSWER, new File(["picture"], name), SETTINGS);
}

const namesOf = (history: PictureHistory): string[] => history.snapshot().entries.map(({ filename }) => filename);
const settled = (): Promise<unknown> => vi.advanceTimersByTimeAsync(0);

beforeEach(() => vi.useFakeTimers({ now: NOON }));
afterEach(() => vi.useRealTimers());

describe("withinBounds", () => {
  const five = [entryOf("e", 5, 10), entryOf("d", 4, 10), entryOf("c", 3, 10), entryOf("b", 2, 1), entryOf("a", 1, 1)];

  it.each([
    ["all where there is room", 10, 1000, "edcba"],
    ["no more than so many", 2, 1000, "ed"],
    ["no more than so many bytes", 10, 20, "ed"],
    ["nothing older than what has no room, however small", 10, 29, "ed"],
    ["the newest, however large", 10, 1, "e"],
  ])("keeps %s", (_, mostEntries, mostBytes, kept) => {
    expect(
      withinBounds(five, mostEntries, mostBytes)
        .map(({ id }) => id)
        .join(""),
    ).toBe(kept);
  });
});

describe("PictureHistory", () => {
  it("has everything again after a reload, newest first", async () => {
    const shared = new Shared();
    await remember(opened(shared), "lake.jpg", "cat.jpg");
    await settled();
    const again = opened(shared);
    await settled();
    expect(namesOf(again)).toEqual(["cat.jpg", "lake.jpg"]);
    expect(again.snapshot()).toMatchObject({ isKept: true, entries: [{ answer: ANSWER, settings: SETTINGS }, {}] });
  });

  it("has them in the order of the pictures, whichever is ready first, and in the same millisecond", async () => {
    const ready: (() => void)[] = [];
    const history = opened(
      new Shared(),
      (picture) =>
        new Promise((resolve) =>
          ready.push(() => {
            resolve({ picture, thumbnail: null });
          }),
        ),
    );
    const both = Promise.all([remember(history, "large.jpg"), remember(history, "small.jpg")]);
    for (const finish of ready.reverse()) finish();
    await both;
    expect(namesOf(history)).toEqual(["small.jpg", "large.jpg"]);
  });

  it("lets the oldest go when there are too many, for good", async () => {
    const shared = new Shared();
    const history = opened(shared);
    await remember(history, ...Array.from({ length: MOST_ENTRIES + 1 }, (_, index) => `${String(index)}.jpg`));
    await settled();
    expect(history.snapshot().entries).toHaveLength(MOST_ENTRIES);
    expect(namesOf(history).at(-1)).toBe("1.jpg");
    expect(shared.entries.size).toBe(MOST_ENTRIES);
  });

  it("brings back what was removed and cleared, until 10 s are over", async () => {
    const shared = new Shared();
    const history = opened(shared);
    await remember(history, "a.jpg", "b.jpg", "c.jpg");
    history.remove(history.snapshot().entries[1]?.id ?? "");
    expect(namesOf(history)).toEqual(["c.jpg", "a.jpg"]);
    await vi.advanceTimersByTimeAsync(UNDO_MS - 1);
    history.clear();
    await vi.advanceTimersByTimeAsync(UNDO_MS - 1);
    expect(namesOf(history)).toEqual([]);
    expect(shared.entries.size).toBe(0);
    history.undo();
    await settled();
    expect(namesOf(history)).toEqual(["c.jpg", "b.jpg", "a.jpg"]);
    expect(shared.entries.size).toBe(3);
    history.clear();
    await vi.advanceTimersByTimeAsync(UNDO_MS);
    expect(history.snapshot().removed).toEqual([]);
    history.undo();
    expect(namesOf(history)).toEqual([]);
  });

  it("is the same in every tab, and keeps the entries that a tab shows already", async () => {
    const shared = new Shared();
    const [here, there] = [opened(shared), opened(shared)];
    await remember(here, "a.jpg");
    await settled();
    const [shown] = there.snapshot().entries;
    await remember(here, "b.jpg");
    await settled();
    expect(namesOf(there)).toEqual(["b.jpg", "a.jpg"]);
    expect(there.snapshot().entries[1]).toBe(shown);
    there.clear();
    await settled();
    expect(namesOf(here)).toEqual([]);
    there.undo();
    await settled();
    expect(namesOf(here)).toEqual(["b.jpg", "a.jpg"]);
  });

  it("shows no older state when another tab speaks while something is being written", async () => {
    const shared = new Shared();
    const [here, there] = [opened(shared), opened(shared)];
    await settled();
    await Promise.all([remember(here, "a.jpg"), remember(there, "b.jpg")]);
    const seen: string[][] = [];
    here.subscribe(() => seen.push(namesOf(here)));
    await settled();
    expect(seen.every((names) => names.includes("a.jpg"))).toBe(true);
    expect(namesOf(here).sort()).toEqual(["a.jpg", "b.jpg"]);
    expect(namesOf(there)).toEqual(namesOf(here));
  });

  it.each(["isBlocked", "isFull"] as const)(
    "works for as long as the page is open where the store %s",
    async (fault) => {
      const shared = new Shared();
      shared[fault] = true;
      const history = opened(shared);
      await remember(history, "a.jpg", "b.jpg");
      await settled();
      expect(history.snapshot().isKept).toBe(false);
      history.clear();
      history.undo();
      await settled();
      expect(namesOf(history)).toEqual(["b.jpg", "a.jpg"]);
      expect(shared.entries.size).toBe(0);
    },
  );

  it("keeps what a full store did not take when another tab changes it, and clears what it holds", async () => {
    const shared = new Shared();
    const [here, there] = [opened(shared), opened(shared)];
    await remember(there, "kept.jpg");
    await settled();
    shared.isFull = true;
    await remember(here, "unkept.jpg");
    await settled();
    shared.isFull = false;
    await remember(there, "later.jpg");
    await settled();
    expect(namesOf(here).sort()).toEqual(["kept.jpg", "later.jpg", "unkept.jpg"]);
    expect(here.snapshot().isKept).toBe(false);
    shared.isFull = true;
    here.clear();
    await settled();
    expect(shared.entries.size).toBe(0);
    expect(here.snapshot()).toMatchObject({ entries: [], isKept: true });
  });

  it("has what was kept as soon as the store can be read", async () => {
    const shared = new Shared();
    await remember(opened(shared), "a.jpg");
    await vi.advanceTimersByTimeAsync(1);
    shared.isBlocked = true;
    const history = opened(shared);
    await settled();
    expect(history.snapshot()).toMatchObject({ entries: [], isKept: false });
    shared.isBlocked = false;
    await remember(history, "b.jpg");
    await settled();
    expect(namesOf(history)).toEqual(["b.jpg", "a.jpg"]);
    expect(history.snapshot().isKept).toBe(true);
  });

  it("follows the store only while somebody looks", async () => {
    const shared = new Shared();
    const [here, there] = [new PictureHistory(shared.tab(), keepAll), opened(shared)];
    here.subscribe(() => undefined)();
    await settled();
    await remember(there, "a.jpg");
    await settled();
    expect(namesOf(here)).toEqual([]);
    here.subscribe(() => undefined);
    await settled();
    expect(namesOf(here)).toEqual(["a.jpg"]);
  });
});

it("a remembered picture can be chosen again", async () => {
  const entry = { ...entryOf("lake", NOON), picture: PICTURE as Blob };
  const file = fileOf(entry);
  expect([file.name, file.type, await file.text()]).toEqual(["lake.jpg", "image/jpeg", "picture"]);
});
