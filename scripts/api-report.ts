/**
 * What the package promises its users, as far as types say it: api/effect3.api.md and api/effect4.api.md, written from
 * the built declarations. `npm run api:report` writes them; `npm run api:check` fails if they are not as the
 * declarations are, or if an export is not documented (api-documented.ts).
 */
import { spawnSync } from "node:child_process"
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as prettier from "prettier"
import { undocumented } from "./api-documented.js"
import { builtFaces, type Face } from "./api-faces.js"
import { as, byName, isOurs, type Origin } from "./api-model.js"

/** The report of a face. It has no comments, and is in an order that depends on names only. */
export async function reportOf(face: Face): Promise<string> {
  const hidden = face.hiddenBehind(
    face.modules.flatMap(({ exports }) => exports.map(({ origin }) => origin))
  )
  const rooms = new Map<string, Array<Origin>>()
  for (const origin of hidden) {
    const room = face.roomOf(origin)
    rooms.set(room, [...(rooms.get(room) ?? []), origin])
  }
  const ofModules = face.modules.map((module) => {
    const parts = byName(module.exports).map((it): Part => {
      if (face.owns(module, it) && isOurs(it.origin.file)) {
        return { origin: it.origin, isExported: true }
      }
      const owner = face.ownerOf(it.origin)
      return owner === undefined || !isOurs(it.origin.file)
        ? `export { ${as(it.origin.name, it.name)} } from "${it.origin.file}"`
        : `export { ${as(owner.name, it.name)} } from "${owner.module.path}"`
    })
    const own = (rooms.get(module.name) ?? []).map((origin) => ({ origin, isExported: false }))
    return section(face, module.name, module.path, [...parts, ...own])
  })
  const others = [...rooms]
    .filter(([room]) => !face.modules.some(({ name }) => name === room))
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([room, origins]) =>
      section(
        face,
        room,
        room,
        origins.map((origin) => ({ origin, isExported: false }))
      )
    )
  const entries = byName(face.index.exports).map(({ name }) => `export * as ${name}`)
  const text = [
    `# The API for Effect ${face.version}`,
    `Written by \`npm run api:report\` from the built declarations; not by hand. What changes here changes for users.`,
    `## ${face.index.path}\n\n\`\`\`ts\n${entries.join("\n")}\n\`\`\``,
    ...ofModules,
    ...(others.length === 0
      ? []
      : ["## Not exported\n\nWhat the types above are made of, and no module exports.", ...others])
  ].join("\n\n")
  return prettier.format(text, {
    parser: "markdown",
    ...(await prettier.resolveConfig("api/effect3.api.md"))
  })
}

/** A declaration, or a line as it is. */
type Part = string | { readonly origin: Origin; readonly isExported: boolean }

function section(face: Face, room: string, title: string, parts: ReadonlyArray<Part>): string {
  const imports = new Set<string>()
  const texts = parts.flatMap((part) => {
    if (typeof part === "string") return [part]
    return face.declarations.declared(part.origin).map((declared) => {
      for (const { imported, to } of face.declarations.references(declared)) {
        if (imported !== undefined) imports.add(`import type ${imported} from "${to.file}"`)
      }
      const text = face.declarations.print(declared, (to) => face.qualified(to, room))
      return part.isExported ? `export ${text}` : text
    })
  })
  const code = [[...imports].sort().join("\n"), ...texts].join("\n\n")
  return `## ${title}\n\n\`\`\`ts\n${code}\n\`\`\``
}

const fileOf = (face: Face): string => `effect${face.version}.api.md`

/** Answers the differences from what is in the repository, as `git diff` shows them. */
async function differences(faces: ReadonlyArray<Face>): Promise<string> {
  const directory = ".cache/api"
  mkdirSync(directory, { recursive: true })
  const all = faces.map(async (face) => {
    const [known, built] = [join("api", fileOf(face)), join(directory, fileOf(face))]
    writeFileSync(built, await reportOf(face))
    const git = ["diff", "--no-index", "--no-color", "--no-ext-diff", "--", known, built]
    const { error, status, stderr, stdout } = spawnSync("git", git, { encoding: "utf8" })
    if (error !== undefined || (status !== 0 && stdout === "")) throw error ?? new Error(stderr)
    return stdout
  })
  return (await Promise.all(all)).join("")
}

const whatToDo = `The built types are not those of api/. Lines with - are what users have, lines with + what they would get.
If that is meant: \`npm run api:report\`, and commit api/ together with the change. What is gone, has another name, or
takes less or answers more than before breaks programs: CHANGELOG.md has to say so.`

if (process.argv[1] === import.meta.filename) {
  process.chdir(join(import.meta.dirname, ".."))
  const faces = builtFaces()
  if (process.argv.includes("--check")) {
    const problems = faces.flatMap(undocumented)
    const changes = await differences(faces)
    if (changes !== "") console.error(`${changes}\n${whatToDo}`)
    if (problems.length > 0) {
      console.error(`${problems.join("\n")}\nThis belongs into the comments in src/.`)
    }
    const counts = faces.map(({ modules }) => modules.flatMap(({ exports }) => exports).length)
    if (changes !== "" || problems.length > 0) process.exitCode = 1
    else console.log(`${counts.join(" and ")} exports are as api/ says, and documented`)
  } else {
    for (const face of faces) {
      const file = join("api", fileOf(face))
      writeFileSync(file, await reportOf(face))
      console.log(file)
    }
  }
}
