/**
 * The pictures of README.md and docs/, drawn from what happens: processes that lock, a Redis server of their own, a
 * network that falls silent. Nothing is drawn that did not happen in the order that the picture says.
 *
 *   npm run pictures             writes docs/images/*.svg, in half a minute
 *   npm run pictures -- --check  plays the same scenes with short leases, and compares what they say with the pictures
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { announceRedisServer } from "../test/setup.js"
import { undisturbed } from "../test/support/stalls.js"
import { holds } from "./pictures/claims.js"
import * as Fencing from "./pictures/fencing.js"
import * as Handoff from "./pictures/handoff.js"
import * as Silence from "./pictures/silence.js"
import * as Svg from "./pictures/Svg.js"
import * as Terminal from "./pictures/terminal.js"

const root = join(import.meta.dirname, "..")
const images = join(root, "docs/images")
const mostBytes = 40_000

const { check } = parseArgs({ options: { check: { type: "boolean", default: false } } }).values
const ttl = check ? 2_000 : 5_000

interface Scenes<A> {
  readonly play: Effect.Effect<A, never, Scope.Scope>
  readonly check: (scene: A) => void
  readonly picture: (scene: A) => string
}

/** What was played, checked and drawn; again, if the machine stood still meanwhile. */
const drawn = <A>(name: string, { check: checkScene, picture, play }: Scenes<A>) =>
  undisturbed(
    50,
    Effect.map(play, (scene) => {
      checkScene(scene)
      const svg = picture(scene)
      holds(svg.length < mostBytes, `${name}.svg has ${svg.length} bytes`)
      if (check) compare(name, svg)
      return svg
    })
  ).pipe(
    Effect.timeout("1 minute"),
    Effect.catchTag("TimeoutException", () =>
      Effect.dieMessage(`${name}: what the picture shows does not happen, or takes long`)
    )
  )

const compare = (name: string, svg: string): void => {
  const [before, now] = [readFileSync(file(name), "utf8"), svg].map(Svg.words)
  holds(
    before === now,
    `${name}.svg says\n  ${before}\nand now it is\n  ${now}\n(npm run pictures)`
  )
}

/** Where pages show a picture: the times that they say in words must be in it, within a tenth of a second. */
const compareWords = (): void => {
  const docs = readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" })
  for (const page of ["README.md", ...docs.map((name) => join("docs", name))]) {
    if (!page.endsWith(".md")) continue
    const shown = readFileSync(join(root, page), "utf8").matchAll(
      /!\[([^\]]*)\]\(\S*images\/(\w+)\.svg\)/g
    )
    for (const [, words, name] of shown) {
      const drawn = times(readFileSync(file(name!), "utf8"))
      for (const time of times(words!)) {
        const isDrawn = drawn.some((one) => Math.abs(one - time) < 0.1)
        holds(isDrawn, `${page} says ${time} s of ${name}.svg, which says ${drawn.join()}`)
      }
    }
  }
}

const times = (text: string): ReadonlyArray<number> =>
  [...text.matchAll(/([\d.]+) s\b/g)].map(([, seconds]) => Number(seconds))

const file = (name: string): string => join(images, `${name}.svg`)

const all = {
  silence: drawn("silence", { ...Silence, play: Silence.play(ttl) }),
  handoff: drawn("handoff", { ...Handoff, play: Handoff.play(ttl, 100) }),
  fencing: drawn("fencing", { ...Fencing, play: Fencing.play(ttl) }),
  demo: drawn("demo", Terminal)
}

await announceRedisServer()
try {
  const svgs = await Effect.runPromise(Effect.all(all, { concurrency: check ? "unbounded" : 1 }))
  for (const [name, svg] of Object.entries(svgs)) {
    if (!check) writeFileSync(file(name), svg)
    console.log(`${check ? "as played:" : "wrote"} docs/images/${name}.svg (${svg.length} bytes)`)
  }
  compareWords()
  process.exit()
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exit(1)
}
