import type { Length, TokenUnit, Vision } from "./contract.ts";
import type { Stage } from "./useImageAnalyzer.ts";

/** Every text of the component, to be exchanged for those of another language. */
export interface Texts {
  choosePicture: string;
  chooseHint: string;
  anotherPicture: string;
  takePhoto: string;
  removePicture: string;
  preview: string;
  noPreview: string;
  userPrompt: string;
  userPromptHint: string;
  options: string;
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
  /** The copy button's; what it copies is read to those who do not see where it stands. */
  copy: string;
  copied: string;
  regenerate: string;
  /** In its place after a failure. */
  tryAgain: string;
  /** Beside the button, once what is asked for has changed. */
  changed: string;
  variant: string;
  /** Offered when the next prompt was stopped. */
  former: string;
  cancel: string;
  suggestion: string;
  useSuggestion: string;
  truncated: string;
  negativePrompt: string;
  /** Below a prompt that has a budget. */
  budget: (spent: number, limit: number, unit: TokenUnit) => string;
  stages: Readonly<Record<Stage, string>>;
  /** Beside the stage, once it lasts. */
  seconds: (seconds: number) => string;
  /** While the picture is sent; in place of the stage. */
  uploading: string;
  /** While others are written before; in place of the stage. */
  inLine: (before: number) => string;
  /** While the model looks at the picture; in place of the stage. */
  looking: string;
  /** While the model thinks; in place of the stage. */
  thinking: string;
  /** By a failure's code, for whoever stands before the page; of any other code the service's own sentence is shown. */
  errors: Readonly<Partial<Record<string, string>>>;
  /** After such a sentence, where the service says when. */
  tryAgainIn: (seconds: number) => string;
  /** Above the service's own sentence, where another is shown. */
  forTheOperator: string;
}

const UNITS: Readonly<Record<TokenUnit, string>> = {
  clip_tokens: "tokens",
  words: "words",
  characters: "characters",
  phrases: "phrases",
};

const PART_MISSING = "The service cannot do this at the moment. Try again in a little while.";

export const DEFAULT_TEXTS: Texts = {
  choosePicture: "Choose a picture",
  chooseHint: "or drop or paste one here",
  anotherPicture: "Choose another picture",
  takePhoto: "Take a photo",
  removePicture: "Remove the picture",
  preview: "The chosen picture",
  noPreview: "Your browser cannot show this picture.",
  userPrompt: "Your idea",
  userPromptHint: "Optional: at dusk, as a poster, without people …",
  options: "Options",
  deepThinking: "Deep mode: longer, richer",
  language: "Language",
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
  vision: "A model looks",
  visions: { auto: "auto", on: "if one can", off: "no" },
  prompt: "Prompt",
  promptHint: "The prompt appears here while it is written; you can edit it.",
  copy: "Copy",
  copied: "Copied",
  regenerate: "Regenerate",
  tryAgain: "Try again",
  changed: "for what you have changed",
  variant: "New variant",
  former: "Back to the prompt before",
  cancel: "Stop",
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
    cancelled: "Stopped.",
    error: "",
  },
  seconds: (seconds) => `${String(seconds)} s`,
  uploading: "Sending the picture …",
  inLine: (before) => (before > 0 ? `Waiting in line: ${String(before)} before you …` : "You are next in line …"),
  looking: "Looking at the picture and writing …",
  thinking: "The model is thinking …",
  errors: {
    unreachable: "The service cannot be reached.",
    stream_cut: "The connection broke before the prompt was whole. Try again.",
    not_the_service: "Something that is not the service answered in its place.",
    origin_not_allowed: "The service does not take pictures from this page.",
    key_required: "The service wants a key, and this one is missing or not accepted.",
    rate_limited: "Those were many pictures in a short time.",
    queue_full: "The service is busy with other pictures.",
    shutting_down: "The service is about to restart.",
    upload_too_large: "This picture is too large for the service.",
    too_many_pixels: "This picture has too many pixels for the service.",
    format_not_accepted: "The service does not read pictures of this kind.",
    deadline_passed: "That took too long. Try again, or ask for a shorter prompt.",
    upload_too_slow: "Sending the picture took too long. Try again, or take a smaller one.",
    invalid_form: "The service does not take this choice. Choose something else, or ask its operator.",
    internal_error: "Something went wrong in the service. Try again.",
    component_unavailable: PART_MISSING,
    clip_unavailable: PART_MISSING,
    ollama_unavailable: PART_MISSING,
    out_of_memory: PART_MISSING,
  },
  tryAgainIn: (seconds) => `Try again in ${String(seconds)} s.`,
  forTheOperator: "For the operator",
};
