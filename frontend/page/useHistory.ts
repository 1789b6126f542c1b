import { useCallback, useState } from "react";

import type { AnalyzeAnswer } from "../src/index.ts";
import { keep, recall } from "./storage.ts";

/** An answer of this browser session. */
export interface Remembered {
  id: string;
  filename: string;
  /** A `data:` URL; empty if the browser cannot show the picture. */
  thumbnail: string;
  prompt: string;
}

export interface History {
  entries: readonly Remembered[];
  remember: (answer: AnalyzeAnswer, picture: File) => Promise<void>;
  clear: () => void;
}

const KEPT_AS = "image-analyzer-history";
/** Of some 5 KB each; browsers keep 5 MB per session. */
const MOST_ENTRIES = 20;
const THUMBNAIL_PX = 96;

/** The latest answers, newest first; they go with the browser's tab. */
export function useHistory(): History {
  const [entries, setEntries] = useState<readonly Remembered[]>(recalled);
  const remember = useCallback(async (answer: AnalyzeAnswer, picture: File) => {
    const entry: Remembered = {
      id: `${String(Date.now())} ${picture.name}`,
      filename: picture.name,
      thumbnail: await thumbnailOf(picture),
      prompt: answer.generatedPrompt,
    };
    setEntries((before) => kept([entry, ...before].slice(0, MOST_ENTRIES)));
  }, []);
  const clear = useCallback(() => {
    setEntries(kept([]));
  }, []);
  return { entries, remember, clear };
}

function recalled(): readonly Remembered[] {
  return JSON.parse(recall("sessionStorage", KEPT_AS) ?? "[]") as Remembered[];
}

function kept(entries: readonly Remembered[]): readonly Remembered[] {
  keep("sessionStorage", KEPT_AS, JSON.stringify(entries));
  return entries;
}

async function thumbnailOf(picture: File): Promise<string> {
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(picture);
  } catch {
    return ""; // TIFF, in most browsers.
  }
  const scale = THUMBNAIL_PX / Math.max(bitmap.width, bitmap.height);
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext("2d")?.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas.toDataURL("image/webp", 0.8);
}
