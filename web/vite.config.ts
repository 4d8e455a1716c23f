import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig, type Plugin } from "vite";

/** Parts of the libraries that this page never calls, and that would weigh much or do not run in browsers. */
const NEVER_CALLED: [RegExp, string][] = [
  // Statistics of segmentations, in a worker that weighs as much as all the rest.
  [/@cornerstonejs\/tools\/.*\/registerComputeWorker\.js$/, "registerComputeWorker"],
  // Reads surface meshes in XML; it wants Node's own modules.
  [/\/xmlbuilder2\/lib\/index\.js$/, "create"],
];

function withoutNeverCalled(): Plugin {
  return {
    name: "without-never-called",
    enforce: "pre",
    load(id) {
      const found = NEVER_CALLED.find(([pattern]) => pattern.test(id));
      return found ? `export function ${found[1]}() { throw new Error("not in this page"); }` : null;
    },
  };
}

/** The licences of all that is built in travel with it. */
function licences(): Plugin {
  return {
    name: "licences",
    generateBundle(_, bundle) {
      const packages = new Set<string>();
      for (const chunk of Object.values(bundle)) {
        if (chunk.type !== "chunk") continue;
        for (const [id, module] of Object.entries(chunk.modules)) {
          const found = /^\0?(.*\/node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(id);
          if (found?.[1] && module.renderedLength > 0) packages.add(found[1]);
        }
      }
      const texts = [...packages].sort().map((folder) => {
        const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
        const file = readdirSync(folder)
          .sort()
          .find((entry) => /^licen[cs]e/i.test(entry));
        const text = file && existsSync(join(folder, file)) ? readFileSync(join(folder, file), "utf8").trim() : "";
        return `${name} ${version} (${license})\n\n${text}\n`;
      });
      this.emitFile({ type: "asset", fileName: "licences.txt", source: texts.join(`\n${"-".repeat(80)}\n\n`) });
    },
  };
}

export default defineConfig({
  plugins: [withoutNeverCalled(), licences()],
  esbuild: { jsx: "automatic", jsxImportSource: "preact", legalComments: "none" },
  build: {
    outDir: "../src/freezeframe/pacs/review/page",
    emptyOutDir: true,
    target: "es2022",
    sourcemap: false,
    // Pages are served under a policy that allows no inline data but pictures.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 4096,
  },
});
