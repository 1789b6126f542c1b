"use client";

import type { ReactElement } from "react";

import type { Texts } from "./texts.ts";
import type { AnalyzeFailure } from "./useImageAnalyzer.ts";

/** Why there is no answer: in a visitor's words where there are some, with the service's own behind them. */
export function Failure({ failure, texts }: { failure: AnalyzeFailure; texts: Texts }): ReactElement {
  const { code, error, retryAfterS } = failure;
  const told = texts.errors[code];
  return (
    <div className="ia-error">
      <p role="alert">
        {[told ?? error, told !== undefined && retryAfterS !== undefined && texts.tryAgainIn(retryAfterS)]
          .filter(Boolean)
          .join(" ")}
      </p>
      {told !== undefined && (
        <details>
          <summary>{texts.forTheOperator}</summary>
          <p>{error}</p>
        </details>
      )}
    </div>
  );
}
