import type { ReactElement } from "react";

import type { Colour } from "../src/index.ts";
import { useCopied } from "./useCopied.ts";

/** The measured colours, each as wide as its share; a click copies the hex code. */
export function PaletteSwatches({ palette }: { palette: readonly Colour[] }): ReactElement {
  const { copied, copy } = useCopied();
  return (
    <section aria-label="Palette">
      <ul className="palette">
        {palette.map(({ hex, share }) => (
          <li key={hex} style={{ flexGrow: share }}>
            <button
              type="button"
              title={`${String(Math.round(share * 100))} % of the picture; click to copy`}
              onClick={() => {
                copy(hex);
              }}
            >
              <span className="swatch" style={{ backgroundColor: hex }} />
              <code>{copied === hex ? "copied" : hex}</code>
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
