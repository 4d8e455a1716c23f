import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig, type Plugin } from "vite";

// The tools' worker computes statistics of segmentations, which this page has none of; it would weigh as much as all the rest.
function withoutSegmentationWorker(): Plugin {
  return {
    name: "without-segmentation-worker",
    enforce: "pre",
    load(id) {
      if (/@cornerstonejs\/tools\/.*\/registerComputeWorker\.js$/.test(id)) {
        return "export function registerComputeWorker() { throw new Error('no segmentations here'); }";
      }
      return null;
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
        const file = readdirSync(folder).sort().find((entry) => /^licen[cs]e/i.test(entry));
        const text = file && existsSync(join(folder, file)) ? readFileSync(join(folder, file), "utf8").trim() : "";
        return `${name} ${version} (${license})\n\n${text}\n`;
      });
      this.emitFile({ type: "asset", fileName: "licences.txt", source: texts.join(`\n${"-".repeat(80)}\n\n`) });
    },
  };
}

export default defineConfig({
  plugins: [withoutSegmentationWorker(), licences()],
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
