import type { AnalyzeAnswer } from "../src/index.ts";
import type { Settings } from "./settings.ts";

/** One answer, and all that is needed to have it on the page again. */
export interface Remembered {
  id: string;
  /** Milliseconds since 1970 when the answer came; each is later than the one before. */
  at: number;
  filename: string;
  picture: Blob;
  /** Null if the browser cannot show the picture. */
  thumbnail: Blob | null;
  answer: AnalyzeAnswer;
  settings: Settings;
}

/** What a picture is kept as. */
export type Kept = Pick<Remembered, "picture" | "thumbnail">;

/** Where entries outlast the page: the browser's database, or a stand-in for it. Any of it may fail. */
export interface HistoryStore {
  /** Gives all, in any order. */
  all(): Promise<readonly Remembered[]>;
  /** Does both or nothing, and tells the other tabs. */
  change(put: readonly Remembered[], drop: readonly string[]): Promise<void>;
  /** Calls back when another tab changed something; gives what ends that. */
  watch(onChange: () => void): () => void;
}

/** What there is to show. */
export interface HistorySnapshot {
  /** Newest first. */
  entries: readonly Remembered[];
  /** What an undo brings back. */
  removed: readonly Remembered[];
  /** Whether all of it is there after a reload. */
  isKept: boolean;
}

/** More than that nobody looks through; each is drawn and read at the start. */
export const MOST_ENTRIES = 100;
/** Of all pictures together. A browser gives a page some hundred MB at the least, and a phone has no more to spare. */
export const MOST_BYTES = 100_000_000;
/** Time for second thoughts about what was removed. */
export const UNDO_MS = 10_000;

/** Gives the newest of what is there (newest first) that may be kept; always the newest one. */
export function withinBounds(
  entries: readonly Remembered[],
  mostEntries = MOST_ENTRIES,
  mostBytes = MOST_BYTES,
): readonly Remembered[] {
  let bytes = 0;
  const tooMany = entries.findIndex(({ picture, thumbnail }, index) => {
    bytes += picture.size + (thumbnail?.size ?? 0);
    return index >= mostEntries || (index > 0 && bytes > mostBytes);
  });
  return tooMany === -1 ? entries : entries.slice(0, tooMany);
}

/** Gives the picture of an entry as it is chosen. */
export function fileOf({ filename, picture, at }: Remembered): File {
  return new File([picture], filename, { type: picture.type, lastModified: at });
}

/**
 * The latest answers. What is shown is right at once; the store follows, one change after the other. What cannot be
 * stored is shown for as long as the page is open.
 */
export class PictureHistory {
  readonly #store: HistoryStore;
  readonly #prepare: (picture: File) => Promise<Kept>;
  readonly #listeners = new Set<() => void>();
  /** What the store did not take; null for what it still has and should not. */
  readonly #unkept = new Map<string, Remembered | null>();
  #canRead = true;
  #entries: readonly Remembered[] = [];
  #removed: readonly Remembered[] = [];
  #snapshot: HistorySnapshot = { entries: [], removed: [], isKept: true };
  #latestAt = 0;
  #queue: Promise<void> = Promise.resolve();
  #unwritten = 0;
  #undoTimer: ReturnType<typeof setTimeout> | undefined;
  #unwatch: (() => void) | undefined;

  constructor(store: HistoryStore, prepare: (picture: File) => Promise<Kept>) {
    this.#store = store;
    this.#prepare = prepare;
  }

  readonly snapshot = (): HistorySnapshot => this.#snapshot;

  /** Calls back at every change; follows the store for as long as anybody listens. */
  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    if (this.#unwatch === undefined) {
      this.#unwatch = this.#store.watch(this.#read);
      this.#read();
    }
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size > 0) return;
      this.#unwatch?.();
      this.#unwatch = undefined;
    };
  };

  /** Keeps an answer. Its place is that of its call, however long its picture takes. Gives the entry's id. */
  readonly remember = async (answer: AnalyzeAnswer, picture: File, settings: Settings): Promise<string> => {
    const at = Math.max(Date.now(), this.#latestAt + 1, (this.#entries[0]?.at ?? 0) + 1);
    this.#latestAt = at;
    const id = `${String(at)} ${Math.random().toString(36).slice(2)}`; // randomUUID() needs HTTPS.
    const kept = await this.#prepare(picture);
    this.#put([{ id, at, filename: picture.name, ...kept, answer, settings }]);
    return id;
  };

  readonly remove = (id: string): void => {
    this.#remove(this.#entries.filter((entry) => entry.id === id));
  };

  readonly clear = (): void => {
    this.#remove(this.#entries);
  };

  /** Brings back what was removed since the last 10 s without a removal. */
  readonly undo = (): void => {
    const removed = this.#removed;
    this.#forgetRemoved();
    this.#put(removed);
  };

  #put(entries: readonly Remembered[]): void {
    const all = newestFirst([...entries, ...this.#entries]);
    const kept = withinBounds(all);
    this.#entries = kept;
    this.#write(
      entries.filter((entry) => kept.includes(entry)),
      all.slice(kept.length),
    );
  }

  #remove(entries: readonly Remembered[]): void {
    if (entries.length === 0) return;
    this.#entries = this.#entries.filter((entry) => !entries.includes(entry));
    this.#removed = [...this.#removed, ...entries];
    clearTimeout(this.#undoTimer);
    this.#undoTimer = setTimeout(() => {
      this.#forgetRemoved();
      this.#show();
    }, UNDO_MS);
    this.#write([], entries);
  }

  #forgetRemoved(): void {
    clearTimeout(this.#undoTimer);
    this.#removed = [];
  }

  #write(put: readonly Remembered[], drop: readonly Remembered[]): void {
    this.#show();
    this.#unwritten += 1;
    const changes: [string, Remembered | null][] = [
      ...put.map((entry): [string, Remembered] => [entry.id, entry]),
      ...drop.map(({ id }): [string, null] => [id, null]),
    ];
    this.#after(async () => {
      try {
        await this.#store.change(
          put,
          drop.map(({ id }) => id),
        );
        for (const [id] of changes) this.#unkept.delete(id);
        if (!this.#canRead) this.#read();
      } catch {
        for (const [id, entry] of changes) this.#unkept.set(id, entry); // Blocked, full, or broken: no matter.
      }
      this.#unwritten -= 1;
      this.#show();
    });
  }

  readonly #read = (): void => {
    this.#after(async () => {
      let stored: readonly Remembered[] = [];
      try {
        stored = await this.#store.all();
        this.#canRead = true;
      } catch {
        this.#canRead = false;
      }
      if (this.#unwritten > 0) {
        this.#read(); // What was read is older than what is shown.
        return;
      }
      const known = new Map(this.#entries.map((entry) => [entry.id, entry]));
      const held = this.#canRead ? stored : this.#entries;
      this.#entries = withinBounds(
        newestFirst([
          ...held.filter(({ id }) => !this.#unkept.has(id)).map((entry) => known.get(entry.id) ?? entry),
          ...[...this.#unkept.values()].filter((entry) => entry !== null),
        ]),
      );
      this.#show();
    });
  };

  #after(step: () => Promise<void>): void {
    this.#queue = this.#queue.then(step);
  }

  #show(): void {
    const isKept = this.#canRead && [...this.#unkept.values()].every((entry) => entry === null);
    this.#snapshot = { entries: this.#entries, removed: this.#removed, isKept };
    for (const listener of this.#listeners) listener();
  }
}

function newestFirst(entries: readonly Remembered[]): readonly Remembered[] {
  return [...entries].sort((one, other) => other.at - one.at);
}
