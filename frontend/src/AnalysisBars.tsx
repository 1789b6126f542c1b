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

export interface AnalysisBarsProps {
  analysis: Analysis;
  /** By category; of one that is not there, its name is made a title: "Time of day" of `time_of_day`. */
  titles?: Readonly<Partial<Record<string, string>>> | undefined;
}

/** Each category that came and is not empty, each label's score as a horizontal bar. */
export function AnalysisBars({ analysis, titles = TITLES }: AnalysisBarsProps): ReactElement {
  const found = Object.entries(analysis).filter(([, labels]) => labels.length > 0);
  return (
    <div className="ia-bars">
      {found.map(([category, labels]) => {
        const words = category.replaceAll("_", " ");
        const title = titles[category] ?? words.charAt(0).toUpperCase() + words.slice(1);
        return (
          <section key={category} className="ia-finding" aria-label={title}>
            <h2>{title}</h2>
            <ul>
              {labels.map((label) => (
                <Bar key={label.value} label={label} />
              ))}
            </ul>
          </section>
        );
      })}
    </div>
  );
}

function Bar({ label }: { label: ScoredLabel }): ReactElement {
  const percent = `${String(Math.round(label.score * 100))} %`;
  return (
    <li className="ia-bar">
      <span>{label.value}</span>
      <span>{percent}</span>
      <span className="ia-bar-track" aria-hidden="true">
        <span style={{ width: `${String(label.score * 100)}%` }} />
      </span>
    </li>
  );
}
