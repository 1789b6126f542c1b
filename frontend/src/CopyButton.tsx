"use client";

import type { ReactElement, ReactNode } from "react";

import { useCopied } from "./useCopied.ts";

export interface CopyButtonProps {
  /** What is copied; nothing can be while it is empty. */
  text: string;
  children: ReactNode;
  /** Shown beside it for a moment. */
  copiedLabel?: string | undefined;
}

/** Copies a text, and says so for a moment. */
export function CopyButton({ text, children, copiedLabel = "Copied" }: CopyButtonProps): ReactElement {
  const { copied, copy } = useCopied();
  return (
    <>
      <button
        type="button"
        className="ia-copy"
        disabled={text === ""}
        onClick={() => {
          copy(text);
        }}
      >
        {children}
      </button>
      <span className="ia-copied" aria-live="polite">
        {copied !== null && copiedLabel}
      </span>
    </>
  );
}
