"use client";

import { type ReactElement, type ReactNode, type Ref, useEffect, useEffectEvent, useId, useRef, useState } from "react";

import type { Language, Length, ModelsAnswer, TargetsAnswer, Vision } from "./contract.ts";
import { CopyButton } from "./CopyButton.tsx";
import { Failure } from "./Failure.tsx";
import { type LeftOut, NOTHING_LEFT_OUT, picturesAmong } from "./droppedFiles.ts";
import { drawnSeed, OptionsBar } from "./OptionsBar.tsx";
import { PictureField } from "./PictureField.tsx";
import { PromptBox } from "./PromptBox.tsx";
import { StageLine } from "./StageLine.tsx";
import { DEFAULT_TEXTS, type Texts } from "./texts.ts";
import { useControllable } from "./useControllable.ts";
import {
  type AnalyzeOptions,
  type AnalyzeResult,
  type AnalyzerConfig,
  type ImageAnalyzer,
  useImageAnalyzer,
} from "./useImageAnalyzer.ts";
import { useOptionFields } from "./useOptionFields.ts";
import { type Intake, usePictureIntake } from "./usePictureIntake.ts";
import { usePromptText } from "./usePromptText.ts";
import { useShortcuts } from "./useShortcuts.ts";

/** Every value may be held by the host (with its `on…Change`), or is held by the component. */
export interface IntelligentModeImageOptionsProps {
  /** The picture; a new one is analysed at once, unless the analyzer shows its answer already. */
  file?: File | null | undefined;
  onFileChange?: ((file: File | null) => void) | undefined;
  /** Takes several pictures that were given at once, with what else was; without it, the first is taken. */
  onManyFiles?: ((files: File[], leftOut: LeftOut) => void) | undefined;
  /** The text of the prompt box. */
  prompt?: string | undefined;
  onPromptChange?: ((prompt: string) => void) | undefined;
  /** What the user wants of the picture; woven into the prompt. */
  userPrompt?: string | undefined;
  onUserPromptChange?: ((userPrompt: string) => void) | undefined;
  /** What the prompt is to leave out, such as tags that were switched off. */
  without?: readonly string[] | undefined;
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
  /** Weigh what is seen, where that means something to the target. */
  weights?: boolean | undefined;
  onWeightsChange?: ((weights: boolean) => void) | undefined;
  /** Told of every answer and every failure, and of what was asked for; not of what unmounting gives up. */
  onResult?: ((result: AnalyzeResult, file: File, asked: AnalyzeOptions) => void) | undefined;
  /** Where the service is, and how it is asked; not with `analyzer`. */
  config?: AnalyzerConfig | undefined;
  /** A `useImageAnalyzer()` of the host's, to show analysis and palette elsewhere. */
  analyzer?: ImageAnalyzer | undefined;
  /** `document` takes pictures dropped or pasted, and keys pressed, anywhere on the page; otherwise only here. */
  intake?: Intake | undefined;
  /** Fields that are not shown. */
  hide?:
    | readonly ("userPrompt" | "deepThinking" | "language" | "target" | "length" | "model" | "seed" | "vision")[]
    | undefined;
  /** In place of the English texts. */
  texts?: Partial<Texts> | undefined;
  disabled?: boolean | undefined;
  className?: string | undefined;
  /** What holds the prompt: to scroll to, or to move the focus to. */
  outputRef?: Ref<HTMLDivElement> | undefined;
  /** Shown below the picture. */
  pictureActions?: ReactNode;
  /** Shown beside the buttons below the prompt. */
  actions?: ReactNode;
  /** Shown below them. */
  children?: ReactNode;
}

/** A picture is chosen, dropped or pasted, analysed at once, and the prompt box fills; never over what the user typed. */
export function IntelligentModeImageOptions(props: IntelligentModeImageOptionsProps): ReactElement {
  const { config, disabled = false, intake = "component", without = [], onResult } = props;
  const { outputRef, pictureActions, actions, children } = props;
  const hide: ReadonlySet<string> = new Set(props.hide);
  const texts = { ...DEFAULT_TEXTS, ...props.texts };
  const own = useImageAnalyzer(config);
  const analyzer = props.analyzer ?? own;
  const { isAnalyzing, picture, generatedPrompt } = analyzer;
  const [file, setFile] = useControllable<File | null>(props.file, null, props.onFileChange);
  const [userPrompt, setUserPrompt] = useControllable(props.userPrompt, "", props.onUserPromptChange);
  const held = useControllable(props.prompt, "", props.onPromptChange);
  const { prompt, suggestion, former, begin, edit, fill } = usePromptText(held, generatedPrompt);
  const targets = (hide.has("target") ? null : props.targets) ?? null;
  const { fields, inLanguage } = useOptionFields(props, targets);
  const wanted = JSON.stringify([userPrompt, without, Object.values(fields).map(([value]) => value)]);
  const wish = { picture, wanted, inLanguage };
  const [asked, setAsked] = useState(wish);
  // An answer from before is shown with what was asked for then.
  if (file !== null && file === picture && asked.picture !== picture) setAsked(wish);
  const hadFile = useRef(false);
  const mount = useRef<symbol | null>(null);
  const fieldId = useId();
  const isWhole = prompt !== "" && prompt === generatedPrompt;
  const isCut = analyzer.truncated && isWhole;
  const hasChanged = file !== null && file === picture && wanted !== asked.wanted;
  const cutNote = analyzer.truncated && (
    <p id={`${fieldId}cut`} className="ia-hint ia-small">
      {texts.truncated}
    </p>
  );

  const analyze = async (file: File, seed: number | null): Promise<void> => {
    const begunIn = mount.current;
    const options = {
      userPrompt,
      without,
      deepThinking: fields.deepThinking[0],
      language: fields.language[0],
      model: fields.model[0],
      seed,
      vision: fields.vision[0],
      target: fields.target[0],
      length: fields.length[0],
      weights: fields.weights[0],
      onPrompt: begin(file !== picture),
    };
    const result = await analyzer.analyzeImage(file, options);
    const isLeftOver = !result.success && result.code === "cancelled" && begunIn !== mount.current;
    if (!isLeftOver) onResult?.(result, file, options);
  };
  useEffect(() => {
    mount.current = Symbol();
    return () => {
      mount.current = null;
    };
  }, []);
  const run = (seed = fields.seed[0]): void => {
    if (file === null || disabled || isAnalyzing) return;
    setAsked(wish);
    void analyze(file, seed);
  };
  const onNewFile = useEffectEvent((given: File | null) => {
    if (given === null && hadFile.current) analyzer.reset();
    else if (given !== null && given === picture) begin(true)(generatedPrompt);
    else if (given !== null) void analyze(given, fields.seed[0]);
    hadFile.current = given !== null;
  });
  useEffect(() => {
    onNewFile(file);
  }, [file]);

  const take = (files: File[], leftOut: LeftOut): void => {
    const [first] = files;
    if (disabled) return;
    if (props.onManyFiles && (files.length > 1 || leftOut !== NOTHING_LEFT_OUT)) props.onManyFiles(files, leftOut);
    else if (first !== undefined) setFile(first);
  };
  const { isDraggedOver, handlers } = usePictureIntake(intake, take);
  const onKeyDown = useShortcuts(intake, run, analyzer.cancel);

  return (
    // eslint-disable-next-line jsx-a11y/no-static-element-interactions -- shortcuts for what has its buttons too
    <section
      className={["ia-root", props.className].filter(Boolean).join(" ")}
      data-stage={analyzer.stage}
      onKeyDown={onKeyDown}
      {...handlers}
    >
      <div className="ia-input">
        <PictureField
          file={file}
          onFiles={(files) => {
            const { pictures, leftOut } = picturesAmong(files);
            take(pictures, leftOut);
          }}
          onRemove={() => {
            begin(true);
            setFile(null);
          }}
          takesMany={props.onManyFiles !== undefined}
          isDraggedOver={isDraggedOver}
          isBusy={isAnalyzing}
          isDisabled={disabled}
          texts={texts}
        >
          {pictureActions}
        </PictureField>
        <div className="ia-asks">
          {!hide.has("userPrompt") && (
            <div className="ia-field">
              <label htmlFor={`${fieldId}wish`}>{texts.userPrompt}</label>
              <textarea
                id={`${fieldId}wish`}
                className="ia-wish"
                dir="auto"
                rows={1}
                value={userPrompt}
                placeholder={texts.userPromptHint}
                disabled={disabled}
                onChange={(event) => {
                  setUserPrompt(event.target.value);
                }}
              />
            </div>
          )}
          <OptionsBar
            fields={fields}
            hide={hide}
            targets={targets}
            models={props.models && props.models.allowed.length > 1 && !hide.has("model") ? props.models : null}
            autoVision={props.autoVision ?? ""}
            isDisabled={disabled}
            texts={texts}
          />
        </div>
      </div>
      <div className="ia-output">
        <div className="ia-written" ref={outputRef} tabIndex={-1}>
          {analyzer.failure !== null && <Failure failure={analyzer.failure} texts={texts} />}
          <div className="ia-field">
            <div className="ia-prompt-head">
              <label htmlFor={`${fieldId}prompt`}>{texts.prompt}</label>
              <StageLine analyzer={analyzer} texts={texts} />
            </div>
            <PromptBox
              id={`${fieldId}prompt`}
              value={prompt}
              language={isWhole || isAnalyzing ? asked.inLanguage : undefined}
              placeholder={texts.promptHint}
              isDisabled={disabled}
              isBusy={analyzer.stage === "generating"}
              describedBy={isCut ? `${fieldId}cut` : undefined}
              onChange={edit}
            >
              <CopyButton text={prompt} copiedLabel={texts.copied}>
                {texts.copy} <span className="ia-unseen">{texts.prompt}</span>
              </CopyButton>
            </PromptBox>
            {isCut && cutNote}
            {isWhole && analyzer.tokenUnit !== null && (
              <p className="ia-hint ia-small">
                {texts.budget(analyzer.promptTokens ?? 0, analyzer.tokenLimit ?? 0, analyzer.tokenUnit)}
              </p>
            )}
          </div>
          {suggestion !== "" && suggestion === generatedPrompt && (
            <div className="ia-suggestion">
              <p className="ia-hint">{texts.suggestion}</p>
              <p dir="auto" lang={asked.inLanguage}>
                {suggestion}
              </p>
              {!isCut && cutNote}
              <button
                type="button"
                disabled={isAnalyzing}
                onClick={() => {
                  fill(suggestion);
                }}
              >
                {texts.useSuggestion}
              </button>
            </div>
          )}
          <div className="ia-actions">
            {/* One button, so that the focus stays where it is. */}
            <button
              type="button"
              className={isAnalyzing || hasChanged || analyzer.failure !== null ? "ia-primary" : undefined}
              disabled={!isAnalyzing && (disabled || file === null)}
              aria-describedby={hasChanged && !isAnalyzing ? `${fieldId}changed` : undefined}
              onClick={() => {
                if (isAnalyzing) analyzer.cancel();
                else run();
              }}
            >
              {isAnalyzing ? texts.cancel : analyzer.failure === null ? texts.regenerate : texts.tryAgain}
            </button>
            {hasChanged && !isAnalyzing && (
              <span id={`${fieldId}changed`} className="ia-hint ia-small">
                {texts.changed}
              </span>
            )}
            {!isAnalyzing && (
              <button
                type="button"
                disabled={disabled || file === null}
                onClick={() => {
                  run(drawnSeed());
                }}
              >
                {texts.variant}
              </button>
            )}
            {analyzer.stage === "cancelled" && former !== "" && former !== prompt && (
              <button
                type="button"
                onClick={() => {
                  fill(former);
                }}
              >
                {texts.former}
              </button>
            )}
            {actions}
          </div>
          {analyzer.negativePrompt !== null && (
            <div className="ia-field">
              <label htmlFor={`${fieldId}negative`}>{texts.negativePrompt}</label>
              <PromptBox id={`${fieldId}negative`} value={analyzer.negativePrompt} language="en">
                <CopyButton text={analyzer.negativePrompt} copiedLabel={texts.copied}>
                  {texts.copy} <span className="ia-unseen">{texts.negativePrompt}</span>
                </CopyButton>
              </PromptBox>
            </div>
          )}
        </div>
        {children !== undefined && <div className="ia-found">{children}</div>}
      </div>
    </section>
  );
}
