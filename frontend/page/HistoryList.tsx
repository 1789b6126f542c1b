import type { ReactElement } from "react";

import type { History } from "./useHistory.ts";

interface HistoryListProps {
  history: History;
  onRecall: (prompt: string) => void;
}

/** The pictures and prompts of this browser session; a click brings a prompt back into its box. */
export function HistoryList({ history, onRecall }: HistoryListProps): ReactElement | null {
  if (history.entries.length === 0) return null;
  return (
    <section className="history" aria-labelledby="history-title">
      <div className="history-head">
        <h2 id="history-title">This session</h2>
        <button type="button" onClick={history.clear}>
          Forget
        </button>
      </div>
      <ul>
        {history.entries.map(({ id, filename, thumbnail, prompt }) => (
          <li key={id}>
            <button
              type="button"
              onClick={() => {
                onRecall(prompt);
              }}
            >
              {thumbnail !== "" && <img src={thumbnail} alt="" />}
              <span>
                <strong>{filename}</strong>
                <span className="history-prompt">{prompt}</span>
              </span>
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
