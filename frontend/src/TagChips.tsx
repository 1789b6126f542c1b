"use client";

import type { ReactElement } from "react";

import type { ScoredTag } from "./contract.ts";

/** What is seen in the picture, surest first. */
export function TagChips({ tags }: { tags: readonly ScoredTag[] }): ReactElement | null {
  if (tags.length === 0) return null;
  return (
    <section aria-label="Tags">
      <h2>Tags</h2>
      <ul className="tags">
        {tags.map(({ value, group, score }) => (
          <li key={`${group} ${value}`} className="pill" title={`${group}, ${String(Math.round(score * 100))} %`}>
            {value}
          </li>
        ))}
      </ul>
    </section>
  );
}
