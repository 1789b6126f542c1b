import { useEffect, useRef, useState } from "react";

import { AnalyzerClient, AnalyzerError, type ClientConfig } from "./client.ts";
import type { ModelsAnswer } from "./contract.ts";

/** Quiet before the service is asked, in milliseconds: a key that is being typed is sent when it is whole. */
const QUIET_MS = 300;

/**
 * Which models may be asked for, what each can and what is loaded; null while the service does not tell.
 *
 * Asked at the start, with each new set of headers, and whenever `again` changes.
 */
export function useModels(config: ClientConfig = {}, again?: unknown): ModelsAnswer | null {
  const [models, setModels] = useState<ModelsAnswer | null>(null);
  const latestConfig = useRef(config);
  useEffect(() => {
    latestConfig.current = config;
  });
  const headers = JSON.stringify(config.headers);
  useEffect(() => {
    const controller = new AbortController();
    const ask = async (): Promise<void> => {
      try {
        const told = await new AnalyzerClient(latestConfig.current).models(controller.signal);
        if (!controller.signal.aborted) setModels(told);
      } catch (error) {
        if (controller.signal.aborted) return;
        if (!(error instanceof AnalyzerError)) throw error;
        setModels(null);
      }
    };
    const timer = setTimeout(() => void ask(), QUIET_MS);
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  }, [headers, again]);
  return models;
}
