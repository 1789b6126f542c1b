"use client";

import type { ReactElement } from "react";

import type { Analysis, Category, ScoredLabel } from "./contract.ts";

const TITLES: Readonly<Record<Category, string>> = {
  style: "Style",
  mood: "Mood",
  composition: "Composition",
  color_palette: "Colours",
  subjects: "Subjects",
};

/** Each category that came and is not empty, each label's score as a horizontal bar. */
export function AnalysisBars({ analysis }: { analysis: Analysis }): ReactElement {
  const found = Object.entries(analysis).filter(([, labels]) => labels.length > 0);
  return (
    <>
      {found.map(([category, labels]) => (
        <section key={category} aria-label={titleOf(category)}>
          <h2>{titleOf(category)}</h2>
          <ul>
            {labels.map((label) => (
              <Bar key={label.value} label={label} />
            ))}
          </ul>
        </section>
      ))}
    </>
  );
}

/** Makes a title of another category's name: "Time of day" of `time_of_day`. */
function titleOf(category: string): string {
  const words = category.replaceAll("_", " ");
  return Object.hasOwn(TITLES, category)
    ? TITLES[category as Category]
    : words.charAt(0).toUpperCase() + words.slice(1);
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
