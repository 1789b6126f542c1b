"use client";

import type { ReactElement } from "react";

import type { ScoredTag } from "./contract.ts";

export interface TagChipsProps {
  /** Surest first. */
  tags: readonly ScoredTag[];
  /** Those of them that are switched off. */
  off?: readonly string[] | undefined;
  /** Makes each a switch. */
  onToggle?: ((value: string) => void) | undefined;
  title?: string | undefined;
}

/** What is seen in the picture; each can be switched off, where somebody listens. */
export function TagChips({ tags, off = [], onToggle, title = "Tags" }: TagChipsProps): ReactElement | null {
  if (tags.length === 0) return null;
  return (
    <section className="ia-finding" aria-label={title}>
      <h2>{title}</h2>
      <ul className="ia-tags">
        {tags.map(({ value, group, score }) => {
          const told = `${group}, ${String(Math.round(score * 100))} %`;
          return (
            <li key={`${group} ${value}`}>
              {onToggle === undefined ? (
                <span className="ia-tag" title={told}>
                  {value}
                </span>
              ) : (
                <button
                  type="button"
                  className="ia-tag"
                  title={told}
                  aria-pressed={!off.includes(value)}
                  onClick={() => {
                    onToggle(value);
                  }}
                >
                  {value}
                </button>
              )}
            </li>
          );
        })}
      </ul>
    </section>
  );
}
