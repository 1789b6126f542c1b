import {
  type ReactElement,
  useCallback,
  useEffect,
  useEffectEvent,
  useRef,
  useState,
  useSyncExternalStore,
} from "react";

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
import { offered } from "../src/offered.ts";
import icon from "./icon.svg";
import { askThrough } from "./askThrough.ts";
import { Details } from "./Details.tsx";
import { Gallery } from "./Gallery.tsx";
import { fileOf } from "./history.ts";
import { KeyField } from "./KeyField.tsx";
import type { QueuedPicture } from "./queue.ts";
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

/** What a service that is back does not fail by. */
const HEALED: ReadonlySet<string> = new Set(["unreachable", "stream_cut", "shutting_down"]);

/** Of one picture: what is unreachable though the service answers stays so. */
const MOST_HEALINGS = 3;

/** Of a service that is back: not every page that waited for it sends its picture at once. */
const HEALS_WITHIN_MS = 1000;

/** The share of the window's height within which a prompt that begins is seen. */
const SEEN_WITHIN = 0.6;

/** An answer's settings, and its place in the history; null as long as it has none. */
interface Entry {
  settings: Settings;
  id: string | null;
}

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
  const [settings, change, show] = useSettings();
  const [file, setFile] = useState<File | null>(null);
  const [prompt, setPrompt] = useState("");
  const output = useRef<HTMLDivElement>(null);
  const history = useHistory();
  const [openId, setOpenId] = useState<string | null>(null);
  const ofQueue = useRef(new WeakMap<AnalyzeAnswer, Entry>());
  const queue = usePictureQueue(async (picture, onPrompt, signal) => {
    const client = new AnalyzerClient(config);
    const asked = offered({ ...settings, without: [] }, models, targets);
    const result = await askThrough({
      stream: (image, filename, signal) => client.stream({ ...asked, image, filename }, signal),
      send: (file, send) => sendPicture(file, send, { small: !isOnThisMachine(client.address) }),
    })(picture, onPrompt, signal);
    if (result.success) {
      ofQueue.current.set(result, { settings: asked, id: null });
      void history.remember(result, picture, asked).then((id) => ofQueue.current.set(result, { settings: asked, id }));
    }
    return result;
  });

  const isQueued = useSyncExternalStore(queue.subscribe, () => queue.snapshot().pictures.length > 0);

  const healings = useRef(0);
  /** The picture that is on the page; what was on its way for another comes too late. */
  const onPage = useRef<File | null>(null);
  const put = (picture: File | null, id: string | null, shown: Partial<Settings>): void => {
    healings.current = 0;
    onPage.current = picture;
    show(shown);
    setOpenId(id);
    setFile(picture);
  };
  const choose = (picture: File | null): void => {
    put(picture, null, { without: [] });
  };
  const open = (answer: AnalyzeAnswer, picture: File, { settings, id }: Entry): void => {
    analyzer.show(answer, picture);
    put(picture, id, settings);
  };
  const openQueued = useRef<(item: QueuedPicture) => void>(() => undefined);
  useEffect(() => {
    openQueued.current = ({ answer, file }) => {
      const entry = answer && ofQueue.current.get(answer);
      if (entry) open(answer, file, entry);
    };
  });
  const chooseSample = (picture: File): void => {
    choose(picture);
    output.current?.focus({ preventScroll: true }); // The sample's button, which has the focus, goes.
  };
  const sendAgain = (): void => {
    if (file === null || analyzer.error === null) return;
    const again = new File([file], file.name, { type: file.type });
    onPage.current = again;
    setFile(again);
  };
  const heal = useEffectEvent(() => {
    if (!HEALED.has(analyzer.errorCode ?? "") || healings.current >= MOST_HEALINGS) return;
    healings.current += 1;
    sendAgain();
  });
  const { health } = service; // Another with each answer.
  useEffect(() => {
    if (health === null) return;
    const timer = setTimeout(heal, Math.random() * HEALS_WITHIN_MS);
    return () => {
      clearTimeout(timer);
    };
  }, [health]);
  useEffect(() => {
    const written = output.current;
    const root = written?.closest(".ia-root");
    if (file === null || !root || !written) return;
    const isInView = written.getBoundingClientRect().top < globalThis.innerHeight * SEEN_WITHIN;
    if (!isInView || root.getBoundingClientRect().top < 0) root.scrollIntoView({ block: "start" });
  }, [file]);
  const remember = async (result: AnalyzeResult, picture: File, seed: number | null): Promise<void> => {
    if (!result.success) return;
    const id = await history.remember(result, picture, { ...settings, seed });
    if (onPage.current === picture) setOpenId(id);
  };
  const onOpenQueued = useCallback((item: QueuedPicture) => {
    openQueued.current(item);
  }, []);
  const changed =
    <Name extends keyof Settings>(name: Name) =>
    (value: Settings[Name]): void => {
      change({ [name]: value });
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
        {(service.health?.key_required === true || apiKey !== "") && (
          <KeyField
            apiKey={apiKey}
            onChange={setApiKey}
            onEnter={() => {
              sendAgain();
              queue.resume();
            }}
          />
        )}
        <QueueBoard queue={queue} onOpen={onOpenQueued} />
        <IntelligentModeImageOptions
          analyzer={analyzer}
          file={file}
          onFileChange={choose}
          prompt={prompt}
          onPromptChange={setPrompt}
          {...settings}
          onUserPromptChange={changed("userPrompt")}
          onLanguageChange={changed("language")}
          onTargetChange={changed("target")}
          onLengthChange={changed("length")}
          onDeepThinkingChange={changed("deepThinking")}
          onVisionChange={changed("vision")}
          onModelChange={changed("model")}
          onSeedChange={changed("seed")}
          onWeightsChange={changed("weights")}
          models={models}
          targets={targets}
          autoVision={autoVisionOf(service)}
          onResult={(result, picture, asked) => void remember(result, picture, asked.seed ?? null)}
          onManyFiles={(files, leftOut) => {
            queue.add(files, leftOut);
          }}
          intake="document"
          outputRef={output}
          pictureActions={file === null && <Samples onPicture={chooseSample} />}
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
            open(entry.answer, fileOf(entry), entry);
          }}
        />
      </main>
      <footer>
        <a href="./docs">For developers: the API</a>
      </footer>
    </>
  );
}
