/** What `npm run demo` prints in a terminal. */
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { join } from "node:path"
import { stripVTControlCharacters } from "node:util"
import { holds } from "./claims.js"
import * as Svg from "./Svg.js"

const root = join(import.meta.dirname, "../..")

export const play = Effect.gen(function* () {
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, ["--import", "tsx", "examples/demo.ts"], {
        cwd: root,
        env: { ...process.env, FORCE_COLOR: "1", REDIS_URL: "" },
        stdio: ["ignore", "pipe", "inherit"]
      })
    ),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  let output = ""
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => (output += chunk))
  const [code] = yield* Effect.promise(() => once(child, "close"))
  return { code: code as unknown, output }
})

export type Scene = Effect.Effect.Success<typeof play>

export const check = ({ code, output }: Scene): void => {
  holds(code === 0, `the demo ended with ${String(code)}:\n${output}`)
  const all = output.match(/^ {2}\S*holds/gm)
  holds(all?.length === 5, `the demo's summary is not five sentences that hold:\n${output}`)
}

interface Run {
  readonly text: string
  readonly classes: string
}

/** Those that the demo uses. */
const classes: Record<string, string> = {
  0: "",
  1: "k",
  2: "soft",
  31: "bad",
  32: "good",
  33: "b",
  34: "a"
}

const runs = (line: string): ReadonlyArray<Run> =>
  `\u001b[0m${line}`.split("\u001b[").flatMap((part) => {
    const [, code, text] = /^(\d+)m(.*)$/s.exec(part) ?? []
    if (code === undefined || text === "") return []
    return [{ text: text!, classes: classes[code]! }]
  })

const padding = 10
const hang = "    "

/** One line, or several where it is too long, each of them runs of one colour. */
const folded = (line: string): ReadonlyArray<ReadonlyArray<Run>> => {
  const all = runs(line)
  const rows = Svg.wrap(all.map(({ text }) => text).join(""), Svg.width - 2 * padding, {
    mono: true,
    hang
  })
  let rest = all
  return rows.map((row, index) => {
    const taken: Array<Run> = index === 0 ? [] : [{ text: hang, classes: "" }]
    // what the line was folded at is left out
    if (index > 0) rest = dropSpaces(rest)
    let room = row.length - (index === 0 ? 0 : hang.length)
    while (room > 0 && rest.length > 0) {
      const [first, ...more] = rest
      const text = first!.text.slice(0, room)
      taken.push({ ...first!, text })
      room -= text.length
      const left = first!.text.slice(text.length)
      rest = left === "" ? more : [{ ...first!, text: left }, ...more]
    }
    return taken
  })
}

const dropSpaces = ([first, ...more]: ReadonlyArray<Run>): ReadonlyArray<Run> => {
  if (first === undefined) return []
  const text = first.text.trimStart()
  return text === "" ? dropSpaces(more) : [{ ...first, text }, ...more]
}

/** The first two chapters are long, and left out. */
export const picture = ({ output }: Scene): string => {
  const lines = output.trimEnd().split("\n")
  const third = lines.findIndex((line) => stripVTControlCharacters(line).startsWith("3. "))
  const shown = [
    "\u001b[2m$\u001b[0m npm run demo",
    lines[0]!,
    "\u001b[2m… (1. without the lock, 2. with it)\u001b[0m",
    "",
    ...lines.slice(third)
  ]
  const rows = shown.flatMap((line) => (line === "" ? [[]] : folded(line)))
  const top = 46
  const step = Svg.lineHeight - 0.5
  return Svg.svg(
    { height: Math.ceil(top + rows.length * step), shownAt: 480 },
    {
      title: "npm run demo, in a terminal",
      description: stripVTControlCharacters(shown.join("\n"))
    },
    [
      ...["bad", "b", "good"].map(
        (color, index) => `<circle cx="${16 + 15 * index}" cy="16" r="4.5" class="${color}"/>`
      ),
      `<path d="M1 30H${Svg.width - 1}" style="stroke:var(--line)"/>`,
      ...rows.flatMap((row, index) =>
        row.length === 0
          ? []
          : [
              `<text x="${padding}" y="${Svg.round(top + index * step)}" class="mono" xml:space="preserve">${row
                .map(({ classes, text }) =>
                  classes === ""
                    ? Svg.escape(text)
                    : `<tspan class="${classes}">${Svg.escape(text)}</tspan>`
                )
                .join("")}</text>`
            ]
      )
    ]
  )
}
