/** The pages of the API reference: for Effect 3, with what is different on Effect 4. */
import type { Node } from "oxc-parser"
import * as prettier from "prettier"
import { isUsed } from "./api-documented.js"
import type { Face } from "./api-faces.js"
import {
  type Declared,
  type Doc,
  type Export,
  type Module,
  type Origin,
  walk
} from "./api-model.js"

/** Where a heading is, as GitHub and VitePress name it. */
type Anchors = ReadonlyMap<string, string>

const titleOf = (category: string): string => category[0]!.toUpperCase() + category.slice(1)

const categoryOf = ({ doc }: Export): string => doc?.tags.get("category") ?? "others"

/** What is called first, types last, and before the others what the module has its name from. */
const order = ["constructors", "combinators", "layers"]
const rank = (category: string): number =>
  category === "models"
    ? Infinity
    : order.includes(category)
      ? order.indexOf(category)
      : order.length

const groupsOf = ({
  exports,
  name
}: Module): ReadonlyArray<readonly [string, ReadonlyArray<Export>]> => {
  const categories = [...new Set(exports.map(categoryOf))]
  return categories
    .sort((one, other) => rank(one) - rank(other))
    .map((category) => [
      category,
      exports
        .filter((it) => categoryOf(it) === category)
        .sort((one, other) => Number(other.name === name) - Number(one.name === name))
    ])
}

const anchorOf = (heading: string): string => heading.toLowerCase()

const anchorsOf = (module: Module): Anchors => {
  const taken = new Map<string, number>()
  const anchor = (heading: string): string => {
    const name = anchorOf(heading)
    const count = taken.get(name)
    taken.set(name, (count ?? 0) + 1)
    return count === undefined ? name : `${name}-${count}`
  }
  anchor(anchorOf(module.name))
  return new Map(
    groupsOf(module).flatMap(([category, exports]) => {
      anchor(category)
      return exports.map(({ name }) => [name, anchor(name)] as const)
    })
  )
}

const style = await prettier.resolveConfig("docs/api/index.md")

/** (As wide as a page of VitePress has room for.) */
const narrow = { parser: "typescript", printWidth: 78 }

const formatted = (parts: ReadonlyArray<string>): Promise<string> =>
  prettier.format(parts.filter((it) => it !== "").join("\n\n"), {
    ...style,
    parser: "markdown",
    embeddedLanguageFormatting: "off"
  })

export class Pages {
  readonly problems: Array<string> = []
  private readonly anchors: ReadonlyMap<string, Anchors>

  constructor(
    private readonly face: Face,
    private readonly face4: Face
  ) {
    this.anchors = new Map(face.modules.map((module) => [module.name, anchorsOf(module)]))
  }

  index(): Promise<string> {
    const { doc } = this.face.index
    const isInIndex = ({ name }: Module) => this.face.index.exports.some((it) => it.name === name)
    const row = (module: Module): string =>
      `| [${module.name}](${module.name}.md) | ${cell(sentenceOf(module.doc))} |`
    const table = (modules: ReadonlyArray<Module>): string =>
      ["| module | what it is |", "| --- | --- |", ...modules.map(row)].join("\n")
    return formatted([
      "# API reference",
      this.prose(doc?.text ?? "", undefined),
      `On Effect 4 the same modules are below \`${this.face4.index.path}\`. Each page shows Effect 3, and what is different there; [what Effect itself names differently](../effect-4.md#moving-from-effect-3) is true of the examples.`,
      `## Of \`${this.face.index.path}\``,
      table(this.face.modules.filter(isInIndex)),
      "## By their own path only",
      table(this.face.modules.filter((it) => !isInIndex(it)))
    ])
  }

  async page(module: Module): Promise<string> {
    const parts: Array<string> = ["---\noutline: [2, 3]\n---", `# ${module.name}`]
    parts.push(this.prose(module.doc?.text ?? "", module))
    parts.push(code(this.imports(module)), ...this.examples(module.doc))
    const own = this.own4(module)?.doc
    if (own !== undefined) parts.push(...this.examples4(module.doc, own))
    parts.push(this.contents(module))
    for (const [category, exports] of groupsOf(module)) {
      parts.push(`## ${titleOf(category)}`)
      for (const it of exports) parts.push(...(await this.entry(module, it)))
    }
    return formatted(parts)
  }

  private own4(module: Module): Module | undefined {
    return this.face4.modules.find(({ name }) => name === module.name)
  }

  private imports(module: Module): string {
    const line = (face: Face): string => {
      const own = face.modules.find(({ name }) => name === module.name)
      if (own === undefined) return `// not on Effect ${face.version}`
      const text = face.index.exports.some(({ name }) => name === module.name)
        ? `import { ${own.name} } from "${face.index.path}"`
        : `import * as ${own.name} from "${own.path}"`
      return `// on Effect ${face.version}\n${text}`
    }
    return [line(this.face), line(this.face4)].join("\n")
  }

  private contents(module: Module): string {
    const rows = groupsOf(module).flatMap(([, exports]) =>
      exports.map(
        (it) =>
          `| [\`${it.name}\`](#${this.anchors.get(module.name)!.get(it.name)}) | ${cell(sentenceOf(it.doc))} |`
      )
    )
    return ["| export | what it is |", "| --- | --- |", ...rows].join("\n")
  }

  private async entry(module: Module, it: Export): Promise<ReadonlyArray<string>> {
    const heading = `### ${it.name}`
    const text = this.prose(it.doc?.text ?? "", module, it.name)
    const since = `Since ${it.doc?.tags.get("since")}`
    if (!this.face.owns(module, it)) {
      const owner = this.face.ownerOf(it.origin)!
      const link = this.link(owner.module, owner.name, `${owner.module.name}.${owner.name}`)
      return [heading, text, `The same as ${link}. ${since}`]
    }
    const signature = await this.signature(this.face, it)
    const own = this.own4(module)
    const it4 = own?.exports.find(({ name }) => name === it.name)
    const signature4 = it4 && (await this.signature(this.face4, it4))
    const others4 = signature4?.filter((text) => !signature.includes(text)) ?? []
    return [
      heading,
      code(signature.join("\n\n")),
      ...(own !== undefined && signature4 === undefined ? ["Not on Effect 4."] : []),
      ...(others4.length === 0 ? [] : ["On Effect 4:", code(others4.join("\n\n"))]),
      text,
      this.members(module, it),
      this.channels(module, it),
      ...this.examples(it.doc),
      this.otherExample(module, it),
      ...(it4 === undefined ? [] : this.examples4(it.doc, it4.doc)),
      since
    ]
  }

  private examples(doc: Doc | undefined): ReadonlyArray<string> {
    return (doc?.examples ?? []).flatMap((it) => ["**Example**", it])
  }

  /** Where there is one that uses what has none of its own. */
  private otherExample(module: Module, { doc, name }: Export): string {
    if (doc === undefined || doc.examples.length > 0) return ""
    const uses = (it: Doc | undefined) => it?.examples.some((text) => isUsed(module, name, text))
    const other = module.exports.find((it) => uses(it.doc))
    if (other !== undefined) {
      return `**Example**: under ${this.link(module, other.name, `\`${other.name}\``, module)}`
    }
    return uses(module.doc) ? `**Example**: [at the top](#${anchorOf(module.name)})` : ""
  }

  /** Those for Effect 4 that are more than the same with another path. */
  private examples4(doc: Doc | undefined, doc4: Doc | undefined): ReadonlyArray<string> {
    const known = new Set(doc?.examples)
    const [path, path4] = [this.face.index.path, this.face4.index.path]
    return (doc4?.examples ?? [])
      .filter((it) => !known.has(it.replaceAll(`"${path4}`, `"${path}`)))
      .flatMap((it) => ["**Example, on Effect 4**", it])
  }

  // ---------------------------------------------------------------------------
  // signatures
  // ---------------------------------------------------------------------------

  /** The declarations of an export, and those behind it that no module exports. */
  private async signature(face: Face, { origin }: Export): Promise<ReadonlyArray<string>> {
    const hidden = hiddenBehind(face, origin).filter((it) => !isTaggedBase(face, it))
    const texts = (all: ReadonlyArray<Origin>) =>
      all.flatMap((it) => face.declarations.declared(it).map((it) => this.withBase(face, it)))
    const all = [...texts([origin]), ...texts(hidden).map((text) => `// not exported\n${text}`)]
    const formatted = all.map((text) => prettier.format(text, { ...style, ...narrow }))
    return (await Promise.all(formatted)).map((text) => text.trim().replace(/^declare /m, ""))
  }

  /** `interface LockStore extends internal.LockStore {}` has the members of what it extends. */
  private withBase(face: Face, it: Declared): string {
    const text = face.declarations.print(it, () => undefined)
    const base = face.hiddenBase(it)
    if (base !== undefined) {
      return face.declarations
        .print(face.declarations.declared(base)[0]!, () => undefined)
        .replace(/^interface \w+/, `interface ${it.name}`)
    }
    // (what tsc writes for `extends Data.TaggedError("LockLost")<…>`)
    const given = `${it.name}_base`
    return it.node.type === "ClassDeclaration" && isTaggedBase(face, { file: it.file, name: given })
      ? text.replace(given, `Data.TaggedError("${it.name}")`)
      : text
  }

  /** What is said of the members of types. */
  private members(module: Module, { name, origin }: Export): string {
    const own = this.face.declarations.declared(origin)
    const bases = own.flatMap((it) => this.face.hiddenBase(it) ?? [])
    const all = [
      ...own,
      ...[...bases, ...hiddenBehind(this.face, origin)].flatMap((it) =>
        this.face.declarations.declared(it)
      )
    ]
    const items: Array<string> = []
    for (const { file, node } of all) {
      walk(node, (it) => {
        if (it.type !== "TSPropertySignature" || it.key.type !== "Identifier") return
        const doc = this.face.declarations.docOf(it, file)
        if (doc === undefined) return
        const text = this.prose(doc.text, module, name).replaceAll("\n", "\n  ")
        items.push(`- \`${it.key.name}\`: ${text}`)
      })
    }
    return items.join("\n")
  }

  /** What an effect can fail with, what it needs, and which other types of ours are there. */
  private channels(module: Module, { name, origin }: Export): string {
    const lines: Array<string> = []
    const shown = new Set<string>([name])
    for (const { file, node } of this.face.declarations.declared(origin)) {
      if (node.type === "VariableDeclaration") {
        const type = node.declarations[0]!.id.typeAnnotation?.typeAnnotation
        const effect = type && effectIn(type)
        if (effect !== undefined) {
          const [, errors, needs] = effect
          const list = (type: Node | undefined, none: string): string => {
            const parts = type === undefined ? [] : partsOf(type)
            const texts = parts.map((part) => this.typeLink(file, part, module, shown))
            return texts.length === 0 ? none : texts.join(", ")
          }
          const line = `**Fails with**: ${list(errors, "nothing")}. `
          lines.push(`${line}**Needs**: ${list(needs, "nothing")}.`)
        }
      }
      const others = this.face.declarations.references({ file, node }).flatMap(({ to }) => {
        const owner = this.face.publicOf(to)
        if (owner === undefined || shown.has(owner.name)) return []
        shown.add(owner.name)
        return [this.link(owner.module, owner.name, `\`${owner.name}\``, module)]
      })
      if (others.length > 0) lines.push(`**Types**: ${others.join(", ")}`)
    }
    return lines.join("\n\n")
  }

  private typeLink(file: string, type: Node, module: Module, shown: Set<string>): string {
    const source = this.face.declarations.source({ file, name: "", node: type, doc: undefined })
    const to =
      type.type === "TSTypeReference"
        ? this.face.declarations.references({ file, node: type })[0]?.to
        : undefined
    const owner = to && this.face.publicOf(to)
    if (owner === undefined) return `\`${source.replace(/\s+/g, " ")}\``
    shown.add(owner.name)
    return this.link(owner.module, owner.name, `\`${source}\``, module)
  }

  // ---------------------------------------------------------------------------
  // prose
  // ---------------------------------------------------------------------------

  private link(to: Module, name: string, text: string, from?: Module): string {
    const page = to === from ? "" : `${to.name}.md`
    return `[${text}](${page}#${this.anchors.get(to.name)!.get(name)})`
  }

  /** Text of a comment, with links for what it names: each once. `self`: what the text is about. */
  private prose(text: string, module: Module | undefined, self?: string): string {
    const linked = new Set<string>([self ?? ""])
    return text
      .split(/(^```[^]*?^```$|`[^`\n]*(?:\n[^`\n]*)?`|\{@link[^}]*\})/m)
      .map((part) => {
        if (part.startsWith("```")) return part
        if (part.startsWith("{@link")) return this.linkTag(part, module)
        if (!part.startsWith("`")) return escaped(part)
        const name = part.slice(1, -1)
        const link = linked.has(name) ? undefined : this.named(name, part, module)
        linked.add(name)
        return link ?? part
      })
      .join("")
  }

  private linkTag(tag: string, module: Module | undefined): string {
    const [, name = "", label = name] = /^\{@link\s+([^|\s}]+)\s*\|?\s*([^}]+)?\}$/.exec(tag) ?? []
    const link = this.named(name, label === name ? `\`${name}\`` : label.trim(), module)
    if (link === undefined) this.problems.push(`${module?.path}: ${tag} leads nowhere`)
    return link ?? tag
  }

  /** `Lock.acquire` anywhere, `acquire` in its module, and what only one module has, if it is a type. */
  private named(name: string, text: string, from: Module | undefined): string | undefined {
    const [first, second, ...more] = name.split(".")
    const module = this.face.modules.find((it) => it.name === first)
    if (more.length > 0) return undefined
    if (second !== undefined) {
      const found = module?.exports.find((it) => it.name === second)
      return found && this.link(module!, second, text, from)
    }
    if (from?.exports.some((it) => it.name === name)) return this.link(from, name, text, from)
    const owners = this.face.modules.filter(({ exports }) =>
      exports.some((it) => it.name === name && /^[A-Z]/.test(name))
    )
    const owner = owners.length === 1 ? owners[0] : owners.find((it) => it.name === name)
    if (owner !== undefined) return this.link(owner, name, text, from)
    return module === undefined || module === from ? undefined : `[${text}](${module.name}.md)`
  }
}

/** (What is in code is escaped by both.) */
const escaped = (text: string): string =>
  text.replaceAll("<", "&lt;").replaceAll("{{", "&#123;&#123;")

const cell = (text: string): string =>
  text
    .split(/(`[^`]*`)/)
    .map((part) => (part.startsWith("`") ? part : escaped(part)))
    .join("")
    .replaceAll("\n", " ")
    .replaceAll("|", "\\|")

/** What is longer than a screen is folded. */
const code = (text: string): string => {
  const block = `\`\`\`ts\n${text}\n\`\`\``
  return text.split("\n").length > 60
    ? `<details>\n<summary>Signature</summary>\n\n${block}\n\n</details>`
    : block
}

/** The first one, without what it lists. */
const sentenceOf = (doc: Doc | undefined): string => {
  const [sentence] = /^[^]*?(\.(?=\s|$)|(?=:?\n\n)|$)/.exec(doc?.text ?? "")!
  return /[.!?]$/.test(sentence) ? sentence : `${sentence}.`
}

const hiddenBehind = (face: Face, origin: Origin): ReadonlyArray<Origin> =>
  face.hiddenBehind([origin], (it) => face.publicOf(it) !== undefined)

/** Of a class that tsc gave a constant of this name to extend. */
function isTaggedBase(face: Face, origin: Origin): boolean {
  const [base] = face.declarations.declared(origin)
  const text = base && face.declarations.source(base)
  return text !== undefined && /YieldableError & \{\s*readonly _tag: "\w+"/.test(text)
}

/** The type arguments of the `Effect`, `Layer` or `Stream` that a value is, or that a function answers. */
function effectIn(type: Node): ReadonlyArray<Node> | undefined {
  switch (type.type) {
    case "TSFunctionType":
      return effectIn(type.returnType.typeAnnotation)
    case "TSTypeLiteral": {
      const last = type.members
        .flatMap((it) => (it.type === "TSCallSignatureDeclaration" ? [it] : []))
        .at(-1)
      return last?.returnType ? effectIn(last.returnType.typeAnnotation) : undefined
    }
    case "TSTypeReference": {
      const name = type.typeName
      return name.type === "TSQualifiedName" && /^(Effect|Layer|Stream)$/.test(name.right.name)
        ? type.typeArguments?.params
        : undefined
    }
    default:
      return undefined
  }
}

const partsOf = (type: Node): ReadonlyArray<Node> =>
  type.type === "TSUnionType"
    ? type.types.flatMap(partsOf)
    : type.type === "TSNeverKeyword"
      ? []
      : [type]
