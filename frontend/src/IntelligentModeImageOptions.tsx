"use client";

import { type ReactElement, type ReactNode, useEffect, useEffectEvent, useId, useRef, useState } from "react";

import {
  LANGUAGES,
  type Language,
  type Length,
  type ModelsAnswer,
  type TargetsAnswer,
  type Vision,
} from "./contract.ts";
import { MoreOptions } from "./MoreOptions.tsx";
import { PictureField } from "./PictureField.tsx";
import { DEFAULT_TEXTS, type Texts } from "./texts.ts";
import { useControllable } from "./useControllable.ts";
import { type AnalyzeResult, type AnalyzerConfig, type ImageAnalyzer, useImageAnalyzer } from "./useImageAnalyzer.ts";
import { type Intake, usePictureIntake } from "./usePictureIntake.ts";

/** Every value may be held by the host (with its `on…Change`), or is held by the component. */
export interface IntelligentModeImageOptionsProps {
  /** The picture; a new one is analysed at once. */
  file?: File | null | undefined;
  onFileChange?: ((file: File | null) => void) | undefined;
  /** The text of the prompt box. */
  prompt?: string | undefined;
  onPromptChange?: ((prompt: string) => void) | undefined;
  /** What the user wants of the picture; woven into the prompt. */
  userPrompt?: string | undefined;
  onUserPromptChange?: ((userPrompt: string) => void) | undefined;
  deepThinking?: boolean | undefined;
  onDeepThinkingChange?: ((deepThinking: boolean) => void) | undefined;
  language?: Language | undefined;
  onLanguageChange?: ((language: Language) => void) | undefined;
  /** The model that writes; empty for the service's own choice. */
  model?: string | undefined;
  onModelChange?: ((model: string) => void) | undefined;
  /** What `useModels()` gives: with it a model can be chosen, where more than one may be asked for. */
  models?: ModelsAnswer | null | undefined;
  /** With the same seed comes much the same prompt; null for a new one each time. */
  seed?: number | null | undefined;
  onSeedChange?: ((seed: number | null) => void) | undefined;
  /** Whether a model looks at the picture itself. */
  vision?: Vision | undefined;
  onVisionChange?: ((vision: Vision) => void) | undefined;
  /** What the service says that `auto` does: `health.components.writer.facts.vision`. */
  autoVision?: string | undefined;
  /** What the prompt is for; empty for the service's own choice. */
  target?: string | undefined;
  onTargetChange?: ((target: string) => void) | undefined;
  /** What `useTargets()` gives: with it a target can be chosen. */
  targets?: TargetsAnswer | null | undefined;
  /** How long the prompt is to be; null for what deep mode says. */
  length?: Length | null | undefined;
  onLengthChange?: ((length: Length | null) => void) | undefined;
  /** Told of every answer and every failure; not of what unmounting gives up. */
  onResult?: ((result: AnalyzeResult, file: File) => void) | undefined;
  /** Where the service is, and how it is asked; not with `analyzer`. */
  config?: AnalyzerConfig | undefined;
  /** A `useImageAnalyzer()` of the host's, to show analysis and palette elsewhere. */
  analyzer?: ImageAnalyzer | undefined;
  /** `document` takes pictures dropped or pasted anywhere on the page; otherwise only here. */
  intake?: Intake | undefined;
  /** Fields that are not shown. */
  hide?:
    | readonly ("userPrompt" | "deepThinking" | "language" | "target" | "length" | "model" | "seed" | "vision")[]
    | undefined;
  /** In place of the English texts. */
  texts?: Partial<Texts> | undefined;
  disabled?: boolean | undefined;
  className?: string | undefined;
  /** Shown beside the buttons below the prompt. */
  actions?: ReactNode;
  /** Shown beside the negative prompt, where there is one. */
  negativeActions?: ReactNode;
  /** Shown below them. */
  children?: ReactNode;
}

/** A picture is chosen, dropped or pasted, analysed at once, and the prompt box fills; never over what the user typed. */
export function IntelligentModeImageOptions(props: IntelligentModeImageOptionsProps): ReactElement {
  const { config, hide = [], disabled = false, intake = "component", onResult } = props;
  const texts = { ...DEFAULT_TEXTS, ...props.texts };
  const own = useImageAnalyzer(config);
  const analyzer = props.analyzer ?? own;
  const [file, setFile] = useControllable<File | null>(props.file, null, props.onFileChange);
  const [userPrompt, setUserPrompt] = useControllable(props.userPrompt, "", props.onUserPromptChange);
  const [deepThinking, setDeepThinking] = useControllable(props.deepThinking, false, props.onDeepThinkingChange);
  const [language, setLanguage] = useControllable<Language>(props.language, "en", props.onLanguageChange);
  const [model, setModel] = useControllable(props.model, "", props.onModelChange);
  const [seed, setSeed] = useControllable<number | null>(props.seed, null, props.onSeedChange);
  const [vision, setVision] = useControllable<Vision>(props.vision, "auto", props.onVisionChange);
  const [target, setTarget] = useControllable(props.target, "", props.onTargetChange);
  const [length, setLength] = useControllable<Length | null>(props.length, null, props.onLengthChange);
  const [weights, setWeights] = useState(false);
  const [prompt, setPrompt] = useControllable(props.prompt, "", props.onPromptChange);
  const [suggestion, setSuggestion] = useState("");
  const written = useRef("");
  const isTheUsers = useRef(false);
  const hadFile = useRef(false);
  const mount = useRef<symbol | null>(null);
  const fieldId = useId();
  const choice = props.models && props.models.allowed.length > 1 && !hide.includes("model") ? props.models : null;
  const chosen = props.models && !props.models.allowed.includes(model) ? "" : model;
  const targets = hide.includes("target") ? null : props.targets;
  const aimed = targets && !targets.targets.some(({ name }) => name === target) ? "" : target;
  const aim = targets?.targets.find(({ name }) => name === (aimed || targets.default));
  const cutNote = analyzer.truncated && (
    <p id={`${fieldId}cut`} className="ia-hint">
      {texts.truncated}
    </p>
  );
  const isWhole = prompt !== "" && prompt === analyzer.generatedPrompt;
  const isCut = analyzer.truncated && isWhole;

  const fill = (text: string): void => {
    written.current = text;
    isTheUsers.current = false;
    setSuggestion("");
    setPrompt(text);
  };
  const analyze = async (picture: File): Promise<void> => {
    if (prompt === "") isTheUsers.current = false;
    // What is seen may lag behind what was written last, but then that begins with it.
    else if (!written.current.startsWith(prompt)) isTheUsers.current = true;
    const onPrompt = (text: string): void => {
      if (isTheUsers.current) setSuggestion(text);
      else fill(text);
    };
    const begunIn = mount.current;
    const result = await analyzer.analyzeImage(picture, {
      userPrompt,
      deepThinking,
      language,
      model: chosen,
      seed,
      vision,
      target: aimed,
      length,
      weights: weights && aim?.weights === true,
      onPrompt,
    });
    const isLeftOver = !result.success && result.code === "cancelled" && begunIn !== mount.current;
    if (!isLeftOver) onResult?.(result, picture);
  };
  useEffect(() => {
    mount.current = Symbol();
    return () => {
      mount.current = null;
    };
  }, []);
  const onNewFile = useEffectEvent((picture: File | null) => {
    if (picture !== null) void analyze(picture);
    else if (hadFile.current) analyzer.reset();
    hadFile.current = picture !== null;
  });
  useEffect(() => {
    onNewFile(file);
  }, [file]);

  const { isDraggedOver, handlers } = usePictureIntake(intake, (picture) => {
    if (!disabled) setFile(picture);
  });

  return (
    <section className={["ia-root", props.className].filter(Boolean).join(" ")} {...handlers}>
      <div className="ia-input">
        <PictureField
          file={file}
          onPicture={setFile}
          isDraggedOver={isDraggedOver}
          isBusy={analyzer.isAnalyzing}
          isDisabled={disabled}
          texts={texts}
        />
        {!hide.includes("userPrompt") && (
          <div className="ia-field">
            <label htmlFor={`${fieldId}wish`}>{texts.userPrompt}</label>
            <textarea
              id={`${fieldId}wish`}
              rows={2}
              value={userPrompt}
              placeholder={texts.userPromptHint}
              disabled={disabled}
              onChange={(event) => {
                setUserPrompt(event.target.value);
              }}
            />
          </div>
        )}
        {!hide.includes("deepThinking") && (
          <label className="ia-check">
            <input
              type="checkbox"
              checked={deepThinking}
              disabled={disabled}
              onChange={(event) => {
                setDeepThinking(event.target.checked);
              }}
            />
            {texts.deepThinking}
          </label>
        )}
        {!hide.includes("language") && (
          <div className="ia-field ia-row">
            <label htmlFor={`${fieldId}language`}>{texts.language}</label>
            <select
              id={`${fieldId}language`}
              value={language}
              disabled={disabled}
              onChange={(event) => {
                setLanguage(event.target.value as Language);
              }}
            >
              {Object.entries(LANGUAGES).map(([code, name]) => (
                <option key={code} value={code}>
                  {name}
                </option>
              ))}
            </select>
          </div>
        )}
        {targets && aim && (
          <div className="ia-field ia-row">
            <label htmlFor={`${fieldId}target`}>{texts.target}</label>
            <select
              id={`${fieldId}target`}
              value={aim.name}
              disabled={disabled}
              aria-describedby={`${fieldId}aim`}
              onChange={(event) => {
                setTarget(event.target.value);
              }}
            >
              {targets.targets.map(({ name, title }) => (
                <option key={name} value={name}>
                  {title}
                </option>
              ))}
            </select>
            <p id={`${fieldId}aim`} className="ia-hint">
              {aim.help}
            </p>
          </div>
        )}
        <MoreOptions
          hidesLength={hide.includes("length") || !props.targets}
          length={length}
          onLength={setLength}
          canWeigh={aim?.weights === true}
          weights={weights}
          onWeights={setWeights}
          models={choice}
          model={chosen}
          onModel={setModel}
          hidesSeed={hide.includes("seed")}
          seed={seed}
          onSeed={setSeed}
          hidesVision={hide.includes("vision")}
          vision={vision}
          onVision={setVision}
          autoVision={props.autoVision ?? ""}
          isDisabled={disabled}
          texts={texts}
        />
      </div>
      <div className="ia-output">
        <p className="ia-stage" role="status">
          {stageText(analyzer, texts)}
        </p>
        {analyzer.error !== null && (
          <p className="ia-error" role="alert">
            {analyzer.error}
          </p>
        )}
        <div className="ia-field">
          <label htmlFor={`${fieldId}prompt`}>{texts.prompt}</label>
          <textarea
            id={`${fieldId}prompt`}
            className="ia-prompt"
            rows={6}
            value={prompt}
            placeholder={texts.promptHint}
            disabled={disabled}
            aria-busy={analyzer.stage === "generating"}
            aria-describedby={isCut ? `${fieldId}cut` : undefined}
            onChange={(event) => {
              isTheUsers.current = true;
              setPrompt(event.target.value);
            }}
          />
          {isCut && cutNote}
          {isWhole && analyzer.tokenUnit !== null && (
            <p className="ia-hint">
              {texts.budget(analyzer.promptTokens ?? 0, analyzer.tokenLimit ?? 0, analyzer.tokenUnit)}
            </p>
          )}
        </div>
        {analyzer.negativePrompt !== null && (
          <div className="ia-field">
            <label htmlFor={`${fieldId}negative`}>{texts.negativePrompt}</label>
            <textarea id={`${fieldId}negative`} rows={3} readOnly value={analyzer.negativePrompt} />
            {props.negativeActions}
          </div>
        )}
        {suggestion !== "" && analyzer.generatedPrompt !== "" && (
          <div className="ia-suggestion">
            <p className="ia-hint">{texts.suggestion}</p>
            <p>{suggestion}</p>
            {!isCut && cutNote}
            <button
              type="button"
              disabled={analyzer.isAnalyzing}
              onClick={() => {
                fill(suggestion);
              }}
            >
              {texts.useSuggestion}
            </button>
          </div>
        )}
        <div className="ia-actions">
          {analyzer.isAnalyzing ? (
            <button type="button" onClick={analyzer.cancel}>
              {texts.cancel}
            </button>
          ) : (
            <button
              type="button"
              disabled={disabled || file === null}
              onClick={() => {
                if (file !== null) void analyze(file);
              }}
            >
              {texts.writeAgain}
            </button>
          )}
          {props.actions}
        </div>
        {props.children}
      </div>
    </section>
  );
}

function stageText({ stage, before, looking, thinking }: ImageAnalyzer, texts: Texts): string {
  if (before !== null) return texts.inLine(before);
  if (looking) return texts.looking;
  return thinking ? texts.thinking : texts.stages[stage];
}
