import { type ReactElement, useEffect, useEffectEvent, useRef, useState, useSyncExternalStore } from "react";

import {
  AnalysisBars,
  type AnalyzeAnswer,
  AnalyzerClient,
  type AnalyzerConfig,
  type AnalyzeResult,
  IntelligentModeImageOptions,
  PaletteStrip,
  sendPicture,
  type ServiceHealth,
  TagChips,
  useImageAnalyzer,
  useModels,
  useServiceHealth,
  useTargets,
} from "../src/index.ts";
import { isOnThisMachine } from "../src/loopback.ts";
import icon from "./icon.svg";
import { askThrough } from "./askThrough.ts";
import { Details } from "./Details.tsx";
import { Gallery } from "./Gallery.tsx";
import { fileOf } from "./history.ts";
import { KeyField } from "./KeyField.tsx";
import { QueueBoard } from "./QueueBoard.tsx";
import { Samples } from "./Samples.tsx";
import { type Settings, useSettings } from "./settings.ts";
import { StatusPill } from "./StatusPill.tsx";
import { ThemeButton } from "./ThemeButton.tsx";
import { useApiKey } from "./useApiKey.ts";
import { useHistory } from "./useHistory.ts";
import { usePictureQueue } from "./usePictureQueue.ts";

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
  const config: AnalyzerConfig = {
    baseUrl: BASE_URL,
    headers: apiKey === "" ? {} : { Authorization: `Bearer ${apiKey}` },
  };
  const analyzer = useImageAnalyzer(config);
  const service = useServiceHealth(config);
  const models = useModels(config, analyzer.stage === "complete"); // Then another may be loaded.
  const targets = useTargets(config, service.health?.status);
  const [settings, change] = useSettings();
  const [file, setFile] = useState<File | null>(null);
  const [prompt, setPrompt] = useState("");
  const output = useRef<HTMLDivElement>(null);
  const history = useHistory();
  const [openId, setOpenId] = useState<string | null>(null);
  const queue = usePictureQueue(async (picture, onPrompt, signal) => {
    const client = new AnalyzerClient(config);
    const result = await askThrough({
      stream: (image, filename, signal) => client.stream({ ...settings, without: [], image, filename }, signal),
      send: (file, send) => sendPicture(file, send, { small: !isOnThisMachine(client.address) }),
    })(picture, onPrompt, signal);
    if (result.success) void history.remember(result, picture, { ...settings, without: [] });
    return result;
  });

  const isQueued = useSyncExternalStore(queue.subscribe, () => queue.snapshot().pictures.length > 0);

  const choose = (picture: File | null): void => {
    change({ without: [] });
    setOpenId(null);
    setFile(picture);
  };
  const open = (answer: AnalyzeAnswer, picture: File, asked: Settings): void => {
    analyzer.show(answer, picture);
    change(asked);
    setPrompt(answer.generatedPrompt);
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
  const remember = async (result: AnalyzeResult, picture: File): Promise<void> => {
    if (result.success) setOpenId(await history.remember(result, picture, settings));
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
        {isFirst && !isQueued && <p className="hero">Any picture in, a prompt for your image generator out.</p>}
        {service.health?.key_required === true && <KeyField apiKey={apiKey} onChange={setApiKey} onEnter={sendAgain} />}
        <QueueBoard
          queue={queue}
          onOpen={({ answer, file }) => {
            if (answer !== null) open(answer, file, { ...settings, without: [] });
          }}
        />
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
          onResult={(result, picture) => void remember(result, picture)}
          onManyFiles={(files, leftOut) => {
            queue.add(files, leftOut);
          }}
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
        <Gallery
          history={history}
          openId={openId}
          onOpen={(entry) => {
            open(entry.answer, fileOf(entry), entry.settings);
            setOpenId(entry.id);
          }}
        />
      </main>
      <footer>
        <a href="./docs">For developers: the API</a>
      </footer>
    </>
  );
}
