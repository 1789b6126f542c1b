import { type ReactElement, useEffect, useState } from "react";

import { keep, recall } from "./storage.ts";

type Theme = "light" | "dark";

const KEPT_AS = "image-analyzer-theme";

/** Changes between light and dark; begins with what was chosen before, otherwise with what the system wants. */
export function ThemeButton(): ReactElement {
  const [theme, setTheme] = useState<Theme>(themeAtStart);
  useEffect(() => {
    document.documentElement.style.colorScheme = theme;
  }, [theme]);
  const other = theme === "dark" ? "light" : "dark";
  return (
    <button
      type="button"
      onClick={() => {
        keep("localStorage", KEPT_AS, other);
        setTheme(other);
      }}
    >
      {other === "dark" ? "Dark" : "Light"}
    </button>
  );
}

function themeAtStart(): Theme {
  const kept = recall("localStorage", KEPT_AS);
  if (kept === "light" || kept === "dark") return kept;
  return globalThis.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}
