/** The playground with the library in it, for a browser: one module, which the site loads when somebody starts it. */
import { build } from "esbuild"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url))

/** It exports `mount` of main.tsx. */
export const bundle = async (): Promise<{
  readonly code: string
  readonly files: ReadonlyArray<string>
}> => {
  const root = here("../..")
  const { metafile, outputFiles } = await build({
    entryPoints: [here("main.tsx")],
    absWorkingDir: root,
    tsconfig: here("tsconfig.json"),
    bundle: true,
    minify: true,
    write: false,
    metafile: true,
    format: "esm",
    charset: "utf8",
    target: ["chrome111", "firefox113", "safari16.4"],
    // as tsconfig.json says it of types
    alias: {
      effect: "effect4",
      "node:async_hooks": here("node.ts"),
      "node:crypto": here("node.ts"),
      "node:events": here("node.ts")
    },
    inject: [here("node.ts")],
    legalComments: "none",
    logLevel: "warning"
  })
  return {
    code: outputFiles[0]!.text,
    files: Object.keys(metafile.inputs).map((file) => join(root, file))
  }
}

const id = "\0virtual:play"

/** For Vite: what load.ts imports is the bundle. */
export const play = () => ({
  name: "play",
  enforce: "pre" as const,
  resolveId: (source: string, importer: string | undefined) =>
    importer === here("load.ts") && source === "./main.js" ? id : undefined,
  async load(this: { readonly addWatchFile: (file: string) => void }, source: string) {
    if (source !== id) return undefined
    const { code, files } = await bundle()
    for (const file of files) if (!file.includes("node_modules")) this.addWatchFile(file)
    return code
  }
})
