"use client";

import type { ReactElement } from "react";

import type { Colour } from "./contract.ts";
import { useCopied } from "./useCopied.ts";

/** The measured colours, each with its share of the picture; a click copies its hex code. */
export function PaletteStrip({ palette }: { palette: readonly Colour[] }): ReactElement {
  const { copied, copy } = useCopied();
  return (
    <section aria-label="Palette">
      <h2>Palette</h2>
      <ul className="palette">
        {palette.map(({ hex, share }) => (
          <li key={hex}>
            <button
              type="button"
              title="Click to copy"
              onClick={() => {
                copy(hex);
              }}
            >
              <span className="swatch" style={{ backgroundColor: hex }} />
              <code>{hex}</code>
              <span className="share">{Math.round(share * 100)} %</span>
            </button>
          </li>
        ))}
      </ul>
      <p className="unseen" role="status">
        {copied !== null && `${copied} copied`}
      </p>
    </section>
  );
}
