"use client";

import { type ChangeEvent, type ReactElement, useCallback, useState } from "react";

import { ACCEPTED_PICTURES } from "./acceptedPictures.ts";
import type { Texts } from "./texts.ts";

interface PictureFieldProps {
  file: File | null;
  onPicture: (file: File) => void;
  isDraggedOver: boolean;
  isBusy: boolean;
  isDisabled: boolean;
  texts: Texts;
}

/** The file input as a drop zone that shows the chosen picture. */
export function PictureField(props: PictureFieldProps): ReactElement {
  const { file, onPicture, isDraggedOver, isBusy, isDisabled, texts } = props;
  const choose = (event: ChangeEvent<HTMLInputElement>): void => {
    const chosen = event.target.files?.[0];
    if (chosen !== undefined) onPicture(chosen);
    event.target.value = ""; // So that choosing the same file again is a change too.
  };
  return (
    <label className="ia-picture" data-dragged-over={isDraggedOver || undefined} data-busy={isBusy || undefined}>
      <input className="ia-file" type="file" accept={ACCEPTED_PICTURES} disabled={isDisabled} onChange={choose} />
      {file !== null && <Preview file={file} texts={texts} />}
      <span className="ia-picture-text">
        <span className="ia-picture-action">{file === null ? texts.choosePicture : texts.anotherPicture}</span>
        <span className="ia-hint">{texts.chooseHint}</span>
      </span>
    </label>
  );
}

function Preview({ file, texts }: { file: File; texts: Texts }): ReactElement {
  const [unreadable, setUnreadable] = useState<File | null>(null);
  const show = useCallback(
    (image: HTMLImageElement) => {
      const url = URL.createObjectURL(file);
      image.src = url;
      return () => {
        URL.revokeObjectURL(url);
      };
    },
    [file],
  );
  if (unreadable === file) return <span className="ia-hint">{texts.noPreview}</span>;
  return (
    <img
      ref={show}
      className="ia-preview"
      alt={texts.preview}
      onError={() => {
        setUnreadable(file);
      }}
    />
  );
}
