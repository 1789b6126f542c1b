import type { Length, TokenUnit, Vision } from "./contract.ts";
import type { Stage } from "./useImageAnalyzer.ts";

/** Every text of the component, to be exchanged for those of another language. */
export interface Texts {
  choosePicture: string;
  chooseHint: string;
  anotherPicture: string;
  preview: string;
  noPreview: string;
  userPrompt: string;
  userPromptHint: string;
  deepThinking: string;
  language: string;
  target: string;
  moreOptions: string;
  length: string;
  lengths: Readonly<Record<Length | "usual", string>>;
  weights: string;
  model: string;
  modelFacts: Readonly<Record<"usual" | "thinks" | "sees" | "loaded" | "absent" | "cannotWrite", string>>;
  seed: string;
  noSeed: string;
  newSeed: string;
  seedHint: string;
  vision: string;
  visions: Readonly<Record<Vision, string>>;
  prompt: string;
  promptHint: string;
  writeAgain: string;
  cancel: string;
  suggestion: string;
  useSuggestion: string;
  truncated: string;
  negativePrompt: string;
  /** Below a prompt that has a budget. */
  budget: (spent: number, limit: number, unit: TokenUnit) => string;
  stages: Readonly<Record<Stage, string>>;
  /** While others are written before; in place of the stage. */
  inLine: (before: number) => string;
  /** While the model looks at the picture; in place of the stage. */
  looking: string;
  /** While the model thinks; in place of the stage. */
  thinking: string;
}

const UNITS: Readonly<Record<TokenUnit, string>> = {
  clip_tokens: "tokens",
  words: "words",
  characters: "characters",
  phrases: "phrases",
};

export const DEFAULT_TEXTS: Texts = {
  choosePicture: "Choose a picture",
  chooseHint: "or drop or paste one here",
  anotherPicture: "Choose another picture",
  preview: "The chosen picture",
  noPreview: "Your browser cannot show this picture.",
  userPrompt: "What you want of it (optional)",
  userPromptHint: "at dusk, as a poster, without people …",
  deepThinking: "Deep mode: a longer, richer prompt",
  language: "Language of the prompt",
  target: "Prompt for",
  moreOptions: "More options",
  length: "Length",
  lengths: { usual: "usual", short: "short", medium: "medium", long: "long" },
  weights: "Weigh what is seen, as (words:1.2)",
  model: "Model",
  modelFacts: {
    usual: "default",
    thinks: "thinks first",
    sees: "sees pictures",
    loaded: "loaded",
    absent: "not installed",
    cannotWrite: "cannot write",
  },
  seed: "Seed",
  noSeed: "random",
  newSeed: "New seed",
  seedHint: "With the same seed you get much the same prompt again; without one, a new prompt each time.",
  vision: "Look at the picture itself",
  visions: { auto: "where that is quick", on: "yes, if a model can", off: "no, what was measured will do" },
  prompt: "Prompt",
  promptHint: "The prompt appears here while it is written; you can edit it.",
  writeAgain: "Write again",
  cancel: "Cancel",
  suggestion: "Suggested prompt; yours is kept",
  useSuggestion: "Use it in place of mine",
  truncated: "Cut off after what is whole.",
  negativePrompt: "Negative prompt",
  budget: (spent, limit, unit) => `${String(spent)} of ${String(limit)} ${UNITS[unit]}`,
  stages: {
    idle: "",
    preparing: "Preparing the picture …",
    analyzing: "Reading the picture …",
    generating: "Writing the prompt …",
    complete: "Done.",
    cancelled: "Cancelled.",
    error: "",
  },
  inLine: (before) => (before > 0 ? `Waiting in line: ${String(before)} before you …` : "You are next in line …"),
  looking: "Looking at the picture and writing …",
  thinking: "The model is thinking …",
};
