"use client";

import { type ReactElement, useId } from "react";

import { type Length, MAX_SEED, type ModelsAnswer, type Vision } from "./contract.ts";
import type { Texts } from "./texts.ts";

/** Six digits: many enough, and they can be told to somebody. */
const DRAWN_SEEDS = 1_000_000;

interface MoreOptionsProps {
  /** What there is to choose from; null where there is no choice. */
  models: ModelsAnswer | null;
  model: string;
  onModel: (model: string) => void;
  /** Whether seeds are not asked for. */
  hidesSeed: boolean;
  seed: number | null;
  onSeed: (seed: number | null) => void;
  /** Whether it is not asked for. */
  hidesVision: boolean;
  vision: Vision;
  onVision: (vision: Vision) => void;
  /** What `auto` does, as the service says it; empty where it does not. */
  autoVision: string;
  /** Whether no length is asked for. */
  hidesLength: boolean;
  length: Length | null;
  onLength: (length: Length | null) => void;
  /** Whether weights mean something to the target. */
  canWeigh: boolean;
  weights: boolean;
  onWeights: (weights: boolean) => void;
  isDisabled: boolean;
  texts: Texts;
}

/** What few want to set: folded away, but for what is set. */
export function MoreOptions(props: MoreOptionsProps): ReactElement | null {
  const { models, model, onModel, hidesSeed, seed, onSeed, hidesVision, vision, onVision, autoVision } = props;
  const { hidesLength, length, onLength, canWeigh, weights, onWeights, isDisabled, texts } = props;
  const id = useId();
  if (models === null && hidesSeed && hidesLength && !canWeigh && hidesVision) return null;
  const set = [
    !hidesLength && length !== null && texts.lengths[length],
    models !== null && model,
    !hidesSeed && seed !== null && `${texts.seed} ${String(seed)}`,
    !hidesVision && vision !== "auto" && `${texts.vision}: ${texts.visions[vision]}`,
  ];
  return (
    <details className="ia-more">
      <summary>
        {texts.moreOptions} <span className="ia-hint">{set.filter(Boolean).join(", ")}</span>
      </summary>
      {!hidesLength && (
        <div className="ia-field ia-row">
          <label htmlFor={`${id}length`}>{texts.length}</label>
          <select
            id={`${id}length`}
            value={length ?? "usual"}
            disabled={isDisabled}
            onChange={({ target: { value } }) => {
              onLength(value === "usual" ? null : (value as Length));
            }}
          >
            {Object.entries(texts.lengths).map(([value, name]) => (
              <option key={value} value={value}>
                {name}
              </option>
            ))}
          </select>
        </div>
      )}
      {canWeigh && (
        <div className="ia-field">
          <label className="ia-check">
            <input
              type="checkbox"
              checked={weights}
              disabled={isDisabled}
              onChange={(event) => {
                onWeights(event.target.checked);
              }}
            />
            {texts.weights}
          </label>
        </div>
      )}
      {models !== null && (
        <div className="ia-field ia-row">
          <label htmlFor={`${id}model`}>{texts.model}</label>
          <select
            id={`${id}model`}
            value={model || models.default}
            disabled={isDisabled}
            onChange={(event) => {
              onModel(event.target.value);
            }}
          >
            {models.allowed.map((name) => {
              const { facts, canWrite } = knownOf(name, models, texts.modelFacts);
              return (
                <option key={name} value={name} disabled={!canWrite}>
                  {facts.length > 0 ? `${name} (${facts.join(", ")})` : name}
                </option>
              );
            })}
          </select>
        </div>
      )}
      {!hidesSeed && (
        <div className="ia-field ia-row">
          <label htmlFor={`${id}seed`}>{texts.seed}</label>
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
              onSeed(digits === "" ? null : Math.min(Number(digits), MAX_SEED));
            }}
          />
          <button
            type="button"
            disabled={isDisabled}
            onClick={() => {
              onSeed(Math.floor(Math.random() * DRAWN_SEEDS));
            }}
          >
            {texts.newSeed}
          </button>
          <p id={`${id}hint`} className="ia-hint">
            {texts.seedHint}
          </p>
        </div>
      )}
      {!hidesVision && (
        <div className="ia-field ia-row">
          <label htmlFor={`${id}vision`}>{texts.vision}</label>
          <select
            id={`${id}vision`}
            value={vision}
            disabled={isDisabled}
            aria-describedby={autoVision === "" ? undefined : `${id}auto`}
            onChange={(event) => {
              onVision(event.target.value as Vision);
            }}
          >
            {Object.entries(texts.visions).map(([value, text]) => (
              <option key={value} value={value}>
                {text}
              </option>
            ))}
          </select>
          {autoVision !== "" && (
            <p id={`${id}auto`} className="ia-hint">
              {autoVision}
            </p>
          )}
        </div>
      )}
    </details>
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
