/** The queue's prompts as files, made in the browser: what is done, and in tables what failed too. */

import { pathOf } from "../src/droppedFiles.ts";
import type { QueuedPicture } from "./queue.ts";

export type ExportKind = "txt" | "csv" | "json";

/** Makes one file of all prompts, named after the day. */
export async function exported(pictures: readonly QueuedPicture[], kind: ExportKind, day = new Date()): Promise<File> {
  const name = `prompts-${day.toISOString().slice(0, 10)}`;
  switch (kind) {
    case "json":
      return new File([asJson(pictures)], `${name}.json`, { type: "application/json" });
    case "csv":
      return new File([asCsv(pictures)], `${name}.csv`, { type: "text/csv" });
    case "txt":
      return new File([await asZip(pictures)], `${name}.zip`, { type: "application/zip" });
  }
}

/** Hands a file to the browser's downloads. */
export function save(file: File): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = file.name;
  link.click();
  // Browsers read it after the click.
  setTimeout(() => {
    URL.revokeObjectURL(link.href);
  }, 60_000);
}

/** An array of what `image-analyzer analyze --json` prints: each answer or failure, with its file's name. */
export function asJson(pictures: readonly QueuedPicture[]): string {
  const entries = pictures.flatMap(({ file, answer, failure }): object[] => {
    if (answer !== null) return [{ file: pathOf(file), ...answer }];
    return failure === null ? [] : [{ file: pathOf(file), success: false, error: failure }];
  });
  return `${JSON.stringify(entries, null, 2)}\n`;
}

/** As RFC 4180 has it, with the mark by which Excel knows UTF-8; no cell is a formula. */
export function asCsv(pictures: readonly QueuedPicture[]): string {
  const categories = [...new Set(pictures.flatMap(({ answer }) => Object.keys(answer?.analysis ?? {})))];
  const head = ["file", "prompt", "negative_prompt", "target", "model", ...categories, "tags", "palette", "error"];
  const rows = pictures.flatMap(({ file, answer, failure }) => {
    if (answer === null)
      return failure === null ? [] : [head.map((name) => ({ file: pathOf(file), error: failure })[name] ?? "")];
    const { generatedPrompt, negativePrompt, target, model, analysis, tags, palette } = answer;
    const labels = categories.map((name) =>
      listed((analysis as Partial<typeof analysis>)[name]?.map(({ value }) => value)),
    );
    const [seen, colours] = [listed(tags.map(({ value }) => value)), listed(palette.map(({ hex }) => hex))];
    return [[pathOf(file), generatedPrompt, negativePrompt, target, model, ...labels, seen, colours, ""]];
  });
  return `\uFEFF${[head, ...rows].map((row) => `${row.map(asCell).join(",")}\r\n`).join("")}`;
}

/** A text file for each prompt, named as the picture: the way in which folders of captions are kept. */
async function asZip(pictures: readonly QueuedPicture[]): Promise<Uint8Array<ArrayBuffer>> {
  const { strToU8, zipSync } = await import("fflate");
  const files = Object.entries(asTexts(pictures)).map(([name, text]) => [name, strToU8(text)] as const);
  return zipSync(Object.fromEntries(files));
}

/** File name to text, of one line: trainers take lines for alternatives. */
export function asTexts(pictures: readonly QueuedPicture[]): Record<string, string> {
  const taken = new Set<string>();
  const texts = pictures.flatMap(({ file, answer }): [string, string][] => {
    if (answer === null) return [];
    const name = freeName(pathOf(file), taken);
    taken.add(name.toLowerCase());
    return [[name, `${answer.generatedPrompt.trim().replace(/\s*[\r\n]+\s*/g, " ")}\n`]];
  });
  return Object.fromEntries(texts);
}

function listed(values: readonly string[] | undefined): string {
  return values?.join("; ") ?? "";
}

/** What a spreadsheet would reckon with gets the apostrophe that says that it is a text. */
const FORMULA = /^[=+\-@\t\r\n＝＋－＠]/;

function asCell(value: string | null | undefined): string {
  const text = value ?? "";
  const safe = FORMULA.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** `photo.jpg` gives `photo.txt`; if that is taken, `photo.jpg.txt`, then `photo (2).txt`. */
function freeName(path: string, taken: ReadonlySet<string>): string {
  const name = safePath(path);
  const stem = name.replace(/(?<=[^/])\.[^./]*$/, "");
  const isFree = (candidate: string): boolean => !taken.has(candidate.toLowerCase());
  const candidate = [`${stem}.txt`, `${name}.txt`].find(isFree);
  if (candidate !== undefined) return candidate;
  let number = 2;
  while (!isFree(`${stem} (${String(number)}).txt`)) number += 1;
  return `${stem} (${String(number)}).txt`;
}

/** What no file system takes in a name, or takes for something else than a name. */
// eslint-disable-next-line no-control-regex -- they are what is looked for
const UNSAFE = /[\u0000-\u001f\u007f<>:"|?*\\\u202a-\u202e\u2066-\u2069]/g;
const WINDOWS_DEVICE = /^(con|prn|aux|nul|com\d|lpt\d)(?=[. ]|$)/i;
/** Of file systems that take 255 bytes, in any script, with what is added. */
const LONGEST_NAME = 80;

function safePath(path: string): string {
  const names = path.normalize("NFC").split("/").map(safeName);
  return names.filter((name) => name !== "").join("/") || "picture";
}

function safeName(name: string): string {
  const ending = /\.[^.]{1,10}$/.exec(name)?.[0] ?? "";
  const short = name.length > LONGEST_NAME ? name.slice(0, LONGEST_NAME - ending.length) + ending : name;
  return short
    .replace(UNSAFE, "_")
    .replace(/^[. ]+|[. ]+$/g, "")
    .replace(WINDOWS_DEVICE, "_$1");
}
