/** The package as it would be published: packed, and unpacked again where programs can import it by its name. */
import { execFileSync } from "node:child_process"
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"

export const root = join(import.meta.dirname, "..")
/** Below the repository, so that what is imported from here finds the peers in its node_modules. */
export const folder = join(root, ".cache/packed")

export interface Packed {
  readonly tarball: string
  readonly size: number
  readonly unpackedSize: number
  readonly files: ReadonlyArray<string>
}

/** Takes what `npm run build` made. */
export function pack(destination: string = folder): Packed {
  if (!existsSync(join(root, "dist/index.js"))) throw new Error("Nothing is built: npm run build")
  mkdirSync(destination, { recursive: true })
  const args = ["pack", "--json", "--ignore-scripts", "--pack-destination", destination]
  const [said] = JSON.parse(execFileSync("npm", args, { cwd: root, encoding: "utf8" }))
  return {
    tarball: join(destination, said.filename),
    size: said.size,
    unpackedSize: said.unpackedSize,
    files: said.files.map((file: { path: string }) => file.path)
  }
}

/** A program in `folder` can then import it. */
export function unpack(tarball: string): string {
  const modules = join(folder, "node_modules")
  rmSync(modules, { recursive: true, force: true })
  mkdirSync(modules, { recursive: true })
  // (within the repository's own package its name would mean the repository)
  writeFileSync(join(folder, "package.json"), JSON.stringify({ private: true, type: "module" }))
  execFileSync("tar", ["-xzf", tarball, "-C", modules])
  const directory = join(modules, "effect-redis-lock")
  renameSync(join(modules, "package"), directory)
  return directory
}
