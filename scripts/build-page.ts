/**
 * Makes the page of `LockInspectorHttp` out of `page/`: one file that needs nothing else, as a module that the
 * library has. `tsx scripts/build-page.ts` writes src/internal/inspector/page.ts.
 */
import { buildSync } from "esbuild"
import { createHash } from "node:crypto"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"

const root = join(import.meta.dirname, "..")
export const target = join(root, "src/internal/inspector/page.ts")

const bundled = (entry: string): string => {
  const { outputFiles } = buildSync({
    entryPoints: [join(root, "page", entry)],
    tsconfig: join(root, "page/tsconfig.json"),
    bundle: true,
    minify: true,
    write: false,
    format: "iife",
    charset: "utf8",
    target: ["chrome111", "firefox113", "safari16.4"],
    legalComments: "none",
    logLevel: "warning"
  })
  // (nothing in it ends the element that it stands in)
  return outputFiles[0]!.text.trim().replaceAll(/<\/(script|style)/gi, "<\\/$1")
}

const hash = (text: string): string =>
  `'sha256-${createHash("sha256").update(text).digest("base64")}'`

export interface Page {
  readonly html: string
  /** Its Content-Security-Policy: nothing runs in it but its own script, and it loads nothing. */
  readonly policy: string
}

export const buildPage = (): Page => {
  const script = bundled("main.tsx")
  const style = bundled("style.css")
  const html = readFileSync(join(root, "page/page.html"), "utf8")
    .replace(/<style>[^]*?<\/style>/, () => `<style>${style}</style>`)
    .replace(/<script>[^]*?<\/script>/, () => `<script>${script}</script>`)
  const policy = [
    "default-src 'none'",
    `script-src ${hash(script)}`,
    `style-src ${hash(style)}`,
    "connect-src 'self'",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'"
  ].join("; ")
  return { html, policy }
}

/** As it stands in the library. */
export const moduleOf = ({ html, policy }: Page): string =>
  [
    "// Made by scripts/build-page.ts out of page/: npm run build:page",
    `export const html: string = ${JSON.stringify(html)}`,
    `export const policy: string = ${JSON.stringify(policy)}`,
    ""
  ].join("\n")

if (process.argv[1] === import.meta.filename) {
  writeFileSync(target, moduleOf(buildPage()))
}
