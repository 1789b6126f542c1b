"use client";

import type { ReactElement } from "react";

import type { Colour } from "./contract.ts";
import { useCopied } from "./useCopied.ts";

export interface PaletteStripProps {
  palette: readonly Colour[];
  title?: string | undefined;
  copiedLabel?: string | undefined;
}

/** The measured colours as one strip, each as wide as its share of the picture; a click copies its hex code. */
export function PaletteStrip(props: PaletteStripProps): ReactElement | null {
  const { palette, title = "Palette", copiedLabel = "copied" } = props;
  const { copied, copy } = useCopied();
  if (palette.length === 0) return null;
  return (
    <section className="ia-finding" aria-label={title}>
      <h2>{title}</h2>
      <ul className="ia-palette">
        {palette.map(({ hex, share }) => (
          <li key={hex} style={{ flexGrow: share * 100 }}>
            <button
              type="button"
              title={`${hex}, ${String(Math.round(share * 100))} %`}
              onClick={() => {
                copy(hex);
              }}
            >
              <span className="ia-swatch" style={{ backgroundColor: hex }} />
              <code>{copied === hex ? copiedLabel : hex}</code>
            </button>
          </li>
        ))}
      </ul>
      <p className="ia-unseen" aria-live="polite">
        {copied !== null && `${copied} ${copiedLabel}`}
      </p>
    </section>
  );
}
