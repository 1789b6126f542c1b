import { strFromU8, unzipSync } from "fflate";
import { describe, expect, it } from "vitest";

import type { AnalyzeAnswer } from "../src/index.ts";
import { asCsv, asJson, asTexts, exported } from "../page/exports.ts";
import type { QueuedPicture } from "../page/queue.ts";
import { ANSWER } from "./service.ts";

function done(name: string, change: Partial<AnalyzeAnswer> = {}): QueuedPicture {
  const answer = { ...ANSWER, ...change };
  return { id: name, file: new File([], name), state: "done", prompt: answer.generatedPrompt, answer, failure: null };
}

const FAILED: QueuedPicture = {
  ...done("broken.jpg"),
  state: "failed",
  prompt: "",
  answer: null,
  failure: "No picture.",
};
const WAITING: QueuedPicture = { ...FAILED, state: "waiting", failure: null };

/** Reads CSV as RFC 4180 has it. */
function rowsOf(csv: string): string[][] {
  const cells = csv.replace(/^\uFEFF/, "").matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/g);
  const rows: string[][] = [[]];
  for (const [, quoted, plain = "", end] of cells) {
    rows.at(-1)?.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end === "\r\n") rows.push([]);
  }
  expect(rows.pop()).toEqual([]);
  return rows;
}

/** What the table has of one picture. */
function cellsOf(picture: QueuedPicture): Record<string, string | undefined> {
  const [head = [], row = []] = rowsOf(asCsv([picture]));
  expect(row).toHaveLength(head.length);
  return Object.fromEntries(head.map((name, index) => [name, row[index]]));
}

describe("JSON", () => {
  it("has each answer and each failure with its file, and nothing of what waits", () => {
    expect(JSON.parse(asJson([done("lake.jpg"), FAILED, WAITING]))).toEqual([
      { file: "lake.jpg", ...ANSWER },
      { file: "broken.jpg", success: false, error: "No picture." },
    ]);
  });
});

describe("CSV", () => {
  it("has a row for each answer and each failure", () => {
    expect(rowsOf(asCsv([done("lake.jpg"), FAILED, WAITING]))).toHaveLength(3);
    expect(cellsOf(done("lake.jpg"))).toMatchObject({
      file: "lake.jpg",
      prompt: "a calm lake",
      negative_prompt: "",
      target: "prose",
      mood: "calm; bright",
      time_of_day: "calm; bright",
      tags: "lake",
      palette: "#aabbcc",
      error: "",
    });
    expect(cellsOf(FAILED)).toMatchObject({ file: "broken.jpg", prompt: "", error: "No picture." });
  });

  it("tells spreadsheets that it is UTF-8", () => {
    expect(asCsv([]).startsWith("\uFEFFfile,prompt,")).toBe(true);
  });

  it.each([["a, b"], ['say "so"'], ["two\nlines"], ["two\r\nlines"], ["湖,بحيرة"], [""], ['"'], ["a;b\tc"]])(
    "gives %j back as it was",
    (prompt) => {
      expect(cellsOf(done("lake.jpg", { generatedPrompt: prompt })).prompt).toBe(prompt);
    },
  );

  it.each(["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])(
    "lets no cell begin a formula with %j",
    (sign) => {
      const formula = `${sign}HYPERLINK("https://example.com","a, b")`;
      const cells = cellsOf(done(formula, { generatedPrompt: formula, negativePrompt: formula }));
      expect([cells.file, cells.prompt, cells.negative_prompt]).toEqual(Array(3).fill(`'${formula}`));
    },
  );
});

describe("text files", () => {
  const namesOf = (...names: string[]): string[] => Object.keys(asTexts(names.map((name) => done(name))));

  it.each([
    ["photo.jpg", "photo.txt"],
    ["photo.final.jpg", "photo.final.txt"],
    ["photo", "photo.txt"],
    ["湖.png", "湖.txt"],
    ["cafe\u0301.png", "café.txt"],
    ["../../etc/passwd.png", "etc/passwd.txt"],
    ["/photo.jpg", "photo.txt"],
    ["C:\\a\\photo.jpg", "C__a_photo.txt"],
    ['a<b>:"|?*.jpg', "a_b______.txt"],
    ["a\u0000\n\u202eb.jpg", "a___b.txt"],
    ["CON.jpg", "_CON.txt"],
    ["lpt1.jpg", "_lpt1.txt"],
    ["console.jpg", "console.txt"],
    [".jpg", "jpg.txt"],
    ["photo.jpg. ", "photo.txt"],
    ["con .jpg", "_con .txt"],
    ["..", "picture.txt"],
    ["", "picture.txt"],
  ])("%j becomes %j", (name, expected) => {
    expect(namesOf(name)).toEqual([expected]);
  });

  it("have names of their own, whether or not capitals count", () => {
    expect(namesOf("a.jpg", "a.png", "A.JPG", "a.jpg", "b/a.jpg")).toEqual([
      "a.txt",
      "a.png.txt",
      "A.JPG.txt",
      "a (2).txt",
      "b/a.txt",
    ]);
  });

  it("have names that file systems can take", () => {
    const [name = ""] = namesOf(`${"long".repeat(100)}.jpg`);
    expect(new TextEncoder().encode(name).length).toBeLessThan(255);
    const [wide = ""] = namesOf(`${"湖".repeat(300)}.jpg`);
    expect(new TextEncoder().encode(wide).length).toBeLessThan(255);
  });

  it("hold the prompt on one line, and nothing of what failed", () => {
    expect(asTexts([done("a.jpg", { generatedPrompt: "  a calm\r\n lake,\n\nat dusk " }), FAILED])).toEqual({
      "a.txt": "a calm lake, at dusk\n",
    });
  });
});

describe("a file of all", () => {
  const DAY = new Date("2026-11-29T12:00:00Z");

  it("is a zip that holds the texts", async () => {
    const zip = await exported([done("湖.jpg"), done("b/a.jpg")], "txt", DAY);
    expect([zip.name, zip.type]).toEqual(["prompts-2026-11-29.zip", "application/zip"]);
    const texts = Object.entries(unzipSync(new Uint8Array(await zip.arrayBuffer())));
    expect(texts.map(([name, bytes]) => [name, strFromU8(bytes)])).toEqual([
      ["湖.txt", "a calm lake\n"],
      ["b/a.txt", "a calm lake\n"],
    ]);
  });

  it.each(["csv", "json"] as const)("is named by its kind: %s", async (kind) => {
    const file = await exported([done("a.jpg")], kind, DAY);
    expect(file.name).toBe(`prompts-2026-11-29.${kind}`);
    expect(await file.text()).toContain("a calm lake");
  });
});
