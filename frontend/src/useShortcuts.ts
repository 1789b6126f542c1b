"use client";

import { type KeyboardEvent, useEffect, useEffectEvent } from "react";

import type { Intake } from "./usePictureIntake.ts";

/** What keys are for first, while it is open. */
const OVER_ALL = "dialog[open], :popover-open";

/** Ctrl+Enter (⌘ Enter) runs, Escape stops: within the component, or anywhere on the page. */
export function useShortcuts(
  intake: Intake,
  run: () => void,
  stop: () => void,
): ((event: KeyboardEvent) => void) | undefined {
  const take = (event: KeyboardEvent | globalThis.KeyboardEvent): void => {
    const { isComposing } = "nativeEvent" in event ? event.nativeEvent : event;
    if (event.defaultPrevented || isComposing || document.querySelector(OVER_ALL) !== null) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      run();
    } else if (event.key === "Escape") stop();
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
