/** The package's modules for each version of Effect, as package.json exports them, and whose each declaration is. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs"
import { join } from "node:path"
import {
  byName,
  Declarations,
  type Declared,
  type Export,
  isOurs,
  type Module,
  type Origin
} from "./api-model.js"

export interface Manifest {
  readonly name: string
  readonly exports: Readonly<Record<string, { readonly types: string } | string | null>>
}

export type Version = 3 | 4

/** `dist/internal/faces/claim.d.ts` is `internal/faces/claim`. */
const roomOf = (file: string): string => file.replace(/^dist\//, "").replace(/\.d\.ts$/, "")

const baseOf = (file: string): string => roomOf(file).split("/").at(-1)!

export interface Owner {
  readonly module: Module
  readonly name: string
}

export class Face {
  /** Without the package itself, whose exports are these. By name. */
  readonly modules: ReadonlyArray<Module>
  readonly index: Module
  private readonly owners = new Map<string, Owner>()
  private readonly publicNames = new Map<string, Owner>()

  constructor(
    readonly version: Version,
    readonly declarations: Declarations,
    { exports, name }: Manifest
  ) {
    const all = Object.entries(exports).flatMap(([path, to]) => {
      if (to === null || typeof to === "string") return []
      if (/^\.\/effect4(\/|$)/.test(path) !== (version === 4)) return []
      const module = path.replace(/^\.(\/effect4)?\/?/, "")
      return [
        declarations.module(
          module === "" ? "index" : module,
          name + path.slice(1),
          to.types.replace("./", "")
        )
      ]
    })
    const index = all.find(({ name }) => name === "index")
    if (index === undefined) throw new Error(`package.json has no entry for Effect ${version}`)
    this.index = index
    this.modules = byName(all.filter((module) => module !== index))
    for (const module of this.modules) {
      for (const { name, origin } of module.exports) {
        const known = this.owners.get(keyOf(origin))
        if (known === undefined || nearness(module, origin) > nearness(known.module, origin)) {
          this.owners.set(keyOf(origin), { module, name })
        }
      }
    }
    for (const owner of this.owners.values()) {
      const declared = owner.module.exports.find(({ name }) => name === owner.name)!
      for (const it of declarations.declared(declared.origin)) {
        const base = this.hiddenBase(it)
        if (base !== undefined) this.publicNames.set(keyOf(base), owner)
      }
    }
  }

  /** Of `interface LockStore extends internal.LockStore {}`: what it extends, and nobody exports. */
  hiddenBase({ file, node }: Declared): Origin | undefined {
    if (node.type !== "TSInterfaceDeclaration" || node.body.body.length > 0) return undefined
    const [one, ...more] = node.extends
    if (one === undefined || more.length > 0 || one.typeArguments !== null) return undefined
    return this.declarations
      .references({ file, node: one })
      .map(({ to }) => to)
      .find((to) => isOurs(to.file) && !this.owners.has(keyOf(to)))
  }

  /** The same for people: what is declared in one of ours and only extended by a module's type is that type. */
  publicOf(origin: Origin): Owner | undefined {
    return this.ownerOf(origin) ?? this.publicNames.get(keyOf(origin))
  }

  /** The module that a declaration is of, and its name there. Others may export it as well. */
  ownerOf(origin: Origin): Owner | undefined {
    return this.owners.get(keyOf(origin))
  }

  owns(module: Module, { name, origin }: Export): boolean {
    const owner = this.ownerOf(origin)
    return owner?.module === module && owner.name === name
  }

  /** All of ours that these mention, and those again, and that is not known to users. */
  hiddenBehind(
    origins: ReadonlyArray<Origin>,
    isKnown = (origin: Origin): boolean => this.ownerOf(origin) !== undefined
  ): ReadonlyArray<Origin> {
    const found = new Map<string, Origin>()
    const visit = (origin: Origin): void => {
      for (const declared of this.declarations.declared(origin)) {
        for (const { to } of this.declarations.references(declared)) {
          if (!isOurs(to.file) || isKnown(to) || found.has(keyOf(to))) continue
          found.set(keyOf(to), to)
          visit(to)
        }
      }
    }
    origins.forEach(visit)
    return [...found.values()].sort((one, other) => (keyOf(one) < keyOf(other) ? -1 : 1))
  }

  /** The name of a declaration in another module: `Lease.Options`, or `internal.faces.share.Share`. */
  qualified(to: Origin, from: string): string | undefined {
    if (!isOurs(to.file)) return undefined
    const owner = this.ownerOf(to)
    if (owner !== undefined) {
      return owner.module.name === from ? owner.name : `${owner.module.name}.${owner.name}`
    }
    const room = this.roomOf(to)
    return room === from ? to.name : `${room.replaceAll("/", ".")}.${to.name}`
  }

  /** Where a declaration is that no module exports: in a module's own file, or in another one. */
  roomOf({ file }: Origin): string {
    return this.modules.find((module) => module.file === file)?.name ?? roomOf(file)
  }
}

export const keyOf = ({ file, name }: Origin): string => `${file} ${name}`

/** A declaration is of the module in whose file it is, or whose file has the same name, or of the first. */
const nearness = (module: Module, { file }: Origin): number =>
  module.file === file ? 2 : baseOf(file) === module.name ? 1 : 0

export const facesOf = (
  read: (file: string) => string,
  manifest: Manifest
): readonly [Face, Face] => {
  const declarations = new Declarations(read)
  return [new Face(3, declarations, manifest), new Face(4, declarations, manifest)]
}

/** Those of dist/, in the package's folder. */
export function builtFaces(): readonly [Face, Face] {
  const built = "dist/index.d.ts"
  const changed = readdirSync("src", { recursive: true, encoding: "utf8" }).find(
    (name) => !existsSync(built) || statSync(join("src", name)).mtimeMs > statSync(built).mtimeMs
  )
  if (changed !== undefined) {
    throw new Error(`src/${changed} is newer than dist/: run \`npm run build\` first`)
  }
  return facesOf(
    (file) => readFileSync(file, "utf8"),
    JSON.parse(readFileSync("package.json", "utf8"))
  )
}
