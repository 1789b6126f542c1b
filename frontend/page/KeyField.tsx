import { type ReactElement, useId } from "react";

interface KeyFieldProps {
  apiKey: string;
  onChange: (typed: string) => void;
  /** The key is said to be whole. */
  onEnter: () => void;
}

/** Asks for the key, where the service does. */
export function KeyField({ apiKey, onChange, onEnter }: KeyFieldProps): ReactElement {
  const id = useId();
  return (
    <form
      className="card key-field"
      onSubmit={(event) => {
        event.preventDefault();
        onEnter();
      }}
    >
      <label htmlFor={id}>Key</label>
      <input
        id={id}
        type="password"
        autoComplete="off"
        value={apiKey}
        placeholder="Asked for with every picture"
        onChange={(event) => {
          onChange(event.target.value);
        }}
      />
      <button type="submit" disabled={apiKey === ""}>
        Use it
      </button>
    </form>
  );
}
