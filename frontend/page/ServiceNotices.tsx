import type { ReactElement } from "react";

import type { ServiceHealth } from "../src/index.ts";

interface Notice {
  title: string;
  /** Why it is missing, and what to do: the same as the warning of an answer. */
  sentence: string;
}

const PARTS = { analyzer: "CLIP, which reads the picture", writer: "Ollama, which writes the prompt" } as const;
const CONSEQUENCES = { fallback: "is missing; a stand-in answers", unavailable: "is missing" } as const;
const STATES = { ok: "ready", degraded: "answering with a stand-in", error: "not answering" } as const;

/** Tells what is not there, and what to do about it. */
export function noticesOf({ health, error }: ServiceHealth): Notice[] {
  if (error !== null) return [{ title: "The service does not answer.", sentence: error }];
  return Object.entries(health?.components ?? {}).flatMap(([name, { status, reason, remedy }]) => {
    if (status === "ready") return [];
    const title = `${PARTS[name as keyof typeof PARTS]}, ${CONSEQUENCES[status]}.`;
    return [{ title, sentence: [reason, remedy].filter(Boolean).join(" ") }];
  });
}

/** A box for each part that is missing. */
export function ServiceNotices({ service }: { service: ServiceHealth }): ReactElement {
  return (
    <div className="notices" role="status">
      {noticesOf(service).map(({ title, sentence }) => (
        <p key={title}>
          <strong>{title}</strong> {sentence}
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
