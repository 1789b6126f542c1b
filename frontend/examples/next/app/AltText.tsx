"use client";

import { useState } from "react";
import { useImageAnalyzer } from "image-analyzer-react";

/** The hook alone: a sentence on what a picture shows. */
export function AltText() {
  const [text, setText] = useState("");
  const { analyzeImage, isAnalyzing, failure } = useImageAnalyzer({
    baseUrl: process.env.NEXT_PUBLIC_IMAGE_ANALYZER_URL,
    onFinish: ({ generatedPrompt }) => {
      setText(generatedPrompt);
    },
  });
  return (
    <form>
      <label>
        Picture{" "}
        <input
          type="file"
          accept="image/*"
          disabled={isAnalyzing}
          onChange={({ target }) => {
            const file = target.files?.[0];
            if (file !== undefined) void analyzeImage(file, { length: "short", stream: false });
          }}
        />
      </label>
      <output>
        {failure?.code === "queue_full" ? "Many pictures are waiting: try again soon." : (failure?.error ?? text)}
      </output>
    </form>
  );
}
