"use client";

import type { ClientConfig } from "./client.ts";
import type { TargetsAnswer } from "./contract.ts";
import { useTold } from "./useTold.ts";

/** What a prompt may be written for; null while the service does not tell. Asked as `useModels` asks. */
export function useTargets(config: ClientConfig = {}, again?: unknown): TargetsAnswer | null {
  return useTold((client, signal) => client.targets(signal), config, again);
}
