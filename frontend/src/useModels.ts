"use client";

import type { ClientConfig } from "./client.ts";
import type { ModelsAnswer } from "./contract.ts";
import { useTold } from "./useTold.ts";

/**
 * Which models may be asked for, what each can and what is loaded; null while the service does not tell.
 *
 * Asked at the start, with each new set of headers (not those of a function), and whenever `again` changes.
 */
export function useModels(config: ClientConfig = {}, again?: unknown): ModelsAnswer | null {
  return useTold((client, signal) => client.models(signal), config, again);
}
