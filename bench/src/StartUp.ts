/** What a program pays before its first lock: loading, connecting, and what npm brings. */
import { execFile, execFileSync } from "node:child_process"
import { readdirSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import * as Effect from "effect/Effect"
import { peers, type ContenderId } from "./contenders/index.js"
import type { Form } from "./Row.js"
import { spread, type Spread } from "./Stats.js"

export interface Start {
  readonly who: string
  readonly problem: string | undefined
  /** From the first line of the program. */
  readonly importMillis: Spread
  /** To the first line under the first lock; undefined where only an import is looked at. */
  readonly lockedMillis: Spread | undefined
  readonly size: Size | undefined
}

/** As npm says, without what it depends on. */
export interface Size {
  readonly packedBytes: number
  readonly unpackedBytes: number
  readonly files: number
}

export interface StartUpResult {
  readonly rounds: number
  readonly results: ReadonlyArray<Start>
}

interface Starter {
  readonly who: string
  readonly package: string
  readonly locks: boolean
}

const only = (name: string): Starter => ({ who: name, package: name, locks: false })
const locking = (who: ContenderId, name: string = who): Starter => ({
  who,
  package: name,
  locks: true
})

const starters: Readonly<Record<Form, ReadonlyArray<Starter>>> = {
  short: [
    only("ioredis"),
    only("effect"),
    locking("raw", "ioredis"),
    locking("effect-redis-lock"),
    ...peers.map((peer) => locking(peer))
  ],
  get full() {
    return this.short
  },
  smoke: [locking("raw", "ioredis"), locking("effect-redis-lock")]
}

const run = promisify(execFile)
const program = fileURLToPath(new URL("starter.js", import.meta.url))

export const measure = (
  form: Form,
  rounds: number,
  url: string,
  /** Of the repository. */
  root: string,
  progress: (text: string) => void
): Effect.Effect<StartUpResult> =>
  Effect.promise(async () => {
    const all = starters[form].map((starter) => ({
      ...starter,
      imports: [] as Array<number>,
      locked: [] as Array<number>,
      problem: undefined as string | undefined
    }))
    // one more, for the disk's cache
    for (let round = -1; round < rounds; round++) {
      for (const each of all) {
        if (each.problem !== undefined) continue
        progress(`round ${round + 1} of ${rounds}: ${each.who}`)
        try {
          const args = each.locks ? [program, each.who, url] : [program, each.who]
          const { stdout } = await run(process.execPath, args, { timeout: 20_000 })
          const said = JSON.parse(stdout)
          if (round < 0) continue
          each.imports.push(said.importMillis)
          if (each.locks) each.locked.push(said.lockedMillis)
        } catch (error) {
          each.problem = error instanceof Error ? error.message : String(error)
        }
      }
    }
    // not Effect's: npm would take longer to pack it than everything here
    const packed = all.filter((each) => each.package !== "effect")
    const sizes = sizesOf(root, new Set(packed.map((each) => each.package)))
    return {
      rounds,
      results: all.map((each) => ({
        who: each.who,
        problem: each.problem,
        importMillis: spread(each.imports),
        lockedMillis: each.locks ? spread(each.locked) : undefined,
        // once for each package
        size: each.who === "raw" ? undefined : sizes.get(each.package)
      }))
    }
  })

/** What npm would publish: of the repository, and of the others as they are installed. */
const sizesOf = (root: string, names: ReadonlySet<string>): ReadonlyMap<string, Size> => {
  const directories = [...names].flatMap((name) => {
    if (name === "effect-redis-lock") return [root]
    const directory = installed(name)
    return directory === undefined ? [] : [directory]
  })
  const listed: ReadonlyArray<{
    readonly name: string
    readonly size: number
    readonly unpackedSize: number
    readonly entryCount: number
  }> = JSON.parse(
    execFileSync(
      "npm",
      ["pack", "--dry-run", "--json", "--ignore-scripts", "--loglevel=error", ...directories],
      { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }
    )
  )
  return new Map(
    listed.map(({ entryCount, name, size, unpackedSize }) => [
      name,
      { packedBytes: size, unpackedBytes: unpackedSize, files: entryCount }
    ])
  )
}

/** The package's directory, as this program finds it. */
const installed = (name: string): string | undefined => {
  for (let path = dirname(program); path !== dirname(path); path = dirname(path)) {
    const directory = join(path, "node_modules", name)
    try {
      if (readdirSync(directory).includes("package.json")) return directory
    } catch {
      // not here
    }
  }
  return undefined
}
