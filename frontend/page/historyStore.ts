import { type DBSchema, type IDBPDatabase, openDB } from "idb";

import type { HistoryStore, Remembered } from "./history.ts";

const NAME = "image-analyzer-history";
/** Another one when `Remembered` changes: what an older page kept is then forgotten. */
const VERSION = 1;

interface Schema extends DBSchema {
  entries: { key: string; value: Remembered };
}

/** The browser's own database, which the tabs of an origin share. Its methods reject where the browser blocks it. */
export function browserStore(): HistoryStore {
  let opened: Promise<IDBPDatabase<Schema>> | null = null;
  const channel = attemptChannel();

  const watching = new Set<() => void>();

  const forget = (): void => {
    opened = null;
  };
  const open = async (): Promise<IDBPDatabase<Schema>> =>
    (opened ??= openDB<Schema>(NAME, VERSION, {
      upgrade(database) {
        for (const store of database.objectStoreNames) database.deleteObjectStore(store);
        database.createObjectStore("entries", { keyPath: "id" });
      },
      blocking(_current, _wanted, event) {
        forget();
        (event.target as IDBDatabase).close();
      },
      terminated() {
        forget();
        for (const onChange of watching) onChange(); // The user may have cleared what this site keeps.
      },
    }));
  /** Opens it anew the next time if anything goes wrong: browsers end connections of their own accord. */
  const attempt = async <Result>(act: (database: IDBPDatabase<Schema>) => Promise<Result>): Promise<Result> => {
    try {
      return await act(await open());
    } catch (error) {
      forget();
      throw error;
    }
  };

  return {
    all: () => attempt((database) => database.getAll("entries")),
    change: (put, drop) =>
      attempt(async (database) => {
        const transaction = database.transaction("entries", "readwrite");
        await Promise.all([
          ...put.map((entry) => transaction.store.put(entry)),
          ...drop.map((id) => transaction.store.delete(id)),
          transaction.done,
        ]);
        channel?.postMessage("changed");
      }),
    watch(onChange) {
      watching.add(onChange);
      channel?.addEventListener("message", onChange);
      return () => {
        watching.delete(onChange);
        channel?.removeEventListener("message", onChange);
      };
    },
  };
}

/** Gives what tells the other tabs; null where the browser has none for this page. */
function attemptChannel(): BroadcastChannel | null {
  try {
    return new BroadcastChannel(NAME);
  } catch {
    return null;
  }
}
