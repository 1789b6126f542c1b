"use client";

import { type ChangeEvent, type ReactElement, type ReactNode, useCallback, useRef, useState } from "react";

import { ACCEPTED_PICTURES } from "./acceptedPictures.ts";
import type { Texts } from "./texts.ts";

interface PictureFieldProps {
  file: File | null;
  onFiles: (files: File[]) => void;
  onRemove: () => void;
  takesMany: boolean;
  isDraggedOver: boolean;
  isBusy: boolean;
  isDisabled: boolean;
  texts: Texts;
  /** Shown below. */
  children: ReactNode;
}

/** The file input as a drop zone that shows the chosen picture; on a phone its camera as well. */
export function PictureField(props: PictureFieldProps): ReactElement {
  const { file, onFiles, isDraggedOver, isBusy, isDisabled, texts } = props;
  const choose = (event: ChangeEvent<HTMLInputElement>): void => {
    const chosen = Array.from(event.target.files ?? []);
    event.target.value = ""; // So that choosing the same file again is a change too.
    if (chosen.length > 0) onFiles(chosen);
  };
  const chooser = useRef<HTMLInputElement>(null);
  const input = { className: "ia-file", type: "file", disabled: isDisabled, onChange: choose };
  return (
    <div className="ia-picture-frame">
      <label className="ia-picture" data-dragged-over={isDraggedOver || undefined} data-busy={isBusy || undefined}>
        <input {...input} ref={chooser} accept={ACCEPTED_PICTURES} multiple={props.takesMany} />
        {file !== null && <Preview file={file} texts={texts} />}
        <span className="ia-picture-text">
          <span className="ia-picture-action">{file === null ? texts.choosePicture : texts.anotherPicture}</span>
          <span className="ia-hint">{texts.chooseHint}</span>
        </span>
      </label>
      {file !== null && (
        <button
          type="button"
          className="ia-remove"
          disabled={isDisabled}
          onClick={() => {
            props.onRemove();
            chooser.current?.focus();
          }}
        >
          <span aria-hidden="true">×</span>
          <span className="ia-unseen">{texts.removePicture}</span>
        </button>
      )}
      <label className="ia-camera">
        <input {...input} accept="image/*" capture="environment" />
        {texts.takePhoto}
      </label>
      {props.children}
    </div>
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
