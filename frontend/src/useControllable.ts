"use client";

import { useCallback, useState } from "react";

/** A value that its owner may hold, as React's own inputs do: `given` where there is one, otherwise held here. */
export function useControllable<Value>(
  given: Value | undefined,
  initial: Value,
  onChange: ((value: Value) => void) | undefined,
): [Value, (value: Value) => void] {
  const [held, setHeld] = useState(initial);
  const change = useCallback(
    (value: Value) => {
      setHeld(value);
      onChange?.(value);
    },
    [onChange],
  );
  return [given === undefined ? held : given, change];
}
