import type { Language, Length, Vision } from "../src/index.ts";
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
  without: readonly string[];
}
