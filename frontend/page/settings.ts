import { useState } from "react";

import { LANGUAGES, type Language, type Length, type Vision } from "../src/index.ts";
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

const AT_FIRST: Settings = {
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

/** What was chosen last in this browser, but for what one picture's tags and one prompt's seed were. */
export function useSettings(): [Settings, (change: Partial<Settings>) => void] {
  const [settings, setSettings] = useState(recalled);
  const change = (changed: Partial<Settings>): void => {
    const next = { ...settings, ...changed };
    keep("localStorage", KEPT_AS, JSON.stringify({ ...next, seed: null, without: [] }));
    setSettings(next);
  };
  return [settings, change];
}

function recalled(): Settings {
  const kept = { ...AT_FIRST, ...(JSON.parse(recall("localStorage", KEPT_AS) ?? "{}") as Partial<Settings>) };
  return kept.language in LANGUAGES ? kept : { ...kept, language: AT_FIRST.language };
}
