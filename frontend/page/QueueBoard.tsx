import { type ReactElement, type ReactNode, useEffect, useId, useRef, useState, useSyncExternalStore } from "react";

import { MOST_ENTRIES, MOST_PICTURES, type LeftOut } from "../src/droppedFiles.ts";
import { exported, type ExportKind, save } from "./exports.ts";
import type { PictureQueue, QueuedPicture, QueueState } from "./queue.ts";
import "./queue.css";
import { QueueCard } from "./QueueCard.tsx";

interface QueueBoardProps {
  queue: PictureQueue;
  /** Shows a finished picture with all that is known of it. */
  onOpen: (item: QueuedPicture) => void;
}

const EXPORTS: Readonly<Record<ExportKind, string>> = { txt: "Text files", csv: "CSV", json: "JSON" };

/** Many pictures: how far they are, a card for each, and all prompts as files. Nothing while there are none. */
export function QueueBoard({ queue, onOpen }: QueueBoardProps): ReactElement | null {
  const state = useSyncExternalStore(queue.subscribe, queue.snapshot);
  const [saved, setSaved] = useState<QueueState["pictures"] | null>(null);
  const titleId = useId();
  const board = useRef<HTMLElement>(null);
  const { pictures, activity } = state;
  const total = pictures.length;
  useEffect(() => {
    if (total > 0 && (board.current?.getBoundingClientRect().top ?? 0) < 0) board.current?.scrollIntoView();
  }, [total]);
  const count = (wanted: QueuedPicture["state"]): number =>
    pictures.filter((picture) => picture.state === wanted).length;
  const [done, failed] = [count("done"), count("failed")];
  const isUnsaved = done > 0 && saved !== pictures;
  useWarning(activity !== "idle" || isUnsaved);
  const saveAs = async (kind: ExportKind): Promise<void> => {
    save(await exported(pictures, kind));
    setSaved(pictures);
  };
  const leftOut = leftOutText(state.leftOut);
  if (pictures.length === 0 && leftOut === "") return null;
  const close = (): void => {
    queue.clear();
  };
  return (
    <section className="queue" ref={board} aria-labelledby={titleId}>
      <div className="queue-head">
        <div className="queue-line">
          <div className="queue-title">
            <h2 id={titleId}>{pictures.length === 0 ? "No pictures" : counted(pictures.length, "picture")}</h2>
            <p className="queue-hint" role="status">
              {pictures.length > 0 && progressText(state, done, failed)}
            </p>
          </div>
          <div className="queue-buttons">
            {activity !== "idle" && (
              <button
                type="button"
                className={activity === "stopped" ? "queue-primary" : undefined}
                onClick={() => {
                  if (activity === "stopped") queue.resume();
                  else queue.cancel();
                }}
              >
                {activity === "stopped" ? "Go on" : "Stop"}
              </button>
            )}
            {failed > 1 && (
              <button
                type="button"
                onClick={() => {
                  queue.retry();
                }}
              >
                Retry all {failed}
              </button>
            )}
            <CloseButton loses={isUnsaved ? done : 0} onClose={close} />
          </div>
        </div>
        {pictures.length > 0 && (
          <>
            <progress aria-labelledby={titleId} value={done + failed} max={pictures.length} />
            <div className="queue-line">
              <span className="queue-hint">Save all prompts as</span>
              <div className="queue-buttons queue-exports" role="group" aria-label="Save all prompts as">
                {Object.entries(EXPORTS).map(([kind, name]) => (
                  <button
                    key={kind}
                    type="button"
                    className={kind === "txt" && activity === "idle" && done > 0 ? "queue-primary" : undefined}
                    disabled={done === 0}
                    onClick={() => void saveAs(kind as ExportKind)}
                  >
                    {name}
                  </button>
                ))}
              </div>
            </div>
          </>
        )}
      </div>
      <div className="queue-notices" role="status">
        {activity === "resting" && (
          <p>
            {state.because === null ? "The service asks to wait " : `${state.because} Trying again in `}
            <span aria-live="off">{duration(state.restS)}</span>
            {state.because === null ? "; then it goes on by itself." : "."}
          </p>
        )}
        {activity === "stopped" && state.because !== null && <p>{state.because}</p>}
        {leftOut !== "" && <p className="queue-left-out">{leftOut}</p>}
      </div>
      <ul className="queue-cards">
        {pictures.map((picture) => (
          <QueueCard key={picture.id} picture={picture} queue={queue} onOpen={onOpen} />
        ))}
      </ul>
    </section>
  );
}

/** Asks once more where prompts would be lost. */
function CloseButton({ loses, onClose }: { loses: number; onClose: () => void }): ReactNode {
  const [isAsking, setAsking] = useState(false);
  if (isAsking && loses > 0) {
    return (
      <>
        {/* First, where the button was that asked: a second click loses nothing. */}
        <button
          type="button"
          onClick={() => {
            setAsking(false);
          }}
        >
          Keep
        </button>
        <button type="button" className="queue-danger" onClick={onClose}>
          Lose {counted(loses, "prompt")}
        </button>
      </>
    );
  }
  return (
    <button
      type="button"
      onClick={() => {
        if (loses > 0) setAsking(true);
        else onClose();
      }}
    >
      Close
    </button>
  );
}

/** Has the browser ask before the page is left. */
function useWarning(isWanted: boolean): void {
  useEffect(() => {
    if (!isWanted) return;
    const warn = (event: BeforeUnloadEvent): void => {
      event.preventDefault();
    };
    globalThis.addEventListener("beforeunload", warn);
    return () => {
      globalThis.removeEventListener("beforeunload", warn);
    };
  }, [isWanted]);
}

function progressText({ pictures, activity, leftS }: QueueState, done: number, failed: number): string {
  const all = pictures.length;
  const facts = [
    activity === "stopped" && "Stopped",
    done === all && all > 0 ? "All done" : `${String(done)} of ${String(all)} done`,
    failed > 0 && `${String(failed)} failed`,
    leftS !== null && `about ${duration(leftS)} left`,
  ];
  return facts
    .filter((fact) => fact !== false)
    .map((fact) => fact.replaceAll(" ", "\u00a0"))
    .join(" · ");
}

function leftOutText({ noPictures, unreadable, overLimit, unseen }: LeftOut): string {
  const sentences = [
    noPictures > 0 && (noPictures === 1 ? "1 file is no picture." : `${String(noPictures)} files are no pictures.`),
    unreadable > 0 && `${counted(unreadable, "file")} could not be read.`,
    overLimit > 0 && `${String(MOST_PICTURES)} pictures at a time: ${String(overLimit)} were left out.`,
    unseen && `Of a large folder the first ${MOST_ENTRIES.toLocaleString("en")} files were looked at.`,
  ];
  return sentences.filter(Boolean).join(" ");
}

function counted(count: number, word: string): string {
  return `${String(count)} ${word}${count === 1 ? "" : "s"}`;
}

function duration(seconds: number): string {
  return seconds < 60 ? `${String(Math.ceil(seconds))}\u00a0s` : `${String(Math.ceil(seconds / 60))}\u00a0min`;
}
