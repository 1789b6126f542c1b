import type { ReactElement } from "react";

import { DEFAULT_TEXTS, type ImageAnalyzer } from "../src/index.ts";

const READERS = { clip: "CLIP", objects: "a small stand-in", pixels: "a stand-in that only measures" } as const;

interface DetailsProps {
  analyzer: ImageAnalyzer;
  /** Sentences that the status tells already. */
  told: ReadonlySet<string>;
}

/** Who read and who wrote, how long that took, and what would make the answer better; nothing while it is written. */
export function Details({ analyzer, told }: DetailsProps): ReactElement | null {
  const { timings, promptSource, stage } = analyzer;
  if (timings === null || stage !== "complete") return null;
  const reader = analyzer.analyzer === null ? "nobody" : READERS[analyzer.analyzer];
  const writer =
    promptSource === "template" ? "put together from what was seen" : `written by ${analyzer.model ?? "a model"}`;
  const facts: [string, string][] = [
    ["Picture", `read by ${reader}${timings.analysis == null ? "" : ` in ${duration(timings.analysis)}`}`],
    ["Prompt", `${writer}${timings.prompt == null ? "" : ` in ${duration(timings.prompt)}`}`],
    ["In all", `${duration(timings.total)}${analyzer.cached ? ", the picture was known from before" : ""}`],
  ];
  if (analyzer.vision) facts.splice(1, 0, ["Looked at", "by the model that wrote"]);
  if (analyzer.aspectRatio !== null)
    facts.push(["Shape", [analyzer.aspectRatio, analyzer.size].filter(Boolean).join(", ")]);
  const warnings = analyzer.warnings
    .filter((warning) => !told.has(warning))
    .map((warning) => warning.replaceAll("user_prompt", `“${DEFAULT_TEXTS.userPrompt}”`));
  return (
    <details className="details">
      <summary>Details{warnings.length > 0 && `, and what would make it better (${String(warnings.length)})`}</summary>
      <dl>
        {facts.map(([name, fact]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{fact}</dd>
          </div>
        ))}
      </dl>
      {warnings.length > 0 && (
        <ul aria-label="What would make this answer better">
          {warnings.map((warning) => (
            <li key={warning}>{warning}</li>
          ))}
        </ul>
      )}
    </details>
  );
}

function duration(milliseconds: number): string {
  return milliseconds < 1000 ? `${milliseconds.toFixed(0)}\u00a0ms` : `${(milliseconds / 1000).toFixed(1)}\u00a0s`;
}
