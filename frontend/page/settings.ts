import { useState } from "react";

import { DEFAULT_TEXTS, LANGUAGES, type Language, type Length, type Vision } from "../src/index.ts";
import { keep, recall } from "./storage.ts";

/** What is asked of the service beside the picture. */
export interface Settings {
  userPrompt: string;
  language: Language;
  target: string;
  length: Length | null;
  deepThinking: boolean;
  vision: Vision;
  model: string;
  seed: number | null;
  weights: boolean;
  /** Tags that are switched off. */
  without: readonly string[];
}

export const AT_FIRST: Settings = {
  userPrompt: "",
  language: "en",
  target: "",
  length: null,
  deepThinking: false,
  vision: "auto",
  model: "",
  seed: null,
  weights: false,
  without: [],
};

const KEPT_AS = "image-analyzer-settings";

/** What belongs to one prompt, and is not remembered. */
const OF_ONE_PROMPT = { seed: null, without: [] };

/** What was chosen last in this browser; what is only shown, as an answer of before is, is not remembered. */
export function useSettings(): [Settings, (changed: Partial<Settings>) => void, (shown: Partial<Settings>) => void] {
  const [settings, setSettings] = useState(recalled);
  const show = (shown: Partial<Settings>): void => {
    setSettings((before) => ({ ...before, ...shown }));
  };
  const change = (changed: Partial<Settings>): void => {
    keep("localStorage", KEPT_AS, JSON.stringify({ ...recalled(), ...changed, ...OF_ONE_PROMPT }));
    show(changed);
  };
  return [settings, change, show];
}

/** What another version of the page, or another page at this address, left may be anything. */
function recalled(): Settings {
  const kept = parsed(recall("localStorage", KEPT_AS));
  const known = Object.entries(kept).filter(([name, value]) => IS_VALID[name]?.(value));
  return { ...AT_FIRST, ...Object.fromEntries(known) };
}

const isText = (value: unknown): boolean => typeof value === "string";
const isFlag = (value: unknown): boolean => typeof value === "boolean";
const isIn =
  (choices: object) =>
  (value: unknown): boolean =>
    typeof value === "string" && Object.hasOwn(choices, value);

const IS_VALID: Readonly<Record<string, (value: unknown) => boolean>> = {
  userPrompt: isText,
  language: isIn(LANGUAGES),
  target: isText,
  length: isIn(DEFAULT_TEXTS.lengths),
  deepThinking: isFlag,
  vision: isIn(DEFAULT_TEXTS.visions),
  model: isText,
  weights: isFlag,
};

function parsed(text: string | null): object {
  try {
    return Object(JSON.parse(text ?? "{}")) as object;
  } catch {
    return {};
  }
}
