import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

const SERVICE = process.env.SERVICE_URL ?? "http://127.0.0.1:8000";

/** Builds the page at `/` into the Python package; `npm run dev` serves it with the API of a running service. */
export default defineConfig({
  root: "page",
  base: "./",
  plugins: [react()],
  server: { proxy: { "/api": SERVICE, "/docs": SERVICE, "/openapi.json": SERVICE } },
  build: {
    outDir: "../../serve_app/static",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    cssTarget: ["chrome123", "firefox120", "safari17.5"], // the first with light-dark(), which would be rewritten
  },
  test: { root: ".", environment: "happy-dom", include: ["tests/**/*.test.{ts,tsx}"], restoreMocks: true },
});
