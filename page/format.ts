/** How times are written. */

const units = [
  [86_400, "d"],
  [3_600, "h"],
  [60, "m"],
  [1, "s"]
] as const

/** The two greatest units of it, in whole seconds: "3 d 4 h", "2 m 05 s", "12 s". */
export const age = (millis: number): string => {
  const seconds = Math.max(0, Math.floor(millis / 1_000))
  const first = units.findIndex(([unit]) => seconds >= unit)
  if (first < 0) return "0 s"
  const [unit, name] = units[first]!
  const next = units[first + 1]
  const most = `${Math.floor(seconds / unit)} ${name}`
  if (next === undefined) return most
  const rest = Math.floor((seconds % unit) / next[0])
  return `${most} ${String(rest).padStart(2, "0")} ${next[1]}`
}

/** For what is short: "850 ms", "4.2 s". */
export const fineAge = (millis: number): string =>
  millis < 1_000
    ? `${Math.max(0, Math.round(millis))} ms`
    : millis < 10_000
      ? `${(millis / 1_000).toFixed(1)} s`
      : age(millis)

/** What is left: never 0 before it is over. */
export const left = (millis: number): string => (millis <= 0 ? "over" : age(millis + 999))

const pad = (number: number): string => String(number).padStart(2, "0")

/** "14:02:11", and the day, where it is another one than today's. */
export const clock = (millis: number, now: number): string => {
  const date = new Date(millis)
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(pad).join(":")
  const day = [date.getFullYear(), date.getMonth() + 1, date.getDate()].map(pad).join("-")
  return date.toDateString() === new Date(now).toDateString() ? time : `${day} ${time}`
}

export const count = (number: number): string =>
  number.toLocaleString("en").replaceAll(",", "\u202F")

/**
 * Whatever would not be seen as it is: controls, what changes the direction of text, ends of lines, a space at an
 * end, and those that only look like one.
 */
const hidden = /^ | $|[\p{C}\p{Zl}\p{Zp}]|[^\P{Zs} ]/gu

const escaped = (character: string): string =>
  ({ "\n": "\\n", "\r": "\\r", "\t": "\\t" })[character] ??
  `\\u{${character.codePointAt(0)!.toString(16)}}`

/** In one line, and everything to be seen. */
export const visible = (text: string): string => text.replace(hidden, escaped)

/** The same in parts, of which some are such. */
export const partsOf = (text: string): ReadonlyArray<{ text: string; isHidden: boolean }> => {
  const parts: Array<{ text: string; isHidden: boolean }> = []
  let from = 0
  for (const found of text.matchAll(hidden)) {
    if (found.index > from) parts.push({ text: text.slice(from, found.index), isHidden: false })
    parts.push({ text: escaped(found[0]), isHidden: true })
    from = found.index + found[0].length
  }
  if (from < text.length) parts.push({ text: text.slice(from), isHidden: false })
  return parts
}
