/** Time goes down. Bars say who does what, and notes what happened when. */
import * as Svg from "./Svg.js"

export interface Timeline {
  readonly title: string
  readonly lanes: ReadonlyArray<string>
  readonly bars: ReadonlyArray<Bar>
  readonly notes: ReadonlyArray<Note>
  readonly legend: ReadonlyArray<readonly [kind: Kind, color: Color, text: string]>
  /** Pixels of a millisecond; or a row for each note, however long it took. */
  readonly scale: number | "rows"
  /** From when on, and until when. */
  readonly from: number
  readonly to: number
  /** Below the rest. */
  readonly remark?: string
}

export type Kind = "full" | "margin" | "waits" | "stopped" | "silent"
export type Color = "a" | "b" | "bad" | "gray"

export interface Bar {
  readonly lane: number
  readonly kind: Kind
  readonly color: Color
  readonly from: number
  readonly to: number
}

export interface Note {
  readonly at: number
  /** So much after another one, which is written in place of the time. */
  readonly after?: number
  readonly lane: number
  /** What happened. The time is written in front of it. */
  readonly text: string
  readonly color?: Color
  /** The commands that went to Redis. */
  readonly commands?: ReadonlyArray<string>
}

const laneStep = 30
const barWidth = 15
const padding = 12

/** In the picture's unit. */
const time = ({ after, at }: Note, rows: boolean): string =>
  after !== undefined
    ? `${Math.max(after, 0).toFixed(1)} ms`
    : rows
      ? `${at.toFixed(0)} ms`
      : `${(Math.round(at / 10) / 100).toFixed(2)} s`

export const draw = (timeline: Timeline): string => {
  const { bars, from, lanes, legend, scale, title, to } = timeline
  const rows = scale === "rows"
  const notes = [...timeline.notes].sort((one, other) => one.at - other.at)
  const left = rows ? padding : padding + 22
  const notesAt = left + lanes.length * laneStep + 14
  const room = Svg.width - notesAt - padding
  const blocks = notes.map((note) => {
    const lines = Svg.wrap(`${time(note, rows)}  ${note.text}`, room)
    const commands = (note.commands ?? []).flatMap((command) =>
      Svg.wrap(command, room, { mono: true, hang: "  " })
    )
    return { note, lines, commands, height: (lines.length + commands.length) * Svg.lineHeight + 7 }
  })
  const heading = Svg.wrap(title, (Svg.width - 2 * padding) * (13 / 16.5))
  const headingBottom = 14 + heading.length * 20
  const top = headingBottom + 40
  const tops = rows
    ? blocks.map((_, index) => top + sum(blocks.slice(0, index)))
    : apart(
        blocks.map(({ height, note }) => ({ height, at: top + (note.at - from) * scale - 8 })),
        top - 14
      )
  const y = (at: number): number => (rows ? between(notes, tops, at) : top + (at - from) * scale)
  const bottom = Math.max(
    rows ? 0 : y(to),
    ...blocks.map(({ height }, index) => tops[index]! + height)
  )
  const end = rows ? bottom : y(to)
  const center = (lane: number) => left + lane * laneStep + laneStep / 2
  const leader = (note: Note, index: number): string =>
    `<path d="M${Svg.round(center(note.lane))} ${Svg.round(y(note.at))}H${Svg.round(notesAt - 12)}L${Svg.round(notesAt - 4)} ${Svg.round(tops[index]! + 8)}" style="fill:none;stroke:var(--${note.color ?? "soft"})"/>`
  let under = bottom + 14
  const legends = legend.flatMap(([kind, color, what]) => {
    const lines = Svg.wrap(what, Svg.width - 2 * padding - 26)
    const at = under
    under += lines.length * Svg.lineHeight + 3
    return [
      bar(kind, color, padding, at, 16, 11),
      ...lines.map((line, index) =>
        Svg.text(padding + 26, at + 10 + index * Svg.lineHeight, line, "soft")
      )
    ]
  })
  const remarks = Svg.wrap(timeline.remark ?? "", Svg.width - 2 * padding)
  const remarkAt = under + 14
  if (timeline.remark !== undefined) under += remarks.length * Svg.lineHeight + 6
  const height = Math.ceil(under + 6)
  return Svg.svg(
    { height, shownAt: 400 },
    {
      title,
      description: notes
        .map((note) => [`${time(note, rows)}: ${note.text}`, ...(note.commands ?? [])].join(" "))
        .join(" ")
    },
    [
      `<defs><pattern id="m" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="2.4" height="5" style="fill:var(--a)"/></pattern></defs>`,
      ...heading.map((line, index) => Svg.text(padding, 26 + index * 20, line, "h")),
      ...lanes.map((name, lane) =>
        Svg.text(center(lane), headingBottom + 20, name, "k", ` text-anchor="middle"`)
      ),
      ...(rows ? [] : seconds(from, to).map((at) => tick(y(at), at, left, lanes.length))),
      ...blocks.map(({ note }, index) => leader(note, index)),
      ...bars.map(({ color, from, kind, lane, to }) => {
        const at = y(from)
        const until = to === Infinity ? end : y(to)
        return bar(kind, color, center(lane) - barWidth / 2, at, barWidth, Math.max(until - at, 3))
      }),
      ...blocks.flatMap(({ commands, lines, note }, index) => {
        const first = tops[index]! + 12
        const color = note.color ?? "soft"
        return [
          ...lines.map((line, row) => {
            const content = row === 0 ? emphasized(line, color) : Svg.escape(line)
            return `<text x="${notesAt}" y="${Svg.round(first + row * Svg.lineHeight)}">${content}</text>`
          }),
          ...commands.map((line, row) =>
            Svg.text(
              notesAt,
              first + (lines.length + row) * Svg.lineHeight,
              line,
              "mono soft",
              ` xml:space="preserve"`
            )
          )
        ]
      }),
      ...legends,
      ...remarks.map((line, index) =>
        Svg.text(padding, remarkAt + index * Svg.lineHeight, line, "soft")
      )
    ]
  )
}

const emphasized = (line: string, color: string): string => {
  const [, at, rest] = /^(\S+ \S+)(.*)$/s.exec(line)!
  return `<tspan class="k ${color}">${at}</tspan>${Svg.escape(rest!)}`
}

const seconds = (from: number, to: number): ReadonlyArray<number> =>
  Array.from({ length: 1 + Math.floor(to / 1_000) }, (_, index) => 1_000 * index).filter(
    (at) => at >= from
  )

const tick = (y: number, at: number, left: number, lanes: number): string =>
  `<path d="M${left - 2} ${Svg.round(y)}h${lanes * laneStep + 4}" style="stroke:var(--line)"/>` +
  Svg.text(left - 6, y + 4.5, String(at / 1_000), "soft", ` text-anchor="end"`)

const bar = (
  kind: Kind,
  color: Color,
  x: number,
  y: number,
  width: number,
  height: number
): string => {
  const paint = {
    full: `fill:var(--${color})`,
    margin: `fill:url(#m);stroke:var(--a)`,
    waits: `fill:none;stroke:var(--${color});stroke-dasharray:3 2`,
    stopped: `fill:var(--${color});fill-opacity:.35;stroke:var(--${color})`,
    silent: `fill:none;stroke:var(--${color});stroke-width:2;stroke-dasharray:2 4`
  }[kind]
  const inner = kind === "full" ? 0 : 0.5
  if (kind === "silent") {
    const middle = Svg.round(x + width / 2)
    return `<path d="M${middle} ${Svg.round(y)}v${Svg.round(height)}" style="${paint}"/>`
  }
  return `<rect x="${Svg.round(x + inner)}" y="${Svg.round(y + inner)}" width="${width - 2 * inner}" height="${Svg.round(Math.max(height - 2 * inner, 0.5))}" rx="1.5" style="${paint}"/>`
}

const sum = (blocks: ReadonlyArray<{ readonly height: number }>): number =>
  blocks.reduce((total, { height }) => total + height, 0)

/** Where a time is among rows: in proportion between the two that it is between. */
const between = (notes: ReadonlyArray<Note>, tops: ReadonlyArray<number>, at: number): number => {
  const next = notes.findIndex((note) => note.at >= at)
  const place = (index: number) => tops[index]! + 8
  if (next === -1) return place(notes.length - 1)
  if (next === 0) return place(0)
  const [before, after] = [notes[next - 1]!.at, notes[next]!.at]
  const part = after === before ? 1 : (at - before) / (after - before)
  return place(next - 1) + part * (place(next) - place(next - 1))
}

interface Cluster {
  top: number
  height: number
  /** Where each of its members would have it begin. */
  readonly wishes: Array<number>
}

/** As near as can be to where they should be, none over another: those that touch move together. */
const apart = (
  blocks: ReadonlyArray<{ readonly at: number; readonly height: number }>,
  least: number
): ReadonlyArray<number> => {
  const clusters: Array<Cluster> = []
  for (const { at, height } of blocks) {
    clusters.push({ top: Math.max(at, least), height, wishes: [at] })
    for (;;) {
      const [one, other] = [clusters.at(-2), clusters.at(-1)!]
      if (one === undefined || one.top + one.height <= other.top) break
      one.wishes.push(...other.wishes.map((wish) => wish - one.height))
      one.height += other.height
      one.top = Math.max(mean(one.wishes), least)
      clusters.pop()
    }
  }
  const tops: Array<number> = []
  let index = 0
  for (const { top, wishes } of clusters) {
    let at = top
    for (let i = 0; i < wishes.length; i++) {
      tops.push(at)
      at += blocks[index++]!.height
    }
  }
  return tops
}

const mean = (values: ReadonlyArray<number>): number =>
  values.reduce((total, value) => total + value, 0) / values.length
