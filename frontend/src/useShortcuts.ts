"use client";

import { type KeyboardEvent, useEffect, useEffectEvent } from "react";

import type { Intake } from "./usePictureIntake.ts";

/** What Escape is for first, while it is open. */
const CLOSED_BY_ESCAPE = "dialog[open], :popover-open";

/** Ctrl+Enter (⌘ Enter) runs, Escape stops: within the component, or anywhere on the page. */
export function useShortcuts(
  intake: Intake,
  run: () => void,
  stop: () => void,
): ((event: KeyboardEvent) => void) | undefined {
  const take = (event: KeyboardEvent | globalThis.KeyboardEvent): void => {
    if (event.defaultPrevented) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      run();
    } else if (event.key === "Escape" && document.querySelector(CLOSED_BY_ESCAPE) === null) stop();
  };
  const onDocumentKey = useEffectEvent(take);
  useEffect(() => {
    if (intake !== "document") return;
    const listener = (event: globalThis.KeyboardEvent): void => {
      onDocumentKey(event);
    };
    document.addEventListener("keydown", listener);
    return () => {
      document.removeEventListener("keydown", listener);
    };
  }, [intake]);
  return intake === "component" ? take : undefined;
}
