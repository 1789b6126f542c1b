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
  prompt: string;
  promptHint: string;
  writeAgain: string;
  cancel: string;
  suggestion: string;
  useSuggestion: string;
  stages: Readonly<Record<Stage, string>>;
}

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
  prompt: "Prompt",
  promptHint: "The prompt appears here while it is written; you can edit it.",
  writeAgain: "Write again",
  cancel: "Cancel",
  suggestion: "Suggested prompt; yours is kept",
  useSuggestion: "Use it in place of mine",
  stages: {
    idle: "",
    preparing: "Preparing the picture …",
    analyzing: "Reading the picture …",
    generating: "Writing the prompt …",
    complete: "Done.",
    cancelled: "Cancelled.",
    error: "",
  },
};
