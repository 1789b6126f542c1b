"use client";

import { type ReactElement, type ReactNode, useId } from "react";

import {
  LANGUAGES,
  type Language,
  type Length,
  MAX_SEED,
  type ModelsAnswer,
  type TargetsAnswer,
  type Vision,
} from "./contract.ts";
import { aimOf } from "./offered.ts";
import type { Texts } from "./texts.ts";

/** Six digits: many enough, and they can be told to somebody. */
const DRAWN_SEEDS = 1_000_000;

export function drawnSeed(): number {
  return Math.floor(Math.random() * DRAWN_SEEDS);
}

/** What is asked for beside picture and wish. */
export interface OptionValues {
  target: string;
  length: Length | null;
  language: Language;
  vision: Vision;
  deepThinking: boolean;
  model: string;
  seed: number | null;
  weights: boolean;
}

/** Each value with what changes it. */
export type OptionFields = {
  [Name in keyof OptionValues]: readonly [OptionValues[Name], (value: OptionValues[Name]) => void];
};

interface OptionsBarProps {
  fields: OptionFields;
  /** Those that are not shown. */
  hide: ReadonlySet<string>;
  /** What there is to choose from; null where there is no choice. */
  targets: TargetsAnswer | null;
  models: ModelsAnswer | null;
  /** What `auto` does, as the service says it; empty where it does not. */
  autoVision: string;
  isDisabled: boolean;
  texts: Texts;
}

/** What is asked for, in a row; what few want to set is folded away behind it, but for what is set. */
export function OptionsBar({
  fields,
  hide,
  targets,
  models,
  autoVision,
  isDisabled,
  texts,
}: OptionsBarProps): ReactElement {
  const id = useId();
  const aim = aimOf(targets, fields.target[0]);
  const [deepThinking, setDeepThinking] = fields.deepThinking;
  const told = [aim?.help, fields.vision[0] === "auto" && !hide.has("vision") && autoVision].filter(Boolean);
  return (
    <div className="ia-options" role="group" aria-label={texts.options}>
      <div className="ia-bar-of-options">
        {targets !== null && aim !== undefined && (
          <Choice
            label={texts.target}
            value={aim.name}
            options={targets.targets.map(({ name, title }) => [name, title])}
            onChange={fields.target[1]}
            isDisabled={isDisabled}
            describedBy={`${id}help`}
          />
        )}
        {targets !== null && !hide.has("length") && (
          <Choice
            label={texts.length}
            value={fields.length[0] ?? "usual"}
            options={Object.entries(texts.lengths)}
            onChange={(value) => {
              fields.length[1](value === "usual" ? null : (value as Length));
            }}
            isDisabled={isDisabled}
          />
        )}
        {!hide.has("language") && (
          <Choice
            label={texts.language}
            value={fields.language[0]}
            options={Object.entries(LANGUAGES)}
            onChange={(value) => {
              fields.language[1](value as Language);
            }}
            isDisabled={isDisabled}
          />
        )}
        {!hide.has("vision") && (
          <Choice
            label={texts.vision}
            value={fields.vision[0]}
            options={Object.entries(texts.visions)}
            onChange={(value) => {
              fields.vision[1](value as Vision);
            }}
            isDisabled={isDisabled}
            describedBy={`${id}help`}
          />
        )}
        {!hide.has("deepThinking") && (
          <Check isChecked={deepThinking} onChange={setDeepThinking} isDisabled={isDisabled}>
            {texts.deepThinking}
          </Check>
        )}
      </div>
      {told.length > 0 && (
        <p id={`${id}help`} className="ia-hint ia-small">
          {told.join(" ")}
        </p>
      )}
      <MoreOptions
        fields={fields}
        canWeigh={aim?.weights === true}
        hidesSeed={hide.has("seed")}
        models={models}
        isDisabled={isDisabled}
        texts={texts}
      />
    </div>
  );
}

interface MoreOptionsProps {
  fields: OptionFields;
  /** Whether weights mean something to the target. */
  canWeigh: boolean;
  hidesSeed: boolean;
  models: ModelsAnswer | null;
  isDisabled: boolean;
  texts: Texts;
}

function MoreOptions({
  fields,
  canWeigh,
  hidesSeed,
  models,
  isDisabled,
  texts,
}: MoreOptionsProps): ReactElement | null {
  const id = useId();
  const [model, setModel] = fields.model;
  const [seed, setSeed] = fields.seed;
  if (models === null && hidesSeed && !canWeigh) return null;
  const set = [models !== null && model, !hidesSeed && seed !== null && `${texts.seed} ${String(seed)}`];
  return (
    <details className="ia-more">
      <summary>
        {texts.moreOptions} <span className="ia-hint">{set.filter(Boolean).join(", ")}</span>
      </summary>
      <div className="ia-bar-of-options">
        {models !== null && (
          <Choice
            label={texts.model}
            value={model || models.default}
            options={models.allowed.map((name) => {
              const { facts, canWrite } = knownOf(name, models, texts.modelFacts);
              return [name, facts.length > 0 ? `${name} (${facts.join(", ")})` : name, canWrite];
            })}
            onChange={setModel}
            isDisabled={isDisabled}
          />
        )}
        {!hidesSeed && (
          <div className="ia-option">
            <label htmlFor={`${id}seed`}>{texts.seed}</label>
            <span className="ia-together">
              <input
                id={`${id}seed`}
                inputMode="numeric"
                autoComplete="off"
                size={10}
                value={seed ?? ""}
                placeholder={texts.noSeed}
                disabled={isDisabled}
                aria-describedby={`${id}hint`}
                onChange={(event) => {
                  const digits = event.target.value.replace(/\D/g, "");
                  setSeed(digits === "" ? null : Math.min(Number(digits), MAX_SEED));
                }}
              />
              <button
                type="button"
                disabled={isDisabled}
                onClick={() => {
                  setSeed(drawnSeed());
                }}
              >
                {texts.newSeed}
              </button>
            </span>
          </div>
        )}
        {canWeigh && (
          <Check isChecked={fields.weights[0]} onChange={fields.weights[1]} isDisabled={isDisabled}>
            {texts.weights}
          </Check>
        )}
      </div>
      {!hidesSeed && (
        <p id={`${id}hint`} className="ia-hint ia-small">
          {texts.seedHint}
        </p>
      )}
    </details>
  );
}

interface ChoiceProps {
  label: string;
  value: string;
  /** Value, title, and whether it may be chosen. */
  options: readonly (readonly [string, string, boolean?])[];
  onChange: (value: string) => void;
  isDisabled: boolean;
  describedBy?: string;
}

function Choice({ label, value, options, onChange, isDisabled, describedBy }: ChoiceProps): ReactElement {
  const id = useId();
  return (
    <div className="ia-option">
      <label htmlFor={id}>{label}</label>
      <select
        id={id}
        value={value}
        disabled={isDisabled}
        aria-describedby={describedBy}
        onChange={(event) => {
          onChange(event.target.value);
        }}
      >
        {options.map(([option, title, canBeChosen = true]) => (
          <option key={option} value={option} disabled={!canBeChosen}>
            {title}
          </option>
        ))}
      </select>
    </div>
  );
}

interface CheckProps {
  isChecked: boolean;
  onChange: (isChecked: boolean) => void;
  isDisabled: boolean;
  children: ReactNode;
}

function Check({ isChecked, onChange, isDisabled, children }: CheckProps): ReactElement {
  return (
    <label className="ia-check">
      <input
        type="checkbox"
        checked={isChecked}
        disabled={isDisabled}
        onChange={(event) => {
          onChange(event.target.checked);
        }}
      />
      {children}
    </label>
  );
}

/** Tells what is known of a model that may be asked for; one of which nothing is known can write. */
function knownOf(
  name: string,
  { default: usual, models, hosts }: ModelsAnswer,
  texts: Texts["modelFacts"],
): { facts: string[]; canWrite: boolean } {
  const held = models.find((model) => inFull(model.name) === inFull(name));
  const isAbsent = held === undefined && hosts.every(({ reason }) => reason === "");
  const can = held?.capabilities ?? ["completion"];
  const facts = [
    name === usual && texts.usual,
    isAbsent && texts.absent,
    !can.includes("completion") && texts.cannotWrite,
    can.includes("thinking") && texts.thinks,
    can.includes("vision") && texts.sees,
    held?.loaded === true && texts.loaded,
  ];
  return { facts: facts.filter((fact) => fact !== false), canWrite: !isAbsent && can.includes("completion") };
}

/** Gives a model's name as Ollama lists it: `Mistral` and `library/mistral` are `mistral:latest`. */
function inFull(name: string): string {
  const short = name.toLowerCase().replace(/^(registry\.ollama\.ai\/)?library\//, "");
  return /:[^/]*$/.test(short) ? short : `${short}:latest`;
}
