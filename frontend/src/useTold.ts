"use client";

import { useEffect, useRef, useState } from "react";

import { AnalyzerClient, AnalyzerError, type ClientConfig } from "./client.ts";

/** Quiet before the service is asked, in milliseconds: a key that is being typed is sent when it is whole. */
const QUIET_MS = 300;

/** What the service told last when asked; null while it does not: but not for being away a while. Asked anew with other headers, unless a function gives them, and when `again` changes. */
export function useTold<Told>(
  ask: (client: AnalyzerClient, signal: AbortSignal) => Promise<Told>,
  config: ClientConfig,
  again?: unknown,
): Told | null {
  const [told, setTold] = useState<Told | null>(null);
  const latest = useRef({ ask, config });
  useEffect(() => {
    latest.current = { ask, config };
  });
  const headers = JSON.stringify(config.headers);
  useEffect(() => {
    const controller = new AbortController();
    const askOnce = async (): Promise<void> => {
      try {
        const answer = await latest.current.ask(new AnalyzerClient(latest.current.config), controller.signal);
        if (!controller.signal.aborted) setTold(answer);
      } catch (error) {
        if (controller.signal.aborted) return;
        if (!(error instanceof AnalyzerError)) throw error;
        if (error.code !== "unreachable" && error.code !== "not_the_service") setTold(null);
      }
    };
    const timer = setTimeout(() => void askOnce(), QUIET_MS);
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  }, [headers, again]);
  return told;
}
