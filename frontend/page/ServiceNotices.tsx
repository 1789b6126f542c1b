import type { ReactElement } from "react";

import type { ServiceHealth } from "../src/index.ts";

interface Notice {
  part: string;
  /** Why it is missing, and what to do: the same as the warning of an answer. */
  sentence: string;
}

const PARTS = { analyzer: "CLIP, which reads the picture", writer: "Ollama, which writes the prompt" } as const;
const STATES = { ok: "ready", degraded: "answering with a stand-in", error: "not answering" } as const;

/** Tells what is not there, and what to do about it. */
export function noticesOf({ health, error }: ServiceHealth): Notice[] {
  if (error !== null) return [{ part: "The service", sentence: error }];
  return Object.entries(health?.components ?? {})
    .filter(([, component]) => component.status !== "ready")
    .map(([name, component]) => ({
      part: PARTS[name as keyof typeof PARTS],
      sentence: [component.reason, component.remedy].filter(Boolean).join(" "),
    }));
}

/** A box for each part that is missing. */
export function ServiceNotices({ service }: { service: ServiceHealth }): ReactElement {
  return (
    <div className="notices" role="status">
      {noticesOf(service).map(({ part, sentence }) => (
        <p key={part}>
          <strong>{part}, is missing; a stand-in answers.</strong> {sentence}
        </p>
      ))}
    </div>
  );
}

/** One word on the service as a whole. */
export function StatusPill({ service }: { service: ServiceHealth }): ReactElement {
  const status = service.error !== null ? "error" : service.health?.status;
  return (
    <span className="pill" data-status={status}>
      {status === undefined ? "asking …" : STATES[status]}
    </span>
  );
}
