"use client";

import type { ReactElement } from "react";

import { useCopied } from "./useCopied.ts";

/** Copies a prompt. */
export function CopyButton({ text, children }: { text: string; children: string }): ReactElement {
  const { copied, copy } = useCopied();
  return (
    <>
      <button
        type="button"
        disabled={text === ""}
        onClick={() => {
          copy(text);
        }}
      >
        {children}
      </button>
      <span className="copied" role="status">
        {copied !== null && "Copied."}
      </span>
    </>
  );
}
