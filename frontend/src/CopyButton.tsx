import type { ReactElement } from "react";

import { useCopied } from "./useCopied.ts";

export interface CopyButtonProps {
  /** What is copied; nothing can be while it is empty. */
  text: string;
  /** What that is, for those who do not see where the button stands: "the prompt". */
  what: string;
  label?: string | undefined;
  copiedLabel?: string | undefined;
}

/** Copies a text, and says so for a moment. */
export function CopyButton({ text, what, label = "Copy", copiedLabel = "Copied" }: CopyButtonProps): ReactElement {
  const { copied, copy } = useCopied();
  return (
    <>
      <button
        type="button"
        className="ia-copy"
        data-copied={copied !== null || undefined}
        disabled={text === ""}
        onClick={() => {
          copy(text);
        }}
      >
        {label}
        <span className="ia-unseen"> {what}</span>
      </button>
      <span className="ia-copied" aria-live="polite">
        {copied !== null && copiedLabel}
      </span>
    </>
  );
}
