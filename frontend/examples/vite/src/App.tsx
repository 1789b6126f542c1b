import { useState } from "react";
import {
  AnalysisBars,
  CopyButton,
  IntelligentModeImageOptions,
  PaletteStrip,
  TagChips,
  useImageAnalyzer,
  useTargets,
} from "image-analyzer-react";

/** The whole component, with what it found of the picture below. */
export function App() {
  const analyzer = useImageAnalyzer();
  const targets = useTargets();
  const [prompt, setPrompt] = useState("");
  return (
    <main>
      <h1>Prompts from pictures</h1>
      <IntelligentModeImageOptions
        analyzer={analyzer}
        targets={targets}
        prompt={prompt}
        onPromptChange={setPrompt}
        actions={<CopyButton text={prompt}>Copy</CopyButton>}
      >
        {analyzer.analysis !== null && (
          <>
            <TagChips tags={analyzer.tags} />
            <AnalysisBars analysis={analyzer.analysis} />
            <PaletteStrip palette={analyzer.palette} />
          </>
        )}
      </IntelligentModeImageOptions>
    </main>
  );
}
