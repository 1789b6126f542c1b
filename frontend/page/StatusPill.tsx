import { type ReactElement, useId } from "react";

import type { ComponentHealth, ServiceHealth } from "../src/index.ts";

const STATES = { ok: "Ready", degraded: "Limited mode", error: "Not answering" } as const;

/** What a part that is not ready means to who stands before the page, by the part and by what answers in its place. */
const MEANINGS: Readonly<Record<string, string>> = {
  "analyzer objects": "A small stand-in reads the pictures: it names things and measures colours, but knows no styles.",
  "analyzer pixels": "Pictures are only measured, colours and light: what they show is not named.",
  "analyzer none": "Pictures cannot be read at the moment.",
  "writer template": "No language model is there: prompts are put together from what was seen.",
  "writer none": "No prompts can be written at the moment.",
};

const PARTS: Readonly<Record<string, string>> = { analyzer: "Pictures are read by", writer: "Prompts are written by" };

/** One word on the service as a whole; what stands behind it, when asked. */
export function StatusPill({ service }: { service: ServiceHealth }): ReactElement {
  const id = useId();
  const status = service.error !== null ? "error" : service.health?.status;
  const parts = Object.entries(service.health?.components ?? {});
  const missing = parts.filter(([, { status }]) => status !== "ready");
  return (
    <>
      <button type="button" className="pill" data-status={status} popoverTarget={id}>
        {status === undefined ? "asking …" : STATES[status]}
      </button>
      <div id={id} popover="auto" className="status">
        {service.error !== null && <p>The service cannot be reached. The page goes on asking.</p>}
        <ul>
          {parts.map(([name, part]) => (
            <li key={name}>{sentenceOf(name, part)}</li>
          ))}
        </ul>
        {(missing.length > 0 || service.error !== null) && (
          <details>
            <summary>For the operator</summary>
            {service.error !== null && <p>{service.error}</p>}
            {missing.map(([name, { reason, remedy }]) => (
              <p key={name}>{[reason, remedy].filter(Boolean).join(" ")}</p>
            ))}
          </details>
        )}
      </div>
    </>
  );
}

function sentenceOf(name: string, { status, active, facts }: ComponentHealth): string {
  const meaning = MEANINGS[`${name} ${active}`];
  if (status !== "ready" && meaning !== undefined) return meaning;
  return `${PARTS[name] ?? name} ${String(facts?.model ?? active)}.`;
}
