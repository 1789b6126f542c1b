"use client";

import { useCallback, useEffect, useState } from "react";

const SHOWN_MS = 1500;

/** Copies a text, and tells for a moment which one was copied. */
export function useCopied(): { copied: string | null; copy: (text: string) => void } {
  const [copied, setCopied] = useState<string | null>(null);
  useEffect(() => {
    if (copied === null) return;
    const timer = setTimeout(() => {
      setCopied(null);
    }, SHOWN_MS);
    return () => {
      clearTimeout(timer);
    };
  }, [copied]);
  const copy = useCallback((text: string) => {
    void copyText(text).then((done) => {
      if (done) setCopied(text);
    });
  }, []);
  return { copied, copy };
}

/** Browsers give the clipboard only to pages over HTTPS or on localhost; elsewhere the old command still works. */
async function copyText(text: string): Promise<boolean> {
  if (globalThis.isSecureContext) {
    const done = await navigator.clipboard.writeText(text).then(
      () => true,
      () => false, // The user, or the page around ours, forbids it.
    );
    if (done) return true;
  }
  const carrier = document.createElement("textarea");
  carrier.value = text;
  const focused = document.activeElement;
  document.body.append(carrier);
  carrier.select();
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- the only way without HTTPS
  const done = document.execCommand("copy");
  carrier.remove();
  if (focused instanceof HTMLElement) focused.focus();
  return done;
}
