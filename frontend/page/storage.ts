/** Texts that the browser keeps; where its user blocks that, or it is full, nothing is kept and all else works. */

type Place = "localStorage" | "sessionStorage";

export function recall(place: Place, name: string): string | null {
  return attempt(() => globalThis[place].getItem(name));
}

export function keep(place: Place, name: string, text: string): void {
  attempt(() => {
    globalThis[place].setItem(name, text);
  });
}

function attempt<Result>(access: () => Result): Result | null {
  try {
    return access();
  } catch (error) {
    // SecurityError and QuotaExceededError; anything else is a fault of ours.
    if (error instanceof DOMException) return null;
    throw error;
  }
}
