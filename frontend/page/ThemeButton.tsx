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
      className="theme"
      onClick={() => {
        keep("localStorage", KEPT_AS, other);
        setTheme(other);
      }}
    >
      <svg viewBox="0 0 20 20" width="20" height="20" aria-hidden="true" fill="currentcolor">
        <path d="M10 2a8 8 0 1 0 0 16zm1 0v16a8 8 0 0 0 0-16z" fillOpacity="0.25" />
        <path d="M10 2a8 8 0 1 0 0 16z" />
      </svg>
      <span className="unseen">{other === "dark" ? "Dark" : "Light"}</span>
    </button>
  );
}

function themeAtStart(): Theme {
  const kept = recall("localStorage", KEPT_AS);
  if (kept === "light" || kept === "dark") return kept;
  return globalThis.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}
