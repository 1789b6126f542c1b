"use client";

import { type ClipboardEvent, type DragEvent, useEffect, useEffectEvent, useState } from "react";

import { type Dropped, droppedPictures, type LeftOut } from "./droppedFiles.ts";

/** Where dropped and pasted pictures are taken: within the component, or anywhere on the page. */
export type Intake = "component" | "document";

interface IntakeHandlers {
  onDragEnter: (event: DragEvent) => void;
  onDragOver: (event: DragEvent) => void;
  onDragLeave: (event: DragEvent) => void;
  onDrop: (event: DragEvent) => void;
  onPaste: (event: ClipboardEvent) => void;
}

/**
 * Takes dropped and pasted pictures, of folders too; gives handlers for the component's root, and whether something is
 * being held over it. There may be no pictures among the files: then it is told what was left out.
 */
export function usePictureIntake(
  intake: Intake,
  onPictures: (files: File[], leftOut: LeftOut) => void,
): { isDraggedOver: boolean; handlers: IntakeHandlers | undefined } {
  const [isDraggedOver, setDraggedOver] = useState(false);

  const over = (event: DragEvent | globalThis.DragEvent): void => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    setDraggedOver(true);
  };
  const leave = (event: DragEvent | globalThis.DragEvent): void => {
    // Leaving one of our elements for another one is no leaving.
    const { currentTarget, relatedTarget } = event;
    if (currentTarget instanceof Node && relatedTarget instanceof Node && currentTarget.contains(relatedTarget)) return;
    setDraggedOver(false);
  };
  const drop = (event: DragEvent | globalThis.DragEvent): void => {
    setDraggedOver(false);
    take(event, event.dataTransfer);
  };
  const paste = (event: ClipboardEvent | globalThis.ClipboardEvent): void => {
    // A table comes as text and as its picture: whoever types wants the text.
    const isTyping = event.target instanceof Element && event.target.matches("textarea, input");
    if (isTyping && event.clipboardData?.types.includes("text/plain")) return;
    take(event, event.clipboardData);
  };
  const take = (event: { preventDefault: () => void }, data: DataTransfer | null): void => {
    if (data === null || data.files.length === 0) return;
    event.preventDefault();
    const give = ({ pictures, leftOut }: Dropped): void => {
      onPictures(pictures, leftOut);
    };
    const dropped = droppedPictures(data);
    if (dropped instanceof Promise) void dropped.then(give);
    else give(dropped);
  };

  const onDocumentOver = useEffectEvent(over);
  const onDocumentLeave = useEffectEvent(leave);
  const onDocumentDrop = useEffectEvent(drop);
  const onDocumentPaste = useEffectEvent(paste);
  useEffect(() => {
    if (intake !== "document") return;
    const listening = new AbortController();
    const { signal } = listening;
    document.addEventListener(
      "dragenter",
      (event) => {
        onDocumentOver(event);
      },
      { signal },
    );
    document.addEventListener(
      "dragover",
      (event) => {
        onDocumentOver(event);
      },
      { signal },
    );
    document.addEventListener(
      "dragleave",
      (event) => {
        onDocumentLeave(event);
      },
      { signal },
    );
    document.addEventListener(
      "drop",
      (event) => {
        onDocumentDrop(event);
      },
      { signal },
    );
    document.addEventListener(
      "paste",
      (event) => {
        onDocumentPaste(event);
      },
      { signal },
    );
    return () => {
      listening.abort();
    };
  }, [intake]);

  const handlers =
    intake === "component"
      ? { onDragEnter: over, onDragOver: over, onDragLeave: leave, onDrop: drop, onPaste: paste }
      : undefined;
  return { isDraggedOver, handlers };
}
