import react from "@vitejs/plugin-react";
import rsc from "@vitejs/plugin-rsc";
import { defineConfig } from "vite";

const entry = (name: string) => ({ build: { rollupOptions: { input: { index: `./entry.${name}.tsx` } } } });

/** Builds examples/next as Next would: with React's server components, and the package's "use client" in between. */
export default defineConfig({
  plugins: [react(), rsc({ serverHandler: false })],
  define: { "process.env.NEXT_PUBLIC_IMAGE_ANALYZER_URL": '"http://127.0.0.1:8000"' },
  environments: { rsc: entry("rsc"), ssr: entry("ssr"), client: entry("browser") },
});
