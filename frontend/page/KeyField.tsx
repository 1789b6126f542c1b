import type { ReactElement } from "react";

/** Asks for the API key, where the service does. */
export function KeyField({ apiKey, onChange }: { apiKey: string; onChange: (typed: string) => void }): ReactElement {
  return (
    <label className="key-field">
      API key
      <input
        type="password"
        autoComplete="off"
        value={apiKey}
        placeholder="This service asks for one with every picture"
        onChange={(event) => {
          onChange(event.target.value);
        }}
      />
    </label>
  );
}
