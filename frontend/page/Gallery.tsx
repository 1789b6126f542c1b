import { type ReactElement, useRef, useState } from "react";

import { Compare } from "./Compare.tsx";
import type { Remembered } from "./history.ts";
import { StoredPicture } from "./StoredPicture.tsx";
import type { History } from "./useHistory.ts";
import "./gallery.css";

/** Whole rows of two, three, four and six. */
const SHOWN_AT_FIRST = 12;

/** With none, with one chosen. */
const HINTS = ["Choose two to compare.", "Choose one more."];

interface GalleryProps {
  history: History;
  /** The entry that is on the page. */
  openId: string | null;
  onOpen: (entry: Remembered) => void;
}

/** The latest pictures with their prompts: to open again, to compare, to remove. */
export function Gallery({ history, openId, onOpen }: GalleryProps): ReactElement | null {
  const { entries, removed, isKept, undo } = history;
  const [showsAll, setShowsAll] = useState(false);
  /** The ids to compare; null outside that mode. */
  const [chosen, setChosen] = useState<readonly string[] | null>(null);
  const title = useRef<HTMLHeadingElement>(null);
  if (entries.length === 0 && undo === null) return null;

  const isChoosing = chosen !== null && entries.length > 1;
  const picked = isChoosing ? entries.filter(({ id }) => chosen.includes(id)) : [];
  const [newer, older] = picked;
  const shown = showsAll ? entries : entries.slice(0, SHOWN_AT_FIRST);
  /** For what takes its own button off the page; focus must go on from somewhere. */
  const keepFocus = (): void => {
    title.current?.focus({ preventScroll: true });
  };
  const choose = (entry: Remembered): void => {
    if (!isChoosing) onOpen(entry);
    else if (chosen.includes(entry.id)) setChosen(chosen.filter((id) => id !== entry.id));
    else setChosen([...picked.map(({ id }) => id), entry.id]);
  };

  return (
    <section className="gallery" aria-labelledby="gallery-title">
      <div className="gallery-head">
        <h2 id="gallery-title" ref={title} tabIndex={-1}>
          History <span className="gallery-count">{entries.length}</span>
        </h2>
        <p className="gallery-told" role="status">
          {undo !== null && (
            <>
              {removed.length === 1 ? "Removed." : `Removed ${String(removed.length)}.`}{" "}
              <button
                type="button"
                onClick={() => {
                  undo();
                  keepFocus();
                }}
              >
                Undo
              </button>
            </>
          )}
          {undo === null && isChoosing && HINTS[picked.length]}
        </p>
        {entries.length > 1 && (
          <button
            type="button"
            onClick={() => {
              setChosen(isChoosing ? null : []);
            }}
          >
            {isChoosing ? "Stop comparing" : "Compare"}
          </button>
        )}
        {entries.length > 0 && !isChoosing && (
          <button
            type="button"
            onClick={() => {
              history.clear();
              keepFocus();
            }}
          >
            Clear history
          </button>
        )}
      </div>
      <ul className="gallery-grid">
        {shown.map((entry) => {
          const { id, filename, thumbnail, answer, settings } = entry;
          const isPicked = picked.includes(entry);
          return (
            <li key={id} className="gallery-card" data-picked={isPicked || undefined}>
              <button
                type="button"
                className="gallery-open"
                title={filename}
                aria-current={id === openId && !isChoosing ? "true" : undefined}
                aria-pressed={isChoosing ? isPicked : undefined}
                onClick={() => {
                  choose(entry);
                }}
              >
                <StoredPicture blob={thumbnail} alt={filename} className="gallery-thumbnail" />
                <span className="gallery-prompt" dir="auto" lang={settings.language}>
                  {answer.generatedPrompt}
                </span>
              </button>
              {!isChoosing && (
                <button
                  type="button"
                  className="gallery-remove"
                  aria-label={`Remove ${filename}`}
                  title="Remove"
                  onClick={() => {
                    history.remove(id);
                    keepFocus();
                  }}
                >
                  <svg viewBox="0 0 16 16" aria-hidden="true">
                    <path d="m4 4 8 8M12 4l-8 8" />
                  </svg>
                </button>
              )}
            </li>
          );
        })}
      </ul>
      {entries.length > 0 && (
        <p className="gallery-foot">
          {shown.length < entries.length && (
            <button
              type="button"
              onClick={() => {
                setShowsAll(true);
              }}
            >
              Show all {entries.length}
            </button>
          )}
          <span>
            {isKept
              ? "Kept in this browser alone."
              : "Your browser does not keep all of this: it may be gone when you close the page."}
          </span>
        </p>
      )}
      {newer !== undefined && older !== undefined && (
        <Compare
          pair={[older, newer]}
          onClose={() => {
            setChosen(null);
          }}
        />
      )}
    </section>
  );
}
