import { describe, expect, it } from "vitest";

import { type Stretch, wordDiff } from "../page/wordDiff.ts";

const marked = (stretches: readonly Stretch[]): string =>
  stretches.map(({ text, differs }) => (differs ? `[${text}]` : text)).join("");

describe("wordDiff", () => {
  it.each([
    ["a calm lake", "a calm lake", "a calm lake", "a calm lake"],
    ["a calm lake", "a wild lake", "a [calm] lake", "a [wild] lake"],
    ["a lake at dusk", "a lake", "a lake [at dusk]", "a lake"],
    ["A lake, calm.", "a lake; calm", "A lake, calm.", "a lake; calm"],
    ["calm, deep lake, dusk", "dawn, dusk", "[calm, deep lake], dusk", "[dawn], dusk"],
    ["calm, deep lake, dusk", "dawn", "calm, deep lake, dusk", "dawn"],
    ["the lake the sky", "the sky the lake", "the [lake the] sky", "the sky [the lake]"],
    ["", "a lake", "", "[a lake]"],
    ["", "", "", ""],
  ])("of “%s” and “%s”", (one, other, markedOne, markedOther) => {
    expect(wordDiff(one, other, ["en", "en"]).map(marked)).toEqual([markedOne, markedOther]);
  });

  it("tells words apart where no spaces do", () => {
    const [one, other] = wordDiff("静かな湖", "広い湖", ["ja", "ja"]).map(marked);
    expect(one).toBe("[静かな]湖");
    expect(other).toBe("[広い]湖");
  });

  it("gives every character back, in every language", () => {
    const texts: [string, string] = ["بحيرة هادئة، عند الغروب.", "  A calm lake\n\nat dusk 👩‍🚀 (1.2) "];
    const whole = wordDiff(...texts, ["ar", "en"]).map((side) => side.map(({ text }) => text).join(""));
    expect(whole).toEqual(texts);
  });

  it("does not look for differences in texts that are too long", () => {
    const long = "word ".repeat(1001);
    expect(wordDiff(long, "another", ["en", "en"]).flat()).toEqual([
      { text: long, differs: false },
      { text: "another", differs: false },
    ]);
  });
});
