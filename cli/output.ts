/** What is printed, and how: for people on a terminal, and for programs. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Util from "node:util"

const defaultConsole = Effect.runSync(Effect.console)

/** Whether that stream shows colours to somebody. */
export const hasColour = (stream: NodeJS.WriteStream): boolean =>
  stream.isTTY && !process.env["NO_COLOR"] && process.env["TERM"] !== "dumb"

const through =
  (stream: NodeJS.WriteStream, before: string) =>
  (...args: ReadonlyArray<unknown>): Effect.Effect<void> =>
    Effect.sync(() => {
      const text = before + Util.format(...args).trimEnd()
      stream.write(`${hasColour(stream) ? text : Util.stripVTControlCharacters(text)}\n`)
    })

/** Sends no escape sequences where there is no colour, and says of errors whose they are. */
export const console: Console.Console = {
  ...defaultConsole,
  log: through(process.stdout, ""),
  error: through(process.stderr, "effect-redis-lock: ")
}

/** A text of somebody else's on one line, and without anything that a terminal would obey. */
export const shown = (text: string): string =>
  text.replace(/[\p{C}\p{Zl}\p{Zp}\\]/gu, (character) => {
    const known = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" }[character]
    return known ?? `\\u{${character.codePointAt(0)!.toString(16)}}`
  })

/** One object, one line. What a terminal would obey is escaped, so that nothing of a text is taken out. */
export const printJson = (object: unknown): Effect.Effect<void> =>
  Console.log(
    JSON.stringify(object).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) =>
      Array.from(
        { length: character.length },
        (_, index) => `\\u${character.charCodeAt(index).toString(16).padStart(4, "0")}`
      ).join("")
    )
  )

/** Columns below their names; all but the last as wide as their widest. */
export const table = (
  names: ReadonlyArray<string>,
  rows: ReadonlyArray<ReadonlyArray<string>>
): string => {
  const all = [names, ...rows]
  const widths = names.map((_, column) => Math.max(...all.map((row) => widthOf(row[column]!))))
  const line = (row: ReadonlyArray<string>) =>
    row
      .map((cell, column) =>
        column === names.length - 1 ? cell : cell + " ".repeat(widths[column]! - widthOf(cell))
      )
      .join("  ")
      .trimEnd()
  const [head, ...body] = all.map(line)
  return [bold(head!), ...body].join("\n")
}

const widthOf = (text: string): number => [...Util.stripVTControlCharacters(text)].length

const styled = (code: number) => (text: string) => `\u001B[${code}m${text}\u001B[0m`
export const bold = styled(1)
export const red = styled(31)
export const green = styled(32)
export const yellow = styled(33)

const units = [
  [86_400_000, "d"],
  [3_600_000, "h"],
  [60_000, "m"]
] as const

/** The two greatest units of it: "3 d 4 h", "2 m 5 s", "850 ms". */
export const age = (millis: number): string => {
  if (millis < 1_000) return `${Math.round(millis)} ms`
  if (millis < 10_000) return `${(millis / 1_000).toFixed(1)} s`
  const parts: Array<string> = []
  let rest = Math.round(millis / 1_000) * 1_000
  for (const [unit, name] of [...units, [1_000, "s"] as const]) {
    const count = Math.floor(rest / unit)
    rest -= count * unit
    if (count > 0 || parts.length > 0) parts.push(`${count} ${name}`)
  }
  return parts.slice(0, 2).join(" ")
}
