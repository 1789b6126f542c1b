import { type ReactElement, useEffect, useEffectEvent, useRef, useState } from "react";

import {
  AnalysisBars,
  type AnalyzeResult,
  IntelligentModeImageOptions,
  PaletteStrip,
  type ServiceHealth,
  TagChips,
  useImageAnalyzer,
  useModels,
  useServiceHealth,
  useTargets,
} from "../src/index.ts";
import icon from "./icon.svg";
import { Details } from "./Details.tsx";
import { KeyField } from "./KeyField.tsx";
import { Samples } from "./Samples.tsx";
import { useSettings } from "./settings.ts";
import { StatusPill } from "./StatusPill.tsx";
import { ThemeButton } from "./ThemeButton.tsx";
import { useApiKey } from "./useApiKey.ts";

/** The page's own folder: under a route prefix, the API is there too. */
const BASE_URL = new URL(".", document.baseURI).href;

/** Of a service that is back: not every page that waited for it sends its picture at once. */
const HEALS_WITHIN_MS = 1000;

/** The share of the window's height within which a prompt that begins is seen. */
const SEEN_WITHIN = 0.6;

/** Says what `vision: auto` does here; nothing while the service does not tell. */
function autoVisionOf({ health }: ServiceHealth): string | undefined {
  const told = health?.components.writer?.facts?.vision;
  return told === undefined ? undefined : String(told);
}

/** The page at `/`. */
export function App(): ReactElement {
  const [apiKey, setApiKey] = useApiKey();
  const config = { baseUrl: BASE_URL, headers: apiKey === "" ? {} : { Authorization: `Bearer ${apiKey}` } };
  const analyzer = useImageAnalyzer(config);
  const service = useServiceHealth(config);
  const models = useModels(config, analyzer.stage === "complete"); // Then another may be loaded.
  const targets = useTargets(config, service.health?.status);
  const [settings, change] = useSettings();
  const [file, setFile] = useState<File | null>(null);
  const [prompt, setPrompt] = useState("");
  const output = useRef<HTMLDivElement>(null);

  const choose = (picture: File | null): void => {
    change({ without: [] });
    setFile(picture);
  };
  const sendAgain = (): void => {
    if (file !== null && analyzer.error !== null) setFile(new File([file], file.name, { type: file.type }));
  };
  const heal = useEffectEvent(() => {
    if (analyzer.errorCode === "unreachable") sendAgain();
  });
  const isReached = service.health !== null;
  useEffect(() => {
    if (!isReached) return;
    const timer = setTimeout(heal, Math.random() * HEALS_WITHIN_MS);
    return () => {
      clearTimeout(timer);
    };
  }, [isReached]);
  useEffect(() => {
    const shown = output.current?.getBoundingClientRect();
    if (file === null || shown === undefined) return;
    const isInView = shown.top >= 0 && shown.top < globalThis.innerHeight * SEEN_WITHIN;
    if (!isInView) output.current?.parentElement?.scrollIntoView({ block: "start" });
  }, [file]);
  const remember = (result: AnalyzeResult, picture: File): void => {
    result;
    picture;
  };
  const toggle = (tag: string): void => {
    const { without } = settings;
    change({ without: without.includes(tag) ? without.filter((one) => one !== tag) : [...without, tag] });
  };
  const told = new Set(
    Object.values(service.health?.components ?? {}).map(({ reason, remedy }) => `${reason} ${remedy}`.trim()),
  );
  const isFirst = file === null && prompt === "";

  return (
    <>
      <header className="top">
        <img src={icon} alt="" width="32" height="32" />
        <h1>Image Analyzer</h1>
        <StatusPill service={service} />
        <ThemeButton />
      </header>
      <main data-first={isFirst || undefined}>
        {isFirst && <p className="hero">Any picture in, a prompt for your image generator out.</p>}
        {service.health?.key_required === true && <KeyField apiKey={apiKey} onChange={setApiKey} onEnter={sendAgain} />}
        <IntelligentModeImageOptions
          analyzer={analyzer}
          file={file}
          onFileChange={choose}
          prompt={prompt}
          onPromptChange={setPrompt}
          {...settings}
          onUserPromptChange={(userPrompt) => {
            change({ userPrompt });
          }}
          onLanguageChange={(language) => {
            change({ language });
          }}
          onTargetChange={(target) => {
            change({ target });
          }}
          onLengthChange={(length) => {
            change({ length });
          }}
          onDeepThinkingChange={(deepThinking) => {
            change({ deepThinking });
          }}
          onVisionChange={(vision) => {
            change({ vision });
          }}
          onModelChange={(model) => {
            change({ model });
          }}
          onSeedChange={(seed) => {
            change({ seed });
          }}
          onWeightsChange={(weights) => {
            change({ weights });
          }}
          models={models}
          targets={targets}
          autoVision={autoVisionOf(service)}
          onResult={remember}
          intake="document"
          outputRef={output}
          pictureActions={file === null && <Samples onPicture={choose} />}
        >
          {analyzer.analysis !== null && (
            <div className="findings card" data-stage={analyzer.stage}>
              <TagChips tags={analyzer.tags} off={settings.without} onToggle={toggle} />
              <PaletteStrip palette={analyzer.palette} />
              <AnalysisBars analysis={analyzer.analysis} />
            </div>
          )}
          <Details analyzer={analyzer} told={told} />
        </IntelligentModeImageOptions>
      </main>
      <footer>
        <a href="./docs">For developers: the API</a>
      </footer>
    </>
  );
}
