/**
 * Writes the API reference, docs/api/: a page for each module, from the built declarations (`npm run api:docs`, after a
 * build). The pages are not in git. They read the same on GitHub and with VitePress.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { builtFaces } from "./api-faces.js"
import { Pages } from "./api-pages.js"

process.chdir(join(import.meta.dirname, ".."))
const [face, face4] = builtFaces()
const pages = new Pages(face, face4)
const directory = "docs/api"
rmSync(directory, { recursive: true, force: true })
mkdirSync(directory, { recursive: true })
writeFileSync(join(directory, "index.md"), await pages.index())
for (const module of face.modules) {
  writeFileSync(join(directory, `${module.name}.md`), await pages.page(module))
}
if (pages.problems.length > 0) console.error(pages.problems.join("\n"))
else console.log(`${face.modules.length} pages in ${directory}`)
process.exitCode = pages.problems.length > 0 ? 1 : 0
