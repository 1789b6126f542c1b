"use client";

import { type ReactElement, useEffect, useState } from "react";

import type { Texts } from "./texts.ts";
import type { ImageAnalyzer } from "./useImageAnalyzer.ts";

/** Before it, nobody counts, in seconds. */
const SHOWN_FROM_S = 2;

/** What is being done, and how far it is: not within the status, of whose every change a screen reader tells. */
export function StageLine({ analyzer, texts }: { analyzer: ImageAnalyzer; texts: Texts }): ReactElement {
  const { uploaded } = analyzer;
  return (
    <div className="ia-stage-line" data-busy={analyzer.isAnalyzing || undefined}>
      <p className="ia-stage" role="status">
        {stageText(analyzer, texts)}
      </p>
      {uploaded !== null && <span className="ia-hint">{Math.round(uploaded * 100)} %</span>}
      {analyzer.isAnalyzing && uploaded === null && <Elapsed picture={analyzer.picture} texts={texts} />}
    </div>
  );
}

function stageText({ stage, uploaded, before, looking, thinking }: ImageAnalyzer, texts: Texts): string {
  if (uploaded !== null) return texts.uploading;
  if (before !== null) return texts.inLine(before);
  if (looking) return texts.looking;
  return thinking ? texts.thinking : texts.stages[stage];
}

function Elapsed({ picture, texts }: { picture: Blob | null; texts: Texts }): ReactElement | null {
  const [seconds, setSeconds] = useState(0);
  useEffect(() => {
    const begun = performance.now();
    const timer = setInterval(() => {
      setSeconds(Math.floor((performance.now() - begun) / 1000));
    }, 1000);
    return () => {
      clearInterval(timer);
    };
  }, [picture]);
  return seconds < SHOWN_FROM_S ? null : <span className="ia-hint">{texts.seconds(seconds)}</span>;
}
