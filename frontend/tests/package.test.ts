// @vitest-environment node
/** The package as it is published: packed, installed beside React and without it, and built into the examples. */

import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { publint } from "publint";
import ts from "typescript";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const FRONTEND = resolve(import.meta.dirname, "..");
const NAME = "image-analyzer-react";
const SLOW_MS = 120_000;

let folder = "";
let tarball = "";

async function run(program: string, args: readonly string[], cwd: string): Promise<string> {
  const env = { ...process.env, NODE_ENV: "production" };
  const { stdout, stderr } = await promisify(execFile)(program, args, { cwd, env, timeout: SLOW_MS });
  return stdout + stderr;
}

const build = (app: string, ...args: string[]): Promise<string> =>
  run(process.execPath, [join(FRONTEND, "node_modules/vite/bin/vite.js"), "build", ...args], join(folder, app));

const execute = (script: string, from: string): Promise<string> =>
  run(process.execPath, ["--input-type=module", "--eval", script], join(folder, from));

/** Installs the package as npm does, with what stands in `beside`. */
async function install(app: string, beside: readonly string[]): Promise<void> {
  const modules = join(folder, app, "node_modules");
  const installed = join(modules, NAME);
  await mkdir(installed, { recursive: true });
  await run("tar", ["-xf", tarball, "-C", installed, "--strip-components=1"], folder);
  await writeFile(join(folder, app, "package.json"), JSON.stringify({ type: "module", dependencies: { [NAME]: "*" } }));
  for (const name of beside) await symlink(join(FRONTEND, "node_modules", name), join(modules, name));
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ia-package-"));
  await run("npm", ["pack", "--pack-destination", folder], FRONTEND);
  tarball = join(folder, (await readdir(folder)).find((file) => file.endsWith(".tgz")) ?? "");
  await install("alone", []);
  await install("app", await readdir(join(FRONTEND, "node_modules")));
  for (const part of ["examples", "tests/serverComponents"]) {
    await cp(join(FRONTEND, part), join(folder, "app", part), { recursive: true });
  }
}, SLOW_MS);

afterAll(() => rm(folder, { recursive: true }));

describe("the package", () => {
  it("is one that publint and attw accept, with README and LICENSE", async () => {
    const data = new Uint8Array(await readFile(tarball));
    expect((await publint({ pack: { tarball: data.buffer }, strict: true })).messages).toEqual([]);
    const types = await checkPackage(createPackageFromTarballData(data));
    if (!types.types) throw new Error("the package has no types");
    expect(Object.keys(types.entrypoints)).toEqual([".", "./client", "./styles.css"]);
    // As attw --profile esm-only: every Node that React 19.2 is for requires an ES module, and node10 knows no exports.
    const others = ["node10", "node16-cjs"];
    expect(
      types.problems.filter((problem) => !("resolutionKind" in problem && others.includes(problem.resolutionKind))),
    ).toEqual([]);
    expect(await readdir(join(folder, "alone/node_modules", NAME))).toEqual(
      ["LICENSE", "README.md", "dist", "package.json"].sort(),
    );
  });

  it('says "use client" wherever there is a hook or a component, and nowhere in the client', async () => {
    const dist = join(folder, "alone/node_modules", NAME, "dist");
    for (const file of (await readdir(dist)).filter((name) => name.endsWith(".js"))) {
      const text = await readFile(join(dist, file), "utf8");
      const isReact = file === "index.js" || /from "react(\/jsx-runtime)?"|^export function use/m.test(text);
      expect([file, text.startsWith('"use client";')]).toEqual([file, isReact]);
    }
  });

  it("gives the client where there is no React, and in scripts", async () => {
    const script = `
      import { AnalyzerClient, AnalyzerError } from "${NAME}/client";
      for (const config of [{ baseUrl: "http://127.0.0.1:9" }, {}])
        await new AnalyzerClient(config).health().catch((error) => {
          console.log(error instanceof AnalyzerError, error.code, error.message);
        });`;
    expect((await execute(script, "alone")).split("\n")).toEqual([
      "true unreachable Nothing answers at http://127.0.0.1:9/api/images/health: check the network and that the service runs.",
      'true unreachable There is no service at "": give its whole address as baseUrl, http:// or https:// included.',
      "",
    ]);
  });

  it("renders on a server", async () => {
    const script = `
      import { createElement } from "react";
      import { renderToString } from "react-dom/server";
      import { IntelligentModeImageOptions } from "${NAME}";
      console.log(renderToString(createElement(IntelligentModeImageOptions)));`;
    expect(await execute(script, "app")).toContain("Choose a picture");
  });

  it.each([
    ["AnalyzerClient", "/client", 2.2],
    ["useImageAnalyzer", "", 5.5],
  ])(
    "stays small: %s%s is at most %d kB, gzipped",
    async (name, entry, kilobytes) => {
      await mkdir(join(folder, "app/size"), { recursive: true });
      await writeFile(
        join(folder, "app/size/index.js"),
        `import { ${name} } from "${NAME}${entry}"; console.log(${name});`,
      );
      const config = `export default { build: { rolldownOptions: { input: "index.js", external: ["react"],
      output: { entryFileNames: "[name].js" } } } };`;
      await writeFile(join(folder, "app/size/vite.config.js"), config);
      await build("app/size");
      const { length } = gzipSync(await readFile(join(folder, "app/size/dist/index.js")));
      expect(length).toBeLessThanOrEqual(kilobytes * 1000);
    },
    SLOW_MS,
  );

  it(
    "is built into a Vite app",
    async () => {
      expect(await build("app/examples/vite")).not.toMatch(/warn|directive/i);
      const assets = join(folder, "app/examples/vite/dist/assets");
      const css = (await readdir(assets)).find((file) => file.endsWith(".css")) ?? "";
      // What a bundler rewrites for older browsers has no colour where no CSS of the app names a color-scheme.
      expect(await readFile(join(assets, css), "utf8")).not.toContain("--lightningcss-light,");
    },
    SLOW_MS,
  );

  it(
    "is rendered by React's server components, as Next does it",
    async () => {
      await build("app/tests/serverComponents", "--app");
      const script = `
      const { default: handler } = await import("./dist/rsc/index.js");
      console.log(await (await handler()).text());`;
      const html = await execute(script, "app/tests/serverComponents");
      expect(html).toContain("Choose a picture");
      expect(html).toContain("日本語");
      expect(html).toMatch(/<link[^>]+\.css"/);
    },
    SLOW_MS,
  );

  it(
    "is told of truly: every snippet of its documents compiles, and the examples",
    async () => {
      const files: string[] = [];
      for (const document of ["frontend/README.md", "docs/frontend.md"]) {
        const text = await readFile(resolve(FRONTEND, "..", document), "utf8");
        for (const [, code = ""] of text.matchAll(/^```tsx?\n(.*?)^```/gms)) {
          files.push(join(folder, `app/snippet${String(files.length)}.tsx`));
          await writeFile(files.at(-1) ?? "", `// ${document}\n${code}\nexport {};\n`);
        }
      }
      expect(files).toHaveLength(6);
      files.push(join(FRONTEND, "node_modules/vite/client.d.ts"));
      for (const file of ["vite/src/main.tsx", "next/app/layout.tsx", "next/app/page.tsx"]) {
        files.push(join(folder, "app/examples", file));
      }
      const program = ts.createProgram(files, {
        target: ts.ScriptTarget.ES2023,
        module: ts.ModuleKind.ESNext,
        moduleResolution: ts.ModuleResolutionKind.Bundler,
        jsx: ts.JsxEmit.ReactJSX,
        types: ["node"],
        typeRoots: [join(FRONTEND, "node_modules/@types")],
        strict: true,
        noUncheckedSideEffectImports: true,
        noEmit: true,
      });
      const host = { getCurrentDirectory: () => folder, getCanonicalFileName: String, getNewLine: () => "\n" };
      expect(ts.formatDiagnosticsWithColorAndContext(ts.getPreEmitDiagnostics(program), host)).toBe("");
    },
    SLOW_MS,
  );
});
