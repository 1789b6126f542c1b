import type { ReactElement } from "react";

import { useCopied } from "./useCopied.ts";

/** Copies the prompt. */
export function CopyButton({ text }: { text: string }): ReactElement {
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
        Copy the prompt
      </button>
      <span className="copied" role="status">
        {copied !== null && "Copied."}
      </span>
    </>
  );
}
