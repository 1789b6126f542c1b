import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

/** The service answers below the app's own origin: no CORS to be allowed, no address to be told. */
export default defineConfig({ plugins: [react()], server: { proxy: { "/api": "http://127.0.0.1:8000" } } });
