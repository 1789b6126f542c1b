import { useState } from "react";

import { keep, recall } from "./storage.ts";

const KEPT_AS = "image-analyzer-key";

const NOT_IN_A_HEADER = /[^\x21-\x7e]/g;

/** The key that is sent with every picture; kept for as long as the tab is open. */
export function useApiKey(): [string, (typed: string) => void] {
  const [apiKey, setApiKey] = useState(() => recall("sessionStorage", KEPT_AS) ?? "");
  const change = (typed: string): void => {
    const sendable = typed.replace(NOT_IN_A_HEADER, "");
    keep("sessionStorage", KEPT_AS, sendable);
    setApiKey(sendable);
  };
  return [apiKey, change];
}
