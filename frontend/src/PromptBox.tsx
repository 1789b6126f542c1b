"use client";

import { type ReactElement, type ReactNode, useLayoutEffect, useRef } from "react";

/** How near its end, in pixels, a reader follows what is written there. */
const NEAR_PX = 24;

interface PromptBoxProps {
  id: string;
  value: string;
  /** Of the text. */
  language: string | undefined;
  placeholder?: string | undefined;
  isBusy?: boolean | undefined;
  isDisabled?: boolean | undefined;
  describedBy?: string | undefined;
  /** Without it the box is for reading. */
  onChange?: ((text: string) => void) | undefined;
  /** Shown in its corner. */
  children: ReactNode;
}

/**
 * A text that may still grow: the box grows with it, and follows its end unless the reader scrolled back.
 *
 * What is added is put behind what is there, so that a selection stays: React would set the whole value anew.
 */
export function PromptBox(props: PromptBoxProps): ReactElement {
  const { value, language, isBusy = false, onChange } = props;
  const box = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => {
    const { current: area } = box;
    if (area === null) return;
    const follows = area.scrollHeight - area.clientHeight - area.scrollTop < NEAR_PX;
    const { length } = area.value;
    if (value.startsWith(area.value)) area.setRangeText(value.slice(length), length, length, "preserve");
    else area.value = value;
    if (!CSS.supports("field-sizing", "content")) {
      area.style.height = "auto";
      area.style.height = `${String(area.scrollHeight)}px`;
    }
    if (isBusy && follows) area.scrollTop = area.scrollHeight;
  });
  return (
    <div className="ia-box" data-busy={isBusy || undefined}>
      <textarea
        ref={box}
        id={props.id}
        dir="auto"
        lang={language}
        defaultValue={value}
        placeholder={props.placeholder}
        disabled={props.isDisabled}
        readOnly={onChange === undefined}
        aria-busy={isBusy}
        aria-describedby={props.describedBy}
        onChange={(event) => {
          onChange?.(event.target.value);
        }}
      />
      <div className="ia-corner">{props.children}</div>
    </div>
  );
}
