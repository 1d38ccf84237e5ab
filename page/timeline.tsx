/** Who had a key when, and who waited: a lane for each process, time from left to right. */
import { useState } from "preact/hooks"
import type { Details, Stint } from "../src/internal/inspector/wire.js"
import { age, clock, count, fineAge, visible } from "./format.js"
import { Name } from "./parts.js"

const minute = 60_000

const spans: ReadonlyArray<readonly [number, string]> = [
  [minute, "1 min"],
  [5 * minute, "5 min"],
  [15 * minute, "15 min"],
  [60 * minute, "1 h"]
]

/** So many processes have a lane. */
const mostLanes = 24

interface Lane {
  readonly name: string
  readonly owner: string | null
  readonly stints: Array<Stint>
  isHolding: boolean
  lastAt: number
}

const lanesOf = (history: ReadonlyArray<Stint>, from: number): ReadonlyArray<Lane> => {
  const lanes = new Map<string, Lane>()
  for (const stint of history) {
    if (stint.to !== null && stint.to < from) continue
    const name = `${stint.incarnation} ${stint.owner}`
    const lane = lanes.get(name) ?? {
      name,
      owner: stint.owner,
      stints: [],
      isHolding: false,
      lastAt: 0
    }
    lanes.set(name, lane)
    lane.stints.push(stint)
    if (stint.what === "held" && stint.to === null) lane.isHolding = true
    lane.lastAt = Math.max(lane.lastAt, stint.to ?? Infinity)
  }
  // who has it, then who waits in order, then who was there last
  return [...lanes.values()].sort((a, b) => {
    if (a.isHolding !== b.isHolding) return a.isHolding ? -1 : 1
    if (a.lastAt !== b.lastAt) return b.lastAt - a.lastAt
    return a.stints.at(-1)!.from - b.stints.at(-1)!.from
  })
}

const wordsOf = (stint: Stint, now: number): string => {
  const long = fineAge((stint.to ?? now) - stint.from)
  const until = stint.to === null ? "and still does" : `until ${clock(stint.to, now)}`
  const verb = stint.what === "held" ? "held it" : "waited"
  const end = stint.end === null ? "" : `, ${stint.end}`
  return `${verb} from ${clock(stint.from, now)} ${until} (${long})${end}`
}

/** So that all of what goes on, and some of what was before, is seen. */
const spanThatFits = (history: ReadonlyArray<Stint>, now: number): number => {
  const oldest = Math.min(now, ...history.slice(-60).map(({ from }) => from))
  return (spans.find(([span]) => now - oldest <= span * 0.98) ?? spans.at(-1)!)[0]
}

export const Timeline = ({ details, now }: { details: Details; now: number }) => {
  const [chosen, choose] = useState<number>()
  const { history, watchedSince } = details
  const span = chosen ?? spanThatFits(history, now)
  const from = now - span
  const lanes = lanesOf(history, from)
  const at = (time: number) => Math.max(0, Math.min(100, (100 * (time - from)) / span))
  const step = span / 3
  const marks = Array.from({ length: 3 }, (_, index) => Math.ceil(from / step + index) * step)
  const unknown = watchedSince === null ? 100 : at(watchedSince)

  return (
    <section aria-labelledby="timeline-title" class="timeline">
      <div class="bar">
        <h3 id="timeline-title">Timeline</h3>
        <div class="choice" role="group" aria-label="How much of it">
          {spans.map(([one, name]) => (
            <button type="button" aria-pressed={one === span} onClick={() => choose(one)}>
              {name}
            </button>
          ))}
        </div>
      </div>
      <div class="lanes" aria-hidden="true">
        {lanes.slice(0, mostLanes).map((lane) => (
          <div class="lane" key={lane.name}>
            <div class="who">
              <Name of={lane.owner} />
            </div>
            <div class="track">
              {lane.stints.map((stint) => {
                const [start, end] = [at(stint.from), at(stint.to ?? now)]
                return (
                  <span
                    class={`stint ${stint.what} ${(stint.end ?? "goes on").replaceAll(" ", "-")} ${stint.from < from ? "earlier" : ""}`}
                    style={{ left: `${start}%`, width: `${end - start}%` }}
                    title={`${visible(stint.owner ?? "(no name)")} ${wordsOf(stint, now)}`}
                  />
                )
              })}
            </div>
          </div>
        ))}
        <div class="axis">
          <div class="who">
            {lanes.length > mostLanes && `and ${count(lanes.length - mostLanes)} more`}
          </div>
          <div class="track">
            {marks
              .filter((mark) => at(mark) > 12 && at(mark) < 88)
              .map((mark) => (
                <span class="mark" style={{ left: `${at(mark)}%` }}>
                  <b>{clock(mark, now).slice(-8, span < 5 * minute ? undefined : -3)}</b>
                </span>
              ))}
            {unknown > 0 && (
              <span class="unknown" style={{ width: `${unknown}%` }} title="Nobody watched then" />
            )}
          </div>
        </div>
      </div>
      <p class="legend" aria-hidden="true">
        <span class="stint held" /> held <span class="stint waited" /> waited
        <span class="stint held expired" /> its ttl ended <span class="stint held freed-by-force" />{" "}
        freed by force
      </p>
      <History history={history} now={now} />
      {watchedSince !== null && (
        <p class="note">
          Watched for {age(now - watchedSince)}. What begins and ends between two looks is not seen.
        </p>
      )}
    </section>
  )
}

const mostLines = 30

/** The same in words. */
const History = ({ history, now }: { history: ReadonlyArray<Stint>; now: number }) => {
  const lines = [...history]
    .sort((a, b) => (b.to ?? Infinity) - (a.to ?? Infinity) || b.from - a.from)
    .slice(0, mostLines)
  return (
    <details class="words">
      <summary>In words</summary>
      <ol>
        {lines.map((stint) => (
          <li>
            <Name of={stint.owner} /> {wordsOf(stint, now)}
          </li>
        ))}
      </ol>
    </details>
  )
}
