import { describe, expect, it } from "vitest";

import { MOST_PICTURES } from "../src/droppedFiles.ts";
import type { AnalyzeResult } from "../src/index.ts";
import { type Clock, PictureQueue } from "../page/queue.ts";
import { ANSWER } from "./service.ts";

/** A clock that is turned by hand. */
class HandClock implements Clock {
  #nowMs = 0;
  #calls: { atMs: number; call: () => void }[] = [];

  now = (): number => this.#nowMs;

  after = (ms: number, call: () => void): void => {
    this.#calls.push({ atMs: this.#nowMs + ms, call });
  };

  async pass(seconds: number): Promise<void> {
    const untilMs = this.#nowMs + seconds * 1000;
    for (;;) {
      const [next] = this.#calls.filter(({ atMs }) => atMs <= untilMs).sort((one, other) => one.atMs - other.atMs);
      if (next === undefined) break;
      this.#calls = this.#calls.filter((call) => call !== next);
      this.#nowMs = next.atMs;
      next.call();
      await settled();
    }
    this.#nowMs = untilMs;
  }
}

async function settled(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve));
}

/** A queue whose pictures are answered by hand. */
function setUp() {
  const clock = new HandClock();
  const open = new Map<string, { answer: (result: AnalyzeResult) => void; tell: (text: string) => void }>();
  const asked: string[] = [];
  const aborted: string[] = [];
  const queue = new PictureQueue((file, onPrompt, signal) => {
    asked.push(file.name);
    return new Promise((resolve) => {
      const answer = (result: AnalyzeResult): void => {
        open.delete(file.name);
        resolve(result);
      };
      open.set(file.name, { answer, tell: onPrompt });
      signal.addEventListener("abort", () => {
        aborted.push(file.name);
        answer({ success: false, error: "The analysis was cancelled.", code: "cancelled" });
      });
    });
  }, clock);
  const answer = async (name: string, result: AnalyzeResult = ANSWER): Promise<void> => {
    open.get(name)?.answer(result);
    await settled();
  };
  const states = (): string[] => queue.snapshot().pictures.map(({ file, state }) => `${file.name} ${state}`);
  return { clock, queue, asked, aborted, open, answer, states };
}

const picturesOf = (names: string): File[] =>
  Array.from(names, (name) => new File([name], name, { type: "image/jpeg" }));
const refusal = (code: string, retryAfterS?: number): AnalyzeResult => ({
  success: false,
  error: `It said ${code}.`,
  code,
  retryAfterS,
});

describe("PictureQueue", () => {
  it("asks for four at a time, in their order", async () => {
    const { queue, asked, open, answer } = setUp();
    queue.add(picturesOf("abcdef"));
    expect(asked.join("")).toBe("abcd");
    await answer("c");
    expect(asked.join("")).toBe("abcde");
    await answer("a");
    for (const name of "bdef") await answer(name);
    expect(asked.join("")).toBe("abcdef");
    expect(open.size).toBe(0);
    expect(queue.snapshot().activity).toBe("idle");
  });

  it("tells a prompt as it grows, and a failure by its sentence, which is asked for again when told to", async () => {
    const { clock, queue, asked, open, answer } = setUp();
    queue.add(picturesOf("ab"));
    const picture = () => queue.snapshot().pictures[0];
    expect(picture()).toMatchObject({ state: "reading", prompt: "" });
    for (const text of ["a", "a calm"]) open.get("a")?.tell(text);
    await clock.pass(1);
    expect(picture()).toMatchObject({ state: "writing", prompt: "a calm" });
    await answer("a", refusal("unreadable_image"));
    expect(picture()).toMatchObject({ state: "failed", prompt: "", failure: "It said unreadable_image." });
    queue.retry(picture()?.id);
    expect(asked.join("")).toBe("aba");
    await answer("a");
    expect(picture()).toMatchObject({ state: "done", prompt: "a calm lake", failure: null, answer: ANSWER });
  });

  it("tells a listener of what changed, with another object, and of nothing once it has left", async () => {
    const { queue, answer } = setUp();
    const before = queue.snapshot();
    let told = 0;
    const leave = queue.subscribe(() => (told += 1));
    queue.add(picturesOf("a"));
    expect(told).toBeGreaterThan(0);
    expect(queue.snapshot()).not.toBe(before);
    expect(queue.snapshot()).toBe(queue.snapshot());
    leave();
    told = 0;
    await answer("a");
    expect(told).toBe(0);
  });

  it.each([
    ["429", refusal("queue_full", 12), 12, null],
    ["a busy 503", refusal("component_unavailable", 3), 3, "It said component_unavailable."],
    ["429 within a stream", refusal("queue_full"), 5, null],
    ["nobody", refusal("unreachable"), 5, "It said unreachable."],
  ])("rests as a whole where %s answers, then goes on in the old order", async (_, result, restS, because) => {
    const { clock, queue, asked, answer, states } = setUp();
    queue.add(picturesOf("abcdef"));
    await answer("b", result);
    expect(queue.snapshot()).toMatchObject({
      activity: "resting",
      restS,
      because,
    });
    expect(states()[1]).toBe("b waiting");
    await answer("a");
    await clock.pass(restS - 1);
    expect(asked.join("")).toBe("abcd");
    expect(queue.snapshot()).toMatchObject({ restS: 1 });
    await clock.pass(1);
    expect(asked.join("")).toBe("abcdb"); // Three at a time after a refusal and an answer: c and d are still there.
    expect(queue.snapshot()).toMatchObject({ activity: "working", restS: 0 });
    for (const name of "bcdef") await answer(name);
    expect(queue.snapshot()).toMatchObject({ activity: "idle", because: null });
    expect(states().every((state) => state.endsWith("done"))).toBe(true);
  });

  it("rests for the longest that it is told, and begins again with one where all were refused", async () => {
    const { clock, queue, asked, answer } = setUp();
    queue.add(picturesOf("abcde"));
    for (const [name, seconds] of [
      ["a", 2],
      ["b", 20],
      ["c", 4],
      ["d", 2],
    ] as const) {
      await answer(name, refusal("rate_limited", seconds));
    }
    await clock.pass(19);
    expect(asked.join("")).toBe("abcd");
    await clock.pass(1);
    expect(asked.join("")).toBe("abcda");
    await answer("a");
    expect(asked.join("")).toBe("abcdabc");
  });

  it("stops by itself where the service stays busy for a quarter of an hour, and says why", async () => {
    const { clock, queue, asked, answer, states } = setUp();
    queue.add(picturesOf("a"));
    for (let minute = 0; minute <= 16; minute += 1) {
      await answer("a", refusal("component_unavailable", 60));
      await clock.pass(60);
    }
    expect(queue.snapshot()).toMatchObject({ activity: "stopped", because: "It said component_unavailable." });
    expect(states()).toEqual(["a waiting"]);
    const before = asked.length;
    queue.resume();
    expect(asked).toHaveLength(before + 1);
  });

  it("stops where a key is asked for, instead of having every picture fail", async () => {
    const { queue, aborted, answer, states } = setUp();
    queue.add(picturesOf("abcdef"));
    await answer("a");
    await answer("b", refusal("key_required"));
    expect(queue.snapshot()).toMatchObject({ activity: "stopped", because: "It said key_required." });
    expect(aborted.join("")).toBe("cde");
    expect(states()).toEqual(["a done", ...["b", "c", "d", "e", "f"].map((name) => `${name} waiting`)]);
  });

  it("keeps what is done when it is stopped, and goes on from there", async () => {
    const { clock, queue, asked, aborted, open, answer, states } = setUp();
    queue.add(picturesOf("abcde"));
    await answer("a");
    open.get("b")?.tell("half a");
    await clock.pass(1);
    queue.cancel();
    await settled();
    expect(aborted.join("")).toBe("bcde");
    expect(states()).toEqual(["a done", "b waiting", "c waiting", "d waiting", "e waiting"]);
    expect(queue.snapshot()).toMatchObject({ activity: "stopped", because: null });
    await clock.pass(60);
    expect(asked.join("")).toBe("abcde");
    queue.resume();
    expect(asked.join("")).toBe("abcdebcde");
    expect(queue.snapshot().pictures[1]).toMatchObject({ prompt: "" });
  });

  it("does not escape a rest by being stopped and told to go on", async () => {
    const { clock, queue, asked, answer } = setUp();
    queue.add(picturesOf("a"));
    await answer("a", refusal("queue_full", 10));
    queue.cancel();
    queue.resume();
    await clock.pass(9);
    expect(asked).toHaveLength(1);
    await clock.pass(1);
    expect(asked).toHaveLength(2);
  });

  it("forgets everything when it is cleared, and ignores what still comes", async () => {
    const { queue, open, states } = setUp();
    queue.add(picturesOf("ab"));
    const late = open.get("a");
    queue.clear();
    late?.tell("too late");
    late?.answer(ANSWER);
    await settled();
    expect(states()).toEqual([]);
    expect(queue.snapshot().activity).toBe("idle");
  });

  it("says of a file that is gone that it is, where the service would be blamed", async () => {
    const { queue, answer } = setUp();
    const gone = new File(["x"], "gone.jpg", { type: "image/jpeg" });
    gone.slice = () => {
      const nothing = new Blob();
      nothing.arrayBuffer = () => Promise.reject(new DOMException("gone", "NotFoundError"));
      return nothing;
    };
    queue.add([gone]);
    await answer("gone.jpg", refusal("unreachable"));
    expect(queue.snapshot()).toMatchObject({
      activity: "idle",
      pictures: [{ state: "failed", failure: "This file was moved or changed: drop it again." }],
    });
  });

  it("takes what rejects for a failure of that picture alone", async () => {
    const queue = new PictureQueue(() => Promise.reject(new Error("a fault of ours")), new HandClock());
    queue.add(picturesOf("a"));
    await settled();
    expect(queue.snapshot().pictures[0]?.failure).toContain("a fault of ours");
  });

  it("asks otherwise for what is still to come, once it is told how", async () => {
    const { queue, asked, answer } = setUp();
    queue.add(picturesOf("abcde"));
    const later: string[] = [];
    queue.askBy((file) => {
      later.push(file.name);
      return Promise.resolve(ANSWER);
    });
    await answer("a");
    expect([asked.join(""), later.join("")]).toEqual(["abcd", "e"]);
  });

  it("holds a limited number, and tells what it left out", () => {
    const { queue } = setUp();
    const many = Array.from({ length: MOST_PICTURES - 1 }, (_, number) => new File([], String(number)));
    queue.add(many);
    queue.add(picturesOf("abc"), { noPictures: 3, unreadable: 0, overLimit: 0, unseen: false });
    expect(queue.snapshot().pictures).toHaveLength(MOST_PICTURES);
    expect(queue.snapshot().leftOut).toMatchObject({ noPictures: 3, overLimit: 2 });
  });

  it("tells the time that is left from the pace of the latest, and not before there is one", async () => {
    const { clock, queue, answer } = setUp();
    queue.add(picturesOf("abcdefghij"));
    for (const name of "abcd") {
      await clock.pass(6);
      await answer(name);
    }
    expect(queue.snapshot().leftS).toBeNull();
    await clock.pass(6);
    await answer("e");
    expect(queue.snapshot().leftS).toBeCloseTo(30);
    await answer("f", refusal("queue_full", 2));
    await clock.pass(2);
    expect(queue.snapshot().leftS).toBeNull();
  });
});
