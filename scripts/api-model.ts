/**
 * What declarations (`.d.ts`) say of a package: its modules, what each exports, and where that is declared. For
 * api-report.ts and api-docs.ts. It reads syntax, which is all that declarations need: tsc has written every type.
 */
import { type Comment, type Node, parseSync, type Span } from "oxc-parser"
import { posix } from "node:path"

/** A `/** … *\/` comment. */
export interface Doc {
  /** What it is, without tags and examples. */
  readonly text: string
  readonly examples: ReadonlyArray<string>
  readonly tags: ReadonlyMap<string, string>
}

/** A declaration in a file. Several can have the same name: a type and a value, overloads. */
export interface Declared {
  readonly file: string
  readonly name: string
  readonly node: Node
  readonly doc: Doc | undefined
}

/** Of a file of ours, or of a package. `*`: all of it, as a namespace. */
export interface Origin {
  readonly file: string
  readonly name: string
}

interface Named extends Origin {
  readonly doc: Doc | undefined
}

interface File {
  readonly source: string
  readonly comments: ReadonlyArray<Comment>
  readonly doc: Doc | undefined
  readonly declared: ReadonlyMap<string, ReadonlyArray<Declared>>
  readonly imports: ReadonlyMap<string, Origin>
  /** `undefined` as the file: of this one. */
  readonly exports: ReadonlyMap<string, Partial<Named> & { readonly name: string }>
  readonly stars: ReadonlyArray<string>
}

/** A name in a declaration that means something that was declared elsewhere. */
export interface Reference extends Span {
  readonly to: Origin
  /** What was imported for it from a package, as an import writes it: `* as Effect`, `{ Redis }`. */
  readonly imported: string | undefined
}

export interface Export {
  readonly name: string
  readonly origin: Origin
  /** The comment where it is exported, or else those where it is declared. */
  readonly doc: Doc | undefined
}

export interface Module {
  /** `Lock`; `index` for the package itself. */
  readonly name: string
  /** What a program imports. */
  readonly path: string
  readonly file: string
  readonly doc: Doc | undefined
  /** As they stand in the file. */
  readonly exports: ReadonlyArray<Export>
}

export const byName = <A extends { readonly name: string }>(
  all: ReadonlyArray<A>
): ReadonlyArray<A> => [...all].sort((one, other) => (one.name < other.name ? -1 : 1))

export const isOurs = (file: string): boolean => file.endsWith(".d.ts")

/** `read` answers the text of a file, given as `dist/Lock.d.ts`. */
export class Declarations {
  private readonly files = new Map<string, File>()

  constructor(private readonly read: (file: string) => string) {}

  module(name: string, path: string, file: string): Module {
    const exports = this.exportsOf(file).map((name): Export => {
      const found = this.exported(file, name)
      if (found === undefined) throw new Error(`${file}: ${name} leads to nothing`)
      const doc = found.doc ?? together(this.declared(found).flatMap(({ doc }) => doc ?? []))
      return { name, origin: found, doc }
    })
    return { name, path, file, doc: this.file(file).doc, exports }
  }

  declared({ file, name }: Origin): ReadonlyArray<Declared> {
    return isOurs(file) ? (this.file(file).declared.get(name) ?? []) : []
  }

  docOf(node: Node, file: string): Doc | undefined {
    return docBefore(this.file(file), node.start)
  }

  source({ file, node }: Declared): string {
    return this.file(file).source.slice(node.start, node.end)
  }

  /** The same with other names: `nameOf` answers what a reference is to be called, or `undefined`: as it is. */
  print({ file, node }: Declared, nameOf: (to: Origin) => string | undefined): string {
    const { comments, source } = this.file(file)
    const edits: Array<readonly [start: number, end: number, text: string]> = []
    for (const { end, start } of comments) {
      // (with the line break: else an empty line stays)
      const after = /^[ \t]*\n?/.exec(source.slice(end))![0].length
      if (start >= node.start && end <= node.end) edits.push([start, end + after, ""])
    }
    for (const { end, start, to } of this.references({ file, node })) {
      const name = nameOf(to)
      if (name !== undefined) edits.push([start, end, name])
    }
    let text = source.slice(node.start, node.end)
    for (const [start, end, by] of edits.sort(([one], [other]) => other - one)) {
      text = text.slice(0, start - node.start) + by + text.slice(end - node.start)
    }
    return text
  }

  /** What a node mentions of other declarations, of ours and of packages. */
  references({ file, node }: Pick<Declared, "file" | "node">): ReadonlyArray<Reference> {
    const found: Array<Reference> = []
    const parameters = new Set<string>()
    walk(node, (it) => {
      if (it.type === "TSTypeParameter") parameters.add(it.name.name)
    })
    walk(node, (it) => {
      const named = nameIn(it)
      if (named !== undefined && !parameters.has(named.path[0]!)) {
        const to = this.resolve(file, named.path)
        const { end, start } = named
        if (to !== undefined) {
          found.push({ start, end, to, imported: this.imported(file, named.path[0]!) })
        }
      }
    })
    return found
  }

  private imported(file: string, local: string): string | undefined {
    const it = this.file(file).imports.get(local)
    if (it === undefined || isOurs(it.file)) return undefined
    return it.name === "*" ? `* as ${local}` : `{ ${as(it.name, local)} }`
  }

  /** What a name means in a file: `["Effect", "Effect"]`, or `["import()", "effect/Cause", "YieldableError"]`. */
  resolve(file: string, [first, ...rest]: ReadonlyArray<string>): Origin | undefined {
    if (first === "import()") {
      return this.member({ file: this.from(file, rest[0]!), name: "*" }, rest.slice(1))
    }
    const { declared, imports } = this.file(file)
    if (declared.has(first!)) return { file, name: first! }
    const imported = imports.get(first!)
    if (imported === undefined) return undefined
    return imported.name === "*" || !isOurs(imported.file)
      ? this.member(imported, rest)
      : this.exported(imported.file, imported.name)
  }

  private member(of: Origin, [name, ...rest]: ReadonlyArray<string>): Origin | undefined {
    if (name === undefined) return of
    if (!isOurs(of.file)) return { file: of.file, name: [of.name, name, ...rest].join(".") }
    return of.name === "*" ? this.exported(of.file, name) : of
  }

  private exported(file: string, name: string): Named | undefined {
    const { declared, exports, stars } = this.file(file)
    const given = exports.get(name)
    if (given === undefined) {
      for (const star of stars) {
        const found = this.exported(star, name)
        if (found !== undefined) return found
      }
      return undefined
    }
    const doc = given.doc
    if (given.file === undefined) {
      const to = declared.has(given.name)
        ? { file, name: given.name }
        : this.resolve(file, [given.name])
      return to && { ...to, doc }
    }
    if (given.name === "*" || !isOurs(given.file))
      return { file: given.file, name: given.name, doc }
    const found = this.exported(given.file, given.name)
    return found && { ...found, doc: doc ?? found.doc }
  }

  private exportsOf(file: string): ReadonlyArray<string> {
    const { exports, stars } = this.file(file)
    return [...new Set([...exports.keys(), ...stars.flatMap((star) => this.exportsOf(star))])]
  }

  private from(file: string, specifier: string): string {
    return specifier.startsWith(".")
      ? posix.join(posix.dirname(file), specifier).replace(/\.js$/, ".d.ts")
      : specifier
  }

  private file(path: string): File {
    const known = this.files.get(path)
    if (known !== undefined) return known
    const file = this.parse(path, this.read(path))
    this.files.set(path, file)
    return file
  }

  private parse(path: string, source: string): File {
    const { comments, errors, program } = parseSync(path, source)
    if (errors.length > 0) throw new Error(`${path}: ${errors[0]!.message}`)
    const declared = new Map<string, Array<Declared>>()
    const imports = new Map<string, Origin>()
    const exports = new Map<string, Partial<Named> & { readonly name: string }>()
    const stars: Array<string> = []
    const docAt = (start: number) => docBefore({ comments, source }, start)
    const declare = (node: Node, at: Node): string => {
      const name = nameDeclared(node)
      if (name === undefined) throw new Error(`${path}: a ${node.type} that is not known here`)
      const all = declared.get(name) ?? []
      all.push({ file: path, name, node, doc: docAt(at.start) })
      declared.set(name, all)
      return name
    }
    for (const it of program.body) {
      if (it.type === "ImportDeclaration") {
        const file = this.from(path, it.source.value)
        for (const specifier of it.specifiers) {
          const name =
            specifier.type === "ImportNamespaceSpecifier"
              ? "*"
              : specifier.type === "ImportDefaultSpecifier"
                ? "default"
                : nameOf(specifier.imported)
          imports.set(specifier.local.name, { file, name })
        }
      } else if (it.type === "ExportAllDeclaration") {
        const file = this.from(path, it.source.value)
        if (it.exported === null) stars.push(file)
        else exports.set(nameOf(it.exported), { file, name: "*", doc: docAt(it.start) })
      } else if (it.type === "ExportNamedDeclaration") {
        if (it.declaration !== null) {
          const name = declare(it.declaration, it)
          exports.set(name, { name })
        }
        const file = it.source === null ? undefined : this.from(path, it.source.value)
        for (const specifier of it.specifiers) {
          exports.set(nameOf(specifier.exported), {
            ...(file === undefined ? {} : { file }),
            name: nameOf(specifier.local),
            doc: docAt(specifier.start) ?? docAt(it.start)
          })
        }
      } else {
        declare(it, it)
      }
    }
    // the first comment is that of the file, unless it belongs to the first declaration
    const first = comments[0]
    const next = program.body[0]
    const isOfFile =
      first !== undefined &&
      (next === undefined ||
        (first.end <= next.start &&
          (next.type === "ImportDeclaration" || source.slice(first.end, next.start).trim() !== "")))
    return {
      source,
      comments,
      doc: isOfFile ? docFrom(first) : undefined,
      declared,
      imports,
      exports,
      stars
    }
  }
}

/** As imports and exports write it: `name as local`, or the one name. */
export const as = (name: string, local: string): string =>
  name === local ? name : `${name} as ${local}`

const nameOf = (it: { readonly type: string; readonly name?: string; readonly value?: string }) =>
  (it.type === "Literal" ? it.value : it.name)!

const nameDeclared = (node: Node): string | undefined => {
  switch (node.type) {
    case "VariableDeclaration": {
      const [one, ...more] = node.declarations
      return one?.id.type === "Identifier" && more.length === 0 ? one.id.name : undefined
    }
    case "ClassDeclaration":
    case "FunctionDeclaration":
    case "TSDeclareFunction":
    case "TSEnumDeclaration":
    case "TSInterfaceDeclaration":
    case "TSTypeAliasDeclaration":
      return node.id?.name
    default:
      return undefined
  }
}

/** The name that a node mentions, where it is one that mentions a declaration. */
function nameIn(node: Node): (Span & { readonly path: ReadonlyArray<string> }) | undefined {
  const named =
    node.type === "TSTypeReference"
      ? node.typeName
      : node.type === "TSInterfaceHeritage" || node.type === "TSClassImplements"
        ? node.expression
        : node.type === "TSTypeQuery"
          ? node.exprName
          : node.type === "TSImportType"
            ? node
            : node.type === "ClassDeclaration"
              ? node.superClass
              : null
  if (named === null) return undefined
  const path = pathOf(named)
  return path && { path, start: named.start, end: endOf(named) }
}

/** (An import type ends with its type arguments.) */
const endOf = (node: Node): number =>
  node.type === "TSImportType" && node.typeArguments !== null ? node.typeArguments.start : node.end

function pathOf(node: Node): ReadonlyArray<string> | undefined {
  switch (node.type) {
    case "Identifier":
      return [node.name]
    case "TSQualifiedName": {
      const left = pathOf(node.left)
      return left && [...left, node.right.name]
    }
    case "MemberExpression": {
      const left = pathOf(node.object)
      return left && node.property.type === "Identifier" ? [...left, node.property.name] : undefined
    }
    case "TSImportType": {
      const qualifier = node.qualifier === null ? [] : pathOf(node.qualifier)
      return ["import()", node.source.value, ...(qualifier ?? [])]
    }
    default:
      return undefined
  }
}

const isNode = (it: unknown): it is Node => typeof it === "object" && it !== null && "type" in it

export function walk(node: Node, visit: (node: Node) => void): void {
  visit(node)
  for (const value of Object.values(node)) {
    for (const it of Array.isArray(value) ? value : [value]) if (isNode(it)) walk(it, visit)
  }
}

function docBefore(
  { comments, source }: Pick<File, "comments" | "source">,
  start: number
): Doc | undefined {
  const before = comments.filter(({ end }) => end <= start).at(-1)
  return before !== undefined && source.slice(before.end, start).trim() === ""
    ? docFrom(before)
    : undefined
}

/** Of a type and a value of the same name. */
const together = (docs: ReadonlyArray<Doc>): Doc | undefined =>
  docs.length === 0
    ? undefined
    : {
        text: docs.map(({ text }) => text).join("\n\n"),
        examples: docs.flatMap(({ examples }) => examples),
        tags: new Map(docs.flatMap(({ tags }) => [...tags]))
      }

function docFrom({ type, value }: Comment): Doc | undefined {
  if (type !== "Block" || !value.startsWith("*")) return undefined
  const tags = new Map<string, string>()
  const examples: Array<Array<string>> = []
  const text: Array<string> = []
  let part = text
  let inCode = false
  for (const raw of value.slice(1).split("\n")) {
    const line = raw.replace(/^\s*\* ?/, "").trimEnd()
    const isFence = line.startsWith("```")
    const tag = inCode ? null : /^\s*@(\w+)\s*(.*)$/.exec(line)
    if (tag === null) {
      part.push(line)
    } else if (tag[1] === "example") {
      part = []
      examples.push(part)
    } else {
      tags.set(tag[1]!, tag[2]!)
      part = text
    }
    if (isFence) inCode = !inCode
    // what comes after the code of an example is text again
    if (isFence && !inCode && part !== text) {
      part = text
      text.push("")
    }
  }
  const joined = (lines: ReadonlyArray<string>) =>
    lines
      .join("\n")
      .replace(/\n{3,}/g, "\n\n")
      .trim()
  return { text: joined(text), examples: examples.map(joined), tags }
}
