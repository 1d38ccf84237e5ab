/** What each export must have in its comment: what it is, `@since`, `@category`; and in which example it is used. */
import type { Face } from "./api-faces.js"
import { type Doc, type Module } from "./api-model.js"

/** All examples of a module, wherever they stand in it. */
export const examplesIn = ({ doc, exports }: Module): ReadonlyArray<string> =>
  [doc, ...exports.map(({ doc }) => doc)].flatMap((it) => it?.examples ?? [])

/** As `Lock.acquire`, or imported by its name from the module's own path. */
export const isUsed = ({ name, path }: Module, of: string, example: string): boolean =>
  new RegExp(`\\b${name}\\.${of}\\b|\\{[^}]*\\b${of}\\b[^}]*\\} from "${path}"`).test(example)

export function undocumented(face: Face): ReadonlyArray<string> {
  const problems: Array<string> = []
  const check = (doc: Doc | undefined, of: string, tags: ReadonlyArray<string>): void => {
    if (doc === undefined) return void problems.push(`${of} has no comment`)
    if (doc.text === "") problems.push(`${of}: its comment does not say what it is`)
    for (const tag of tags) {
      if (!doc.tags.get(tag)) problems.push(`${of} has no @${tag}`)
    }
  }
  check(face.index.doc, face.index.path, ["since"])
  for (const module of face.modules) {
    const examples = examplesIn(module)
    check(module.doc, module.path, ["since"])
    // (examples for Effect 4 are there where they are others)
    if (face.version === 3 && examples.length === 0) problems.push(`${module.path} has no @example`)
    for (const { doc, name, origin } of module.exports) {
      const of = `${module.path}: ${name}`
      const declared = face.declarations.declared(origin)
      for (const it of declared) check(it.doc ?? doc, of, ["since", "category"])
      const isValue = declared.some(({ node }) => node.type === "VariableDeclaration")
      if (face.version === 3 && isValue && !examples.some((it) => isUsed(module, name, it))) {
        problems.push(`${of} is not used in an example of its module`)
      }
    }
  }
  return problems
}
