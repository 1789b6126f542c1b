import type { ReactElement } from "react";

import type { Analysis, Category, ScoredLabel } from "../src/index.ts";

const TITLES: Readonly<Record<Category, string>> = {
  style: "Style",
  mood: "Mood",
  composition: "Composition",
  color_palette: "Colours",
  subjects: "Subjects",
};

/** The five categories, each label's score as a horizontal bar. */
export function AnalysisBars({ analysis }: { analysis: Analysis }): ReactElement {
  return (
    <>
      {(Object.keys(TITLES) as Category[]).map((category) => (
        <section key={category} aria-label={TITLES[category]}>
          <h2>{TITLES[category]}</h2>
          <ul>
            {analysis[category].map((label) => (
              <Bar key={label.value} label={label} />
            ))}
          </ul>
        </section>
      ))}
    </>
  );
}

function Bar({ label }: { label: ScoredLabel }): ReactElement {
  const percent = `${String(Math.round(label.score * 100))} %`;
  return (
    <li className="bar">
      <span>{label.value}</span>
      <span>{percent}</span>
      <span className="bar-track" aria-hidden="true">
        <span style={{ width: `${String(label.score * 100)}%` }} />
      </span>
    </li>
  );
}
