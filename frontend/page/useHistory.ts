import { useState, useSyncExternalStore } from "react";

import type { AnalyzeAnswer } from "../src/index.ts";
import { PictureHistory, type HistorySnapshot } from "./history.ts";
import { browserStore } from "./historyStore.ts";
import { keptPicture } from "./keptPicture.ts";
import type { Settings } from "./settings.ts";

/** The latest answers, and what is done with them. */
export interface History extends HistorySnapshot {
  /** Gives the id of the entry. */
  remember: (answer: AnalyzeAnswer, picture: File, settings: Settings) => Promise<string>;
  remove: (id: string) => void;
  clear: () => void;
  /** Brings back what was removed; null if nothing was for 10 s. */
  undo: (() => void) | null;
}

/** The latest answers of this browser, in all its tabs; of this page alone where the browser keeps nothing. */
export function useHistory(): History {
  const [history] = useState(() => new PictureHistory(browserStore(), keptPicture));
  const snapshot = useSyncExternalStore(history.subscribe, history.snapshot);
  const { remember, remove, clear, undo } = history;
  return { ...snapshot, remember, remove, clear, undo: snapshot.removed.length > 0 ? undo : null };
}
