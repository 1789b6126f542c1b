import { type ReactElement, useState } from "react";

import {
  AnalysisBars,
  type AnalyzeResult,
  CopyButton,
  IntelligentModeImageOptions,
  PaletteStrip,
  type ServiceHealth,
  TagChips,
  useImageAnalyzer,
  useModels,
  useServiceHealth,
  useTargets,
} from "../src/index.ts";
import { Gallery } from "./Gallery.tsx";
import { KeyField } from "./KeyField.tsx";
import { Samples } from "./Samples.tsx";
import { noticesOf, ServiceNotices, StatusPill } from "./ServiceNotices.tsx";
import { ThemeButton } from "./ThemeButton.tsx";
import { TimingLine } from "./TimingLine.tsx";
import { useApiKey } from "./useApiKey.ts";
import type { Settings } from "./settings.ts";
import { useHistory } from "./useHistory.ts";

/** The page's own folder: under a route prefix, the API is there too. */
const BASE_URL = new URL(".", document.baseURI).href;

/** The component's own, as it begins; the page does not know them yet. */
const SETTINGS: Settings = {
  userPrompt: "",
  language: "en",
  target: "",
  length: null,
  deepThinking: false,
  vision: "auto",
  model: "",
  seed: null,
  weights: false,
  without: [],
};

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
  const history = useHistory();
  const [file, setFile] = useState<File | null>(null);
  const [prompt, setPrompt] = useState("");
  const [recalled, setRecalled] = useState("");

  const choose = (picture: File | null): void => {
    if (prompt === recalled) setPrompt(""); // It is nobody's own words, and makes room.
    setFile(picture);
  };
  const recall = (text: string): void => {
    setRecalled(text);
    setPrompt(text);
  };
  const remember = (result: AnalyzeResult, picture: File): void => {
    if (result.success) void history.remember(result, picture, { ...SETTINGS, userPrompt: result.userInput });
  };
  const told = new Set(noticesOf(service).map((notice) => notice.sentence));
  const warnings = analyzer.warnings.filter((warning) => !told.has(warning));

  return (
    <>
      <header className="page-header">
        <h1>Image Analyzer</h1>
        <StatusPill service={service} />
        <ThemeButton />
      </header>
      <main>
        <ServiceNotices service={service} />
        {service.health?.key_required === true && <KeyField apiKey={apiKey} onChange={setApiKey} />}
        <Samples onPicture={choose} />
        <IntelligentModeImageOptions
          analyzer={analyzer}
          file={file}
          onFileChange={choose}
          models={models}
          autoVision={autoVisionOf(service)}
          targets={targets}
          prompt={prompt}
          onPromptChange={setPrompt}
          onResult={remember}
          intake="document"
          actions={<CopyButton text={prompt}>Copy the prompt</CopyButton>}
          negativeActions={
            <div className="ia-actions">
              <CopyButton text={analyzer.negativePrompt ?? ""}>Copy the negative prompt</CopyButton>
            </div>
          }
        >
          <TimingLine analyzer={analyzer} />
          {warnings.length > 0 && (
            <ul className="warnings" aria-label="What would make this answer better">
              {warnings.map((warning) => (
                <li key={warning}>{warning}</li>
              ))}
            </ul>
          )}
          {analyzer.analysis !== null && (
            <div className="findings">
              <TagChips tags={analyzer.tags} />
              <AnalysisBars analysis={analyzer.analysis} />
              <PaletteStrip palette={analyzer.palette} />
            </div>
          )}
        </IntelligentModeImageOptions>
        <Gallery
          history={history}
          openId={null}
          onOpen={({ answer }) => {
            recall(answer.generatedPrompt);
          }}
        />
      </main>
      <footer>
        <a href="./docs">API description</a>
      </footer>
    </>
  );
}
