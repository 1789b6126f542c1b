/** Pictures that wait for their prompts: asked for a few at a time, in their order. No React. */

import { MOST_PICTURES, type LeftOut, NOTHING_LEFT_OUT } from "../src/droppedFiles.ts";
import type { AnalyzeAnswer, AnalyzeFailure, AnalyzeResult } from "../src/index.ts";

/** Asks for one picture's prompt; `onPrompt` is told the prompt so far. */
export type Ask = (file: File, onPrompt: (text: string) => void, signal: AbortSignal) => Promise<AnalyzeResult>;

export interface QueuedPicture {
  readonly id: string;
  readonly file: File;
  readonly state: "waiting" | "reading" | "writing" | "done" | "failed";
  /** As far as it is written. */
  readonly prompt: string;
  readonly answer: AnalyzeAnswer | null;
  /** A sentence; null unless it failed. */
  readonly failure: string | null;
}

/** How the queue stands. */
export interface QueueState {
  readonly pictures: readonly QueuedPicture[];
  /** `resting`: the service asked to wait. `stopped`: somebody has to say when it goes on. */
  readonly activity: "idle" | "working" | "resting" | "stopped";
  /** How long it still rests; 0 unless it does. */
  readonly restS: number;
  /** Why it rests or stopped; null where others are being served, or the user stopped it. */
  readonly because: string | null;
  /** Of what was added last. */
  readonly leftOut: LeftOut;
  /** From the pace of the latest; null where that would be a guess. */
  readonly leftS: number | null;
}

/** Time, so that tests need not wait. */
export interface Clock {
  now: () => number;
  after: (ms: number, call: () => void) => void;
}

/** A service for one laptop writes one or two prompts at a time: more would only stand in its line. */
const MOST_AT_ONCE = 4;
/** Where the service is away, or says in a stream that it is busy, and so tells no time. */
const REST_UNTOLD_S = 5;
/** Refused for so long without one answer, the queue stops and says why. */
const PATIENCE_MS = 15 * 60_000;
/** Tokens come faster than eyes and a page of cards need them. */
const REDRAWN_AFTER_MS = 100;
const TICK_MS = 1000;
/** The pace is that of the latest answers; of fewer it is none. */
const PACE_OF_LATEST = 9;
const PACE_OF_LEAST = 5;

/** Not the picture's fault, and gone later. */
const BUSY: ReadonlySet<string> = new Set(["queue_full", "rate_limited", "shutting_down", "unreachable"]);
/** Of these there is no more to say than how long to wait. */
const MERELY_BUSY: ReadonlySet<string> = new Set(["queue_full", "rate_limited"]);
/** Not the picture's fault, and there until somebody acts. */
const NEEDS_SOMEBODY: ReadonlySet<string> = new Set(["key_required", "origin_not_allowed"]);

const BROWSER_CLOCK: Clock = { now: () => performance.now(), after: (ms, call) => setTimeout(call, ms) };

export class PictureQueue {
  #ask: Ask;
  readonly #clock: Clock;
  readonly #listeners = new Set<() => void>();
  readonly #asked = new Map<string, AbortController>();
  readonly #growing = new Map<string, string>();
  #pictures: readonly QueuedPicture[] = [];
  #leftOut = NOTHING_LEFT_OUT;
  #state: QueueState;
  #lastId = 0;
  /** How many are asked for at once: half as many after a refusal, one more after each answer. */
  #atOnce = MOST_AT_ONCE;
  #isStopped = false;
  #because: string | null = null;
  #restsUntilMs = -Infinity;
  #refusedSinceMs: number | null = null;
  #isTicking = false;
  #answeredAtMs: readonly number[] = [];

  constructor(ask: Ask, clock: Clock = BROWSER_CLOCK) {
    this.#ask = ask;
    this.#clock = clock;
    this.#state = this.#stateNow();
  }

  /** For `useSyncExternalStore`. */
  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** For `useSyncExternalStore`: the same object until something changed. */
  readonly snapshot = (): QueueState => this.#state;

  /** Asks so for those whose turn is still to come. */
  askBy(ask: Ask): void {
    this.#ask = ask;
  }

  /** Takes pictures behind those that are there, up to the most; with what was left out before. */
  add(files: readonly File[], leftOut: LeftOut = NOTHING_LEFT_OUT): void {
    const taken = files.slice(0, MOST_PICTURES - this.#pictures.length);
    this.#leftOut = { ...leftOut, overLimit: leftOut.overLimit + files.length - taken.length };
    const added = taken.map((file) => ({ ...FRESH, id: String((this.#lastId += 1)), file }));
    this.#pictures = [...this.#pictures, ...added];
    this.resume();
  }

  /** Asks again for one that failed; without an id for all of them. */
  retry(id?: string): void {
    const isMeant = (picture: QueuedPicture): boolean =>
      picture.state === "failed" && (id ?? picture.id) === picture.id;
    this.#pictures = this.#pictures.map((picture) => (isMeant(picture) ? { ...picture, ...FRESH } : picture));
    this.resume();
  }

  /** Gives up what is on its way and keeps what is done; `resume()` goes on from there. */
  cancel(): void {
    this.#stop(null);
  }

  resume(): void {
    if (this.#isStopped) {
      this.#isStopped = false;
      this.#because = null;
      this.#refusedSinceMs = null;
    }
    this.#goOn();
  }

  /** Gives up and forgets everything. */
  clear(): void {
    this.#stop(null);
    this.#isStopped = false;
    this.#pictures = [];
    this.#leftOut = NOTHING_LEFT_OUT;
    this.#publish();
  }

  #stop(because: string | null): void {
    for (const asked of this.#asked.values()) asked.abort();
    this.#asked.clear();
    this.#growing.clear();
    const isUndone = ({ state }: QueuedPicture): boolean => state === "reading" || state === "writing";
    this.#pictures = this.#pictures.map((picture) => (isUndone(picture) ? { ...picture, ...FRESH } : picture));
    this.#isStopped = this.#pictures.some(({ state }) => state === "waiting");
    this.#because = because;
    this.#answeredAtMs = [];
    this.#publish();
  }

  #goOn(): void {
    if (!this.#isStopped && this.#restMs() <= 0) {
      const waiting = this.#pictures.filter(({ state }) => state === "waiting");
      for (const picture of waiting.slice(0, Math.max(0, this.#atOnce - this.#asked.size))) void this.#askFor(picture);
    }
    this.#publish();
    if (this.#state.activity === "resting" && !this.#isTicking) {
      this.#isTicking = true;
      this.#clock.after(Math.min(this.#restMs(), TICK_MS), () => {
        this.#isTicking = false;
        this.#goOn();
      });
    }
  }

  async #askFor({ id, file }: QueuedPicture): Promise<void> {
    const asked = new AbortController();
    this.#asked.set(id, asked);
    this.#change(id, { state: "reading" });
    const onPrompt = (text: string): void => {
      if (asked.signal.aborted) return;
      if (this.#growing.size === 0) {
        this.#clock.after(REDRAWN_AFTER_MS, () => {
          this.#grow();
        });
      }
      this.#growing.set(id, text);
    };
    const result = await this.#ask(file, onPrompt, asked.signal).catch(failureOf);
    const isHere = result.success || result.code !== "unreachable" || (await isReadable(file));
    if (asked.signal.aborted) return;
    this.#asked.delete(id);
    this.#growing.delete(id);
    if (result.success) this.#answered(id, result);
    else if (isHere) this.#failed(id, result);
    else this.#change(id, { ...FRESH, state: "failed", failure: "This file was moved or changed: drop it again." });
    this.#goOn();
  }

  #answered(id: string, answer: AnalyzeAnswer): void {
    this.#change(id, { state: "done", prompt: answer.generatedPrompt, answer });
    this.#answeredAtMs = [...this.#answeredAtMs, this.#clock.now()].slice(-PACE_OF_LATEST);
    this.#atOnce = Math.min(this.#atOnce + 1, MOST_AT_ONCE);
    this.#refusedSinceMs = null;
    if (this.#restMs() <= 0) this.#because = null;
  }

  #failed(id: string, { error, code, retryAfterS }: AnalyzeFailure): void {
    const isBusy = retryAfterS !== undefined || BUSY.has(code);
    if (!isBusy && !NEEDS_SOMEBODY.has(code)) {
      this.#change(id, { ...FRESH, state: "failed", failure: error });
      return;
    }
    const now = this.#clock.now();
    this.#change(id, FRESH);
    this.#refusedSinceMs ??= now;
    if (!isBusy || now - this.#refusedSinceMs > PATIENCE_MS) {
      this.#stop(error);
      return;
    }
    this.#atOnce = Math.max(1, Math.floor(this.#atOnce / 2));
    this.#restsUntilMs = Math.max(this.#restsUntilMs, now + Math.max(1, retryAfterS ?? REST_UNTOLD_S) * 1000);
    this.#because = MERELY_BUSY.has(code) ? null : error;
    this.#answeredAtMs = [];
  }

  #grow(): void {
    for (const [id, prompt] of this.#growing) this.#change(id, { state: "writing", prompt });
    this.#growing.clear();
    this.#publish();
  }

  #change(id: string, change: Partial<QueuedPicture>): void {
    this.#pictures = this.#pictures.map((picture) => (picture.id === id ? { ...picture, ...change } : picture));
  }

  #restMs(): number {
    return this.#restsUntilMs - this.#clock.now();
  }

  #publish(): void {
    this.#state = this.#stateNow();
    for (const listener of this.#listeners) listener();
  }

  #stateNow(): QueueState {
    const undone = this.#pictures.filter(({ state }) => state !== "done" && state !== "failed").length;
    const rests = this.#restMs() > 0 && undone > this.#asked.size;
    const busy = rests ? "resting" : undone > 0 ? "working" : "idle";
    const activity = this.#isStopped ? "stopped" : busy;
    const [first = 0] = this.#answeredAtMs;
    const latest = this.#answeredAtMs;
    const paceMs = latest.length < PACE_OF_LEAST ? null : ((latest.at(-1) ?? 0) - first) / (latest.length - 1);
    return {
      pictures: this.#pictures,
      activity,
      restS: activity === "resting" ? Math.ceil(this.#restMs() / 1000) : 0,
      because: this.#because,
      leftOut: this.#leftOut,
      leftS: activity === "working" && paceMs !== null ? (undone * paceMs) / 1000 : null,
    };
  }
}

const FRESH = { state: "waiting", prompt: "", answer: null, failure: null } as const;

function failureOf(error: unknown): AnalyzeFailure {
  return { success: false, error: `The page failed: ${String(error)}`, code: "unexpected" };
}

/** A file that is gone fails as a service that is away does: `fetch` tells no difference. */
async function isReadable(file: File): Promise<boolean> {
  return await file
    .slice(0, 1)
    .arrayBuffer()
    .then(
      () => true,
      () => false,
    );
}
