import type { ReactElement } from "react";

import type { ImageAnalyzer } from "../src/index.ts";

const READERS = {
  clip: "clip",
  objects: "objects, a small stand-in",
  pixels: "pixels, which only measure",
} as const;

/** Who answered, and how long each stage took. */
export function TimingLine({ analyzer }: { analyzer: ImageAnalyzer }): ReactElement | null {
  const { timings } = analyzer;
  if (timings === null) return null;
  const stages = (["decode", "analysis", "prompt", "total"] as const).flatMap((stage) => {
    const milliseconds = timings[stage];
    return milliseconds == null ? [] : [`${stage}\u00a0${duration(milliseconds)}`];
  });
  const facts = [
    analyzer.analyzer !== null && `read by ${READERS[analyzer.analyzer]}`,
    analyzer.cached && "remembered from before",
    analyzer.promptSource !== null && `prompt by ${analyzer.model ?? analyzer.promptSource}`,
    ...stages,
  ];
  return <p className="timings">{facts.filter(Boolean).join(" · ")}</p>;
}

function duration(milliseconds: number): string {
  return milliseconds < 1000 ? `${milliseconds.toFixed(0)}\u00a0ms` : `${(milliseconds / 1000).toFixed(1)}\u00a0s`;
}
