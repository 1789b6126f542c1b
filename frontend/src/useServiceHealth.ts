"use client";

import { useEffect, useRef, useState } from "react";

import { AnalyzerClient, AnalyzerError, type ClientConfig } from "./client.ts";
import type { HealthAnswer } from "./contract.ts";

/** The service's state as last heard: its own answer, or why there is none; both null before the first. */
export interface ServiceHealth {
  health: HealthAnswer | null;
  error: string | null;
}

/** How often the service is asked, in milliseconds: a part that comes back is seen while one looks. */
export const HEALTH_INTERVAL_MS = 10_000;

/** Asks the service how it stands, at once and then again and again while the page is seen. */
export function useServiceHealth(config: ClientConfig = {}, intervalMs: number = HEALTH_INTERVAL_MS): ServiceHealth {
  const [state, setState] = useState<ServiceHealth>({ health: null, error: null });
  const latestConfig = useRef(config);
  useEffect(() => {
    latestConfig.current = config;
  });
  useEffect(() => {
    const controller = new AbortController();
    const ask = async (): Promise<void> => {
      if (document.visibilityState === "hidden") return;
      try {
        const health = await new AnalyzerClient(latestConfig.current).health(controller.signal);
        if (!controller.signal.aborted) setState({ health, error: null });
      } catch (error) {
        if (controller.signal.aborted) return;
        if (!(error instanceof AnalyzerError)) throw error;
        setState({ health: null, error: error.message });
      }
    };
    const askNow = (): void => void ask();
    askNow();
    const timer = setInterval(askNow, intervalMs);
    document.addEventListener("visibilitychange", askNow);
    return () => {
      controller.abort();
      clearInterval(timer);
      document.removeEventListener("visibilitychange", askNow);
    };
  }, [intervalMs]);
  return state;
}
