"use client";

import { useCallback, useEffect, useReducer, useRef } from "react";

import { AnalyzerClient, AnalyzerError, type AnalyzeRequest, type ClientConfig } from "./client.ts";
import type {
  Analysis,
  AnalyzeAnswer,
  Colour,
  ErrorCode,
  OwnCode,
  ScoredTag,
  StreamEvent,
  Timings,
  TokenUnit,
} from "./contract.ts";
import { follow } from "./follow.ts";
import { isOnThisMachine } from "./loopback.ts";
import { sendPicture } from "./shrink.ts";
import { fetchFor } from "./uploadingFetch.ts";

/** What the hook does with every picture. */
export interface AnalyzerConfig extends ClientConfig {
  /**
   * Whether pictures are made smaller where that only saves bytes; otherwise yes, unless the service is on this machine.
   * What the service would refuse is drawn as a smaller JPEG in any case.
   */
  shrink?: boolean | undefined;
  /** Told of every answer. */
  onFinish?: ((answer: AnalyzeAnswer, file: Blob) => void) | undefined;
  /** Told of every failure; not of what is given up. */
  onError?: ((failure: AnalyzeFailure, file: Blob) => void) | undefined;
}

/** What one call asks for beside the picture. */
export interface AnalyzeOptions extends Omit<AnalyzeRequest, "image" | "filename"> {
  /** `false` asks for the whole answer at once; otherwise the prompt grows while it is written. */
  stream?: boolean | undefined;
  /** Told the prompt as far as it is written, whenever it grows or starts over; not once given up. */
  onPrompt?: ((prompt: string) => void) | undefined;
}

/** Why there is no answer: a sentence for people, a code for programs. */
export interface AnalyzeFailure {
  success: false;
  error: string;
  code: ErrorCode;
  /** Seconds after which the service says to try again. */
  retryAfterS?: number | undefined;
}

export type AnalyzeResult = AnalyzeAnswer | AnalyzeFailure;

/** `preparing` draws the picture anew where that is due, `analyzing` uploads and reads it, `generating` writes the prompt. */
export type Stage = "idle" | "preparing" | "analyzing" | "generating" | "complete" | "cancelled" | "error";

/** What is known so far of the latest picture. */
export interface AnalyzerState {
  stage: Stage;
  /** The picture that all of this is about; null where there is none. */
  picture: Blob | null;
  /** What went wrong, with its code; null if nothing failed. */
  failure: AnalyzeFailure | null;
  generatedPrompt: string;
  /** Whether the prompt's end was cut away: the model broke off or repeated itself, or the budget had no more room. */
  truncated: boolean;
  /** What the prompt was written for; null before it is written. */
  target: string | null;
  /** What the generator is to avoid; null where the target has no such prompt. */
  negativePrompt: string | null;
  /** The usual ratio that is nearest to the picture's, such as `3:2`. */
  aspectRatio: string | null;
  /** The nearest of the generator's sizes; null where it names none. */
  size: string | null;
  /** How long the prompt is, and may be, in `tokenUnit`; null where the target has no budget. */
  promptTokens: number | null;
  tokenLimit: number | null;
  tokenUnit: TokenUnit | null;
  /** The share of the picture that is sent, 0 to 1; null unless it is being sent, and that lasts. */
  uploaded: number | null;
  /** How many prompts are written before this one; null unless it waits in line. */
  before: number | null;
  /** Whether the model looks at the picture, before it writes. */
  looking: boolean;
  /** Whether the model thinks, before it writes. */
  thinking: boolean;
  analysis: Analysis | null;
  /** What is seen in the picture, surest first. */
  tags: ScoredTag[];
  palette: Colour[];
  warnings: string[];
  analyzer: AnalyzeAnswer["analyzer"] | null;
  promptSource: AnalyzeAnswer["promptSource"] | null;
  /** The model that wrote; null where none did. */
  model: string | null;
  /** Whether it saw the picture itself. */
  vision: boolean;
  cached: boolean;
  timings: Timings | null;
}

/** What `useImageAnalyzer` gives. */
export interface ImageAnalyzer extends AnalyzerState {
  /** Whether a picture is on its way. */
  isAnalyzing: boolean;
  /** A sentence that says what to do; null if nothing failed. */
  error: string | null;
  /** The failure's code; null if nothing failed. */
  errorCode: ErrorCode | null;
  /**
   * Sends a picture; one that is still on its way is given up. Rejects only if the frontend itself is at fault.
   *
   * `analyzeImage(file, { userPrompt, deepThinking, … })`, or `analyzeImage(file, userPrompt, deepThinking, { … })`.
   */
  analyzeImage: (
    file: Blob,
    asked?: AnalyzeOptions | string,
    deepThinking?: boolean,
    options?: AnalyzeOptions,
  ) => Promise<AnalyzeResult>;
  /** Shows an answer that came before, and its picture; one that is on its way is given up. */
  show: (answer: AnalyzeAnswer, picture: Blob) => void;
  /** Gives up the picture that is on its way; the service stops too. What has come stays. */
  cancel: () => void;
  /** Gives up, and forgets all. */
  reset: () => void;
}

const NO_WAIT = { uploaded: null, before: null, looking: false, thinking: false } as const;

const NOTHING_YET: AnalyzerState = {
  stage: "idle",
  picture: null,
  failure: null,
  generatedPrompt: "",
  truncated: false,
  target: null,
  negativePrompt: null,
  aspectRatio: null,
  size: null,
  promptTokens: null,
  tokenLimit: null,
  tokenUnit: null,
  ...NO_WAIT,
  analysis: null,
  tags: [],
  palette: [],
  warnings: [],
  analyzer: null,
  promptSource: null,
  model: null,
  vision: false,
  cached: false,
  timings: null,
};

type Change =
  | { to: "idle" | "analyzing" | "cancelled" }
  | { to: "preparing"; picture: Blob }
  | { to: "error"; failure: AnalyzeFailure }
  | { to: "answered"; answer: AnalyzeAnswer; picture: Blob }
  | { to: "uploading"; uploaded: number | null }
  | { to: "event"; event: StreamEvent };

function changed(state: AnalyzerState, change: Change): AnalyzerState {
  switch (change.to) {
    case "idle":
      return NOTHING_YET;
    case "preparing": {
      // Of the same picture the same is known, until it is read anew.
      const { analysis, tags, palette } = change.picture === state.picture ? state : NOTHING_YET;
      return { ...NOTHING_YET, stage: "preparing", picture: change.picture, analysis, tags, palette };
    }
    case "analyzing":
    case "cancelled":
      return { ...state, ...NO_WAIT, stage: change.to };
    case "error":
      return { ...state, ...NO_WAIT, stage: "error", failure: change.failure };
    case "uploading":
      return state.stage === "analyzing" ? { ...state, uploaded: change.uploaded } : state; // An answer may come early.
    case "answered":
      return { ...NOTHING_YET, ...partsOf(change.answer), stage: "complete", picture: change.picture };
    case "event":
      return afterEvent(state, change.event);
  }
}

function afterEvent(state: AnalyzerState, event: StreamEvent): AnalyzerState {
  switch (event.status) {
    case "analyzed":
      return { ...state, ...partsOf(event) };
    case "generating":
      return {
        ...state,
        thinking: false,
        looking: event.vision ?? false,
        before: event.before ?? null,
        stage: "generating",
        generatedPrompt: "",
      };
    case "thinking":
      return { ...state, ...NO_WAIT, thinking: true };
    case "delta":
      return { ...state, ...NO_WAIT, generatedPrompt: state.generatedPrompt + event.text };
    case "complete":
      return { ...state, ...NO_WAIT, ...partsOf(event), stage: "complete" };
    default:
      return state;
  }
}

function promptAfter(prompt: string, change: Change): string {
  if (change.to === "answered") return change.answer.generatedPrompt;
  return change.to === "event"
    ? afterEvent({ ...NOTHING_YET, generatedPrompt: prompt }, change.event).generatedPrompt
    : prompt;
}

/** Takes those fields of an answer or event that the state has too. */
function partsOf<Source extends object>(source: Source): Pick<Source, keyof Source & keyof AnalyzerState> {
  const known = Object.entries(source).filter(([name]) => name in NOTHING_YET);
  return Object.fromEntries(known) as Pick<Source, keyof Source & keyof AnalyzerState>;
}

/**
 * Sends pictures to the service, and keeps what is known of the latest one.
 *
 * A new call, `cancel()`, `reset()` and unmounting give up what is on its way, and the service stops working on it.
 */
export function useImageAnalyzer(config: AnalyzerConfig = {}): ImageAnalyzer {
  const [state, dispatch] = useReducer(changed, NOTHING_YET);
  const running = useRef<AbortController | null>(null);
  const latestConfig = useRef(config);
  useEffect(() => {
    latestConfig.current = config;
  });

  const analyzeImage = useCallback<ImageAnalyzer["analyzeImage"]>(
    async (file, asked = "", deepThinking = false, options = {}) => {
      const { stream, onPrompt, ...wish } =
        typeof asked === "object" ? asked : { ...options, userPrompt: asked, deepThinking };
      running.current?.abort();
      const controller = new AbortController();
      running.current = controller;
      const { signal } = controller;
      let prompt = "";
      const tell = (change: Change): void => {
        if (signal.aborted) return;
        dispatch(change);
        const text = promptAfter(prompt, change);
        if (text !== prompt) onPrompt?.((prompt = text));
      };
      const { shrink, ...clientConfig } = latestConfig.current;
      const send = async (image: Blob): Promise<AnalyzeAnswer> => {
        signal.throwIfAborted();
        const own = fetchFor(image, clientConfig.fetch, (uploaded) => {
          tell({ to: "uploading", uploaded });
        });
        const client = new AnalyzerClient({ ...clientConfig, fetch: own });
        const request = { ...wish, image, filename: file instanceof File ? file.name : "picture" };
        tell({ to: "analyzing" });
        if (stream === false) {
          const answer = await client.analyze(request, signal);
          tell({ to: "answered", answer, picture: file });
          return answer;
        }
        return await follow(client.stream(request, signal), (event) => {
          tell({ to: "event", event });
        });
      };
      try {
        tell({ to: "preparing", picture: file });
        const small = shrink ?? !isOnThisMachine(new AnalyzerClient(clientConfig).address);
        const answer = await sendPicture(file, send, { small });
        if (!signal.aborted) latestConfig.current.onFinish?.(answer, file);
        return answer;
      } catch (error) {
        const failure = failureOf(error, signal);
        tell({ to: "error", failure });
        if (!signal.aborted) latestConfig.current.onError?.(failure, file);
        if (failure.code === UNEXPECTED) throw error;
        return failure;
      } finally {
        if (running.current === controller) running.current = null;
      }
    },
    [],
  );

  const show = useCallback<ImageAnalyzer["show"]>((answer, picture) => {
    running.current?.abort();
    running.current = null;
    dispatch({ to: "answered", answer, picture });
  }, []);
  const giveUp = useCallback((to: "cancelled" | "idle") => {
    const wasRunning = running.current !== null;
    running.current?.abort();
    running.current = null;
    if (wasRunning || to === "idle") dispatch({ to });
  }, []);
  const cancel = useCallback(() => {
    giveUp("cancelled");
  }, [giveUp]);
  useEffect(() => cancel, [cancel]);
  const reset = useCallback(() => {
    giveUp("idle");
  }, [giveUp]);

  return {
    ...state,
    error: state.failure?.error ?? null,
    errorCode: state.failure?.code ?? null,
    isAnalyzing: BUSY.has(state.stage),
    analyzeImage,
    show,
    cancel,
    reset,
  };
}

const UNEXPECTED = "unexpected" satisfies OwnCode;

const BUSY: ReadonlySet<Stage> = new Set<Stage>(["preparing", "analyzing", "generating"]);

function failureOf(error: unknown, signal: AbortSignal): AnalyzeFailure {
  if (signal.aborted) return { success: false, error: "The analysis was cancelled.", code: "cancelled" };
  if (error instanceof AnalyzerError) {
    return { success: false, error: error.message, code: error.code, retryAfterS: error.retryAfterS };
  }
  return { success: false, error: `The frontend failed: ${String(error)}`, code: UNEXPECTED };
}
