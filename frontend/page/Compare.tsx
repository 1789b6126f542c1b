import { type ReactElement, useEffect, useRef } from "react";

import { CopyButton, LANGUAGES, type Vision } from "../src/index.ts";
import type { Remembered } from "./history.ts";
import { StoredPicture } from "./StoredPicture.tsx";
import { type Stretch, wordDiff } from "./wordDiff.ts";

type Pair = readonly [Remembered, Remembered];

/** What the two are called: they may be of one picture and of one minute. */
const NAMES = ["First", "Second"] as const;

const WHEN = { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" } as const;

const VISIONS: Readonly<Record<Vision, string>> = { auto: "where that is quick", on: "yes", off: "no" };

/** How each setting is told to a visitor. Where it was left to the service, what that did. */
const SETTINGS: Readonly<Record<string, (entry: Remembered) => string>> = {
  "Your idea": ({ settings }) => settings.userPrompt.trim() || "none",
  "Prompt for": ({ settings, answer }) => settings.target || (answer.target ?? "usual"),
  Language: ({ settings }) => LANGUAGES[settings.language],
  Length: ({ settings }) => settings.length ?? "usual",
  "Deep mode": ({ settings }) => (settings.deepThinking ? "on" : "off"),
  "Looks at the picture": ({ settings }) => VISIONS[settings.vision],
  "Written by": ({ settings, answer }) =>
    answer.promptSource === "template" ? "no model" : (answer.model ?? (settings.model || "usual")),
  Seed: ({ settings }) => (settings.seed === null ? "random" : String(settings.seed)),
  "Weighed words": ({ settings }) => (settings.weights ? "yes" : "no"),
  "Left out": ({ settings }) => settings.without.join(", ") || "nothing",
};

interface CompareProps {
  /** The older one first. */
  pair: Pair;
  onClose: () => void;
}

/** Two answers beside each other, and what is different about them. Closed, it gives the focus back to where it was. */
export function Compare({ pair, onClose }: CompareProps): ReactElement {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (dialog.current?.open === false) dialog.current.showModal();
  }, []);
  const [one, other] = pair;
  const marked = wordDiff(one.answer.generatedPrompt, other.answer.generatedPrompt, [
    one.settings.language,
    other.settings.language,
  ]);
  return (
    <dialog ref={dialog} className="compare" aria-labelledby="compare-title" closedby="any" onClose={onClose}>
      <div className="compare-head">
        <h2 id="compare-title">Two prompts compared</h2>
        <button
          type="button"
          onClick={() => {
            dialog.current?.close();
          }}
        >
          Close
        </button>
      </div>
      <div className="compare-sides">
        <Side name={NAMES[0]} entry={one} prompt={marked[0]} />
        <Side name={NAMES[1]} entry={other} prompt={marked[1]} />
      </div>
      <Differences pair={pair} />
    </dialog>
  );
}

function Side(props: { name: string; entry: Remembered; prompt: readonly Stretch[] }): ReactElement {
  const { name, entry, prompt } = props;
  const { filename, at, picture, answer, settings } = entry;
  return (
    <section className="compare-side" aria-label={name}>
      <StoredPicture blob={picture} alt={filename} className="compare-picture" />
      <p className="compare-caption">
        <strong>{name}</strong> <span>{filename}</span>
        <time dateTime={new Date(at).toISOString()}>{new Date(at).toLocaleString("en", WHEN)}</time>
      </p>
      <p className="compare-prompt" dir="auto" lang={settings.language}>
        {prompt.map(({ text, differs }, index) => (differs ? <mark key={index}>{text}</mark> : text))}
      </p>
      <div className="compare-actions">
        <CopyButton text={answer.generatedPrompt}>Copy the prompt</CopyButton>
      </div>
    </section>
  );
}

function Differences({ pair }: { pair: Pair }): ReactElement {
  const told = Object.entries(SETTINGS).map(([name, tell]) => [name, ...pair.map(tell)] as [string, string, string]);
  const different = told.filter(([, one, other]) => one !== other);
  if (different.length === 0) return <p className="compare-same">Both were written with the same settings.</p>;
  return (
    <table className="compare-settings">
      <caption>What was set differently</caption>
      <thead>
        <tr>
          <td />
          {NAMES.map((name) => (
            <th key={name} scope="col">
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {different.map(([name, ...values]) => (
          <tr key={name}>
            <th scope="row">{name}</th>
            {values.map((value, index) => (
              <td key={index}>
                <bdi>{value}</bdi>
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
