/** Sees every cycle of one process in one round, and adds little to it. */
import { now } from "./Clock.js"
import type { Load, Meter } from "./Contender.js"

export interface Readings {
  /** Cycles that were finished before the end of the round. */
  readonly cycles: number
  /** With those that were begun before its end. */
  readonly allCycles: number
  /** Cycles before the end of the round, by caller. */
  readonly turns: ReadonlyArray<number>
  /** Between the ends of two tenures of a key that follow on each other: milliseconds in all, and how many. */
  readonly periods: { readonly millis: number; readonly count: number }
  /** Milliseconds from asking for the lock to the first line under it, for all cycles. */
  readonly waits: Float64Array
  /** The same of the cycles that write. */
  readonly writeWaits: Float64Array
  /** How often somebody came in while as many of this process as may be were under the lock. */
  readonly overlaps: number
  /** Who was under the lock when: key, came, left; for the comparison with other processes. */
  readonly tenures:
    | {
        readonly keys: Float64Array
        readonly from: Float64Array
        readonly to: Float64Array
        /** 1 for one that writes, 0 for one that reads. */
        readonly writes: Float64Array
      }
    | undefined
  readonly failures: number
  readonly firstFailure: string | undefined
  /** Callers that were still waiting when the patience after the end of the round was over. */
  readonly stuck: number
}

export interface Options {
  readonly load: Load
  /** Own keys of different processes differ. */
  readonly process: number
  readonly from: number
  readonly until: number
  readonly keepTenures: boolean
  readonly work: Meter["work"]
}

export interface RecordingMeter extends Meter {
  readonly read: () => Readings
}

export const make = ({
  from,
  keepTenures,
  load,
  process,
  until,
  work
}: Options): RecordingMeter => {
  const names =
    load.keys === "own"
      ? Array.from({ length: load.callers }, (_, caller) => `key:${process}:${caller}`)
      : Array.from({ length: load.keys.shared }, (_, rank) => `key:${rank}`)
  const pick = load.keys === "own" ? (caller: number) => caller : byPopularity(names.length)
  const key = new Int32Array(load.callers)
  const askedAt = new Float64Array(load.callers)
  const enteredAt = new Float64Array(load.callers)
  const turns = new Int32Array(load.callers)
  const inside = new Int32Array(names.length)
  const leftAt = new Float64Array(names.length)
  let periodMillis = 0
  let periods = 0
  const waits = numbers()
  const writeWaits = numbers()
  const tenures = keepTenures
    ? { keys: numbers(), from: numbers(), to: numbers(), writes: numbers() }
    : undefined
  /** How many may be in at once; readers and writers of several processes are compared afterwards. */
  const most = load.writeEvery === undefined ? (load.limit ?? 1) : Infinity
  const writeEvery = load.writeEvery ?? 1
  const writing = new Uint8Array(load.callers)
  let asked = 0
  let ended = 0
  let overlaps = 0
  let failures = 0
  let firstFailure: string | undefined

  return {
    work,
    begin: (caller) => {
      const time = now()
      if (time >= until) {
        ended++
        return undefined
      }
      const index = pick(caller)
      key[caller] = index
      writing[caller] = 1
      askedAt[caller] = Math.max(time, from)
      return names[index]
    },
    writes: (caller) => {
      const writes = ++asked % writeEvery === 0
      writing[caller] = writes ? 1 : 0
      return writes
    },
    enter: (caller) => {
      const time = now()
      if (inside[key[caller]!]!++ >= most) overlaps++
      enteredAt[caller] = time
      waits.add(time - askedAt[caller]!)
      if (writing[caller] === 1) writeWaits.add(time - askedAt[caller]!)
    },
    leave: (caller) => {
      const time = now()
      const index = key[caller]!
      inside[index]!--
      if (leftAt[index]! > 0) {
        periodMillis += time - leftAt[index]!
        periods++
      }
      leftAt[index] = time
      if (time < until) turns[caller]!++
      if (tenures !== undefined) {
        tenures.keys.add(index)
        tenures.from.add(enteredAt[caller]!)
        tenures.to.add(time)
        tenures.writes.add(writing[caller]!)
      }
    },
    failed: (_, error) => {
      failures++
      firstFailure ??= error instanceof Error ? `${error.name}: ${error.message}` : String(error)
    },
    read: () => ({
      cycles: turns.reduce((sum, each) => sum + each, 0),
      allCycles: waits.size(),
      turns: [...turns],
      periods: { millis: periodMillis, count: periods },
      waits: waits.all(),
      writeWaits: writeWaits.all(),
      overlaps,
      tenures:
        tenures === undefined
          ? undefined
          : {
              keys: tenures.keys.all(),
              from: tenures.from.all(),
              to: tenures.to.all(),
              writes: tenures.writes.all()
            },
      failures,
      firstFailure,
      stuck: load.callers - ended
    })
  }
}

/** The n-th of them 1/n as often as the first. */
const byPopularity = (count: number): (() => number) => {
  if (count === 1) return () => 0
  const sums: Array<number> = []
  for (let rank = 0; rank < count; rank++) sums.push((sums[rank - 1] ?? 0) + 1 / (rank + 1))
  return () => {
    const at = Math.random() * sums[count - 1]!
    return sums.findIndex((sum) => at < sum)
  }
}

/** An array of numbers that grows without boxing them. */
const numbers = () => {
  let values = new Float64Array(4_096)
  let size = 0
  return {
    add: (value: number) => {
      if (size === values.length) {
        const larger = new Float64Array(2 * size)
        larger.set(values)
        values = larger
      }
      values[size++] = value
    },
    size: () => size,
    all: () => values.slice(0, size)
  }
}
