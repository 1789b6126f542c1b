/// <reference types="@vitejs/plugin-rsc/types" />
import { renderToReadableStream } from "@vitejs/plugin-rsc/rsc";

import Layout from "../../examples/next/app/layout.tsx";
import Page from "../../examples/next/app/page.tsx";

/** What Next does with a request: server components here, then HTML with the client's. */
export default async function handler(): Promise<Response> {
  const page = renderToReadableStream(
    <Layout>
      <Page />
    </Layout>,
  );
  const { toHtml } = await import.meta.viteRsc.loadModule<typeof import("./entry.ssr.tsx")>("ssr", "index");
  return new Response(await toHtml(page));
}
