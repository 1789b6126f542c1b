"use client";

import { useRef, useState } from "react";

/** The text of the prompt box, and what was written while it held the user's own words. */
export interface PromptText {
  prompt: string;
  suggestion: string;
  /** What stood there before the same picture's next prompt was begun; empty where there was none. */
  former: string;
  /** A new prompt is about to be written; gives what takes it, each time it has grown. */
  begin: (isOfNewPicture: boolean) => (written: string) => void;
  /** The user types. */
  edit: (text: string) => void;
  /** Puts a text that was written in place of what is there. */
  fill: (text: string) => void;
}

/** What is written fills the box, but never over the user's own words: beside them it is a suggestion. */
export function usePromptText(
  [prompt, setPrompt]: [string, (text: string) => void],
  /** What the service wrote last. */
  generated: string,
): PromptText {
  const [suggestion, setSuggestion] = useState("");
  const [former, setFormer] = useState("");
  const written = useRef("");
  const isTheUsers = useRef(false);
  const fill = (text: string): void => {
    written.current = text;
    isTheUsers.current = false;
    setSuggestion("");
    setPrompt(text);
  };
  const begin = (isOfNewPicture: boolean): ((text: string) => void) => {
    if (prompt === "" || prompt === generated) {
      isTheUsers.current = false;
      written.current = prompt;
    }
    // What is seen may lag behind what was written last, but then that begins with it.
    else if (!written.current.startsWith(prompt)) isTheUsers.current = true;
    setFormer(isOfNewPicture ? "" : prompt);
    if (isOfNewPicture) {
      if (isTheUsers.current) setSuggestion("");
      else fill("");
    }
    return (text) => {
      if (isTheUsers.current) setSuggestion(text);
      else fill(text);
    };
  };
  const edit = (text: string): void => {
    isTheUsers.current = true;
    setPrompt(text);
  };
  return { prompt, suggestion, former, begin, edit, fill };
}
