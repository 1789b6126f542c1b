import { IntelligentModeImageOptions } from "image-analyzer-react";
import { LANGUAGES } from "image-analyzer-react/client";

import { AltText } from "./AltText";

/** A server component: the package's own files say that they are for the client. */
export default function Page() {
  return (
    <main>
      <h1>Prompts from pictures</h1>
      <p>In {Object.values(LANGUAGES).join(", ")}.</p>
      <IntelligentModeImageOptions config={{ baseUrl: process.env.NEXT_PUBLIC_IMAGE_ANALYZER_URL }} />
      <AltText />
    </main>
  );
}
