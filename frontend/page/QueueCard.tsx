import { memo, type ReactElement, useCallback, useState } from "react";

import { pathOf } from "../src/droppedFiles.ts";
import { useCopied } from "../src/index.ts";
import type { PictureQueue, QueuedPicture } from "./queue.ts";
import { thumbnailOf } from "./queueThumbnail.ts";

const STATES: Readonly<Record<QueuedPicture["state"], string>> = {
  waiting: "Waiting",
  reading: "Looking at it …",
  writing: "Writing …",
  done: "Done",
  failed: "Failed",
};

interface CardProps {
  picture: QueuedPicture;
  queue: PictureQueue;
  onOpen: (item: QueuedPicture) => void;
}

/** One picture of the queue: is drawn anew only when it is what changed. */
export const QueueCard = memo(function QueueCard({ picture, queue, onOpen }: CardProps): ReactElement {
  const { id, file, state, prompt, failure } = picture;
  const { copied, copy } = useCopied();
  const path = pathOf(file);
  const of = <span className="unseen"> {path}</span>;
  return (
    <li className="queue-card" data-state={state}>
      <Thumbnail file={file} />
      <div className="queue-name">
        <strong title={path}>{file.name}</strong>
        <span className="queue-state">{STATES[state]}</span>
      </div>
      {failure === null ? (
        <div className="queue-prompt">
          <p dir="auto">{prompt}</p>
        </div>
      ) : (
        <p className="queue-failure">{failure}</p>
      )}
      <div className="queue-buttons">
        {state === "done" && (
          <>
            <button
              type="button"
              className="queue-open"
              onClick={() => {
                onOpen(picture);
              }}
            >
              Open{of}
            </button>
            <button
              type="button"
              onClick={() => {
                copy(prompt);
              }}
            >
              {copied === null ? "Copy" : "Copied"}
              {of}
            </button>
          </>
        )}
        {state === "failed" && (
          <button
            type="button"
            onClick={() => {
              queue.retry(id);
            }}
          >
            Retry{of}
          </button>
        )}
      </div>
    </li>
  );
});

/** Is made when the card comes near what is seen. */
function Thumbnail({ file }: { file: File }): ReactElement {
  const [isUnshowable, setUnshowable] = useState(false);
  const show = useCallback(
    (image: HTMLImageElement) => {
      const here = new AbortController();
      const near = new IntersectionObserver(
        (entries) => {
          if (!entries.some((entry) => entry.isIntersecting)) return;
          near.disconnect();
          void thumbnailOf(file, here.signal).then((thumbnail) => {
            if (here.signal.aborted) return;
            if (thumbnail === null) setUnshowable(true);
            else image.src = URL.createObjectURL(thumbnail);
          });
        },
        { rootMargin: "400px" },
      );
      near.observe(image);
      return () => {
        here.abort();
        near.disconnect();
        URL.revokeObjectURL(image.src);
      };
    },
    [file],
  );
  if (isUnshowable) return <span className="queue-thumbnail">{/[^.]*$/.exec(file.name)?.[0].toUpperCase()}</span>;
  return (
    <span className="queue-thumbnail">
      <img ref={show} alt="" />
    </span>
  );
}
