/** Puts every contender of a row under its load, in turns, and says what was seen. */
import * as Effect from "effect/Effect"
import type * as RedisServer from "../../test/support/RedisServer.js"
import type { ContenderId } from "./contenders/index.js"
import type { Load } from "./Contender.js"
import * as Crew from "./Crew.js"
import { counterKey, type Opened, type RunResult } from "./protocol.js"
import type { Group, Row } from "./Row.js"
import { usage } from "./Usage.js"
import { quantiles, spread, type Quantiles, type Spread } from "./Stats.js"

export interface Options {
  readonly rounds: number
  /** Of a round of a row with `length` 1. */
  readonly millis: number
  /**
   * How long a process has worked before it is measured, in other rows or in this one: code that has
   * just been loaded is slow, the more of it the slower.
   */
  readonly warmUpMillis: number
  readonly crews: Crew.Pool
  /** Where the server is for them, perhaps behind a slow network. */
  readonly url: string
  /** The median time of a PING there, from a connection of no client. */
  readonly pingMillis: number
  readonly progress: (text: string) => void
}

/** One contender in one round. */
interface Sample {
  readonly requests: number
  readonly cyclesPerSecond: number
  readonly cpuMicros: number
  readonly serverCpuMicros: number
  readonly commands: number
  readonly bytes: number
  readonly connections: number
  readonly periodMillis: number
  readonly wait: Quantiles
  readonly writeWait: Quantiles
  readonly handoff: Quantiles | undefined
  /** Of the scripts: how long it kept the server from everything else. */
  readonly longestCallMillis: number
  readonly changes: number
  readonly fewest: number
  readonly most: number
  readonly equalShare: number
  readonly cycles: number
  readonly violations: Violations
}

interface Violations {
  /** More holders at a time than may be. */
  readonly overlaps: number
  /** Increments of a counter in Redis that were lost. */
  readonly lostUpdates: number
  readonly failures: number
  readonly firstFailure: string | undefined
  readonly stuck: number
}

/** One contender in one row. All times in milliseconds, unless a name says otherwise. */
export interface Result {
  readonly contender: ContenderId
  readonly about: Opened | undefined
  /** Why it could not do this, or not to the end. */
  readonly problem: string | undefined
  readonly rounds: number
  readonly cycles: number
  readonly cyclesPerSecond: Spread
  /**
   * In the same round: cycles per second as a multiple of the base's; for a handoff its median time
   * as a multiple of the base's.
   */
  readonly ratio: Spread
  /** Per cycle: of all processes that make load, and of the server. */
  readonly cpuMicros: Spread
  readonly serverCpuMicros: Spread
  /** Per cycle: what clients sent, and what the server did, inside of scripts included. */
  readonly requests: number
  readonly commands: Spread
  readonly bytes: Spread
  /** From the end of a tenure of a key to the end of the next. */
  readonly periodMillis: Spread
  /** Of the scripts, in all rounds; NaN where the server does not tell (before Redis 7). */
  readonly longestCallMillis: number
  /** Of one process, at most. */
  readonly connections: number
  readonly wait: { readonly p50: Spread; readonly p99: Spread; readonly max: number }
  /** Of the turns that write. */
  readonly writeWait: { readonly p50: Spread; readonly p99: Spread; readonly max: number }
  readonly handoff: { readonly p50: Spread; readonly p99: Spread; readonly max: number } | undefined
  /** The share of turns after which another process had the next one. */
  readonly changes: Spread
  /** Turns of the caller that had the fewest, and of the one that had the most, in a round. */
  readonly fewest: Spread
  readonly most: Spread
  readonly equalShare: Spread
  readonly violations: Violations
}

export interface RowResult {
  readonly row: Row
  readonly pingMillis: number
  readonly results: ReadonlyArray<Result>
}

interface Entry {
  readonly contender: ContenderId
  readonly crew: Crew.Crew | undefined
  readonly samples: Map<number, Sample>
  requests: number
  problem: string | undefined
}

export const measure = (
  row: Row,
  server: RedisServer.RedisProcess,
  { crews, millis, pingMillis, progress, rounds, url, warmUpMillis }: Options
): Effect.Effect<RowResult> =>
  Effect.gen(function* () {
    progress("starting")
    const entries = yield* Effect.forEach(row.contenders, (contender) =>
      open(row, contender, crews, url)
    )
    const active = () => entries.filter(({ problem }) => problem === undefined)
    const length = millis * row.length
    // What a contender does wrong ends its part, and nobody else's.
    const turn = (entry: Entry, doing: Effect.Effect<void, Crew.ContenderFailed>) =>
      Effect.catchAll(doing, ({ message }) => Effect.sync(() => (entry.problem = message))).pipe(
        Effect.zipRight(
          Effect.suspend(() =>
            entry.problem === undefined ? Effect.void : crews.discard(entry.crew!)
          )
        )
      )

    const count = (entry: Entry, millis: number) =>
      Effect.map(round(row, entry.crew!, server, millis, true), (sample) => {
        entry.requests = sample.requests
        return sample
      })

    const checking = row.group === "check"
    const note = (entry: Entry, index: number, sample: Sample) => {
      entry.samples.set(index, sample)
      const { stuck } = sample.violations
      if (stuck > 0) {
        entry.problem = `${stuck} callers still waited ${Crew.patienceMillis / 1_000} s after the end of a round`
      }
    }
    for (const entry of active()) {
      progress(`warming up ${entry.contender}`)
      const warmUp = warmUpOf(row, warmUpMillis, entry.crew!.workedMillis())
      yield* turn(
        entry,
        Effect.map(
          // Where callers wait for one another, there are few cycles, and they take long to end.
          contended.has(row.group) ? count(entry, warmUp) : round(row, entry.crew!, server, warmUp),
          (sample) => {
            // it would not end in the rounds either: what it reached is all that there is
            if (sample.violations.stuck > 0) note(entry, -1, sample)
          }
        )
      )
      if (
        ["free", "permits", "readers", "several"].includes(row.group) &&
        entry.problem === undefined
      ) {
        progress(`counting requests of ${entry.contender}`)
        yield* turn(entry, Effect.asVoid(count(entry, 150)))
      }
    }
    const times = checking ? 1 : rounds
    for (let index = 0; index < times; index++) {
      for (const entry of active()) {
        progress(`round ${index + 1} of ${times}: ${entry.contender}`)
        yield* turn(
          entry,
          Effect.map(round(row, entry.crew!, server, length), (sample) =>
            note(entry, index, sample)
          )
        )
      }
    }
    const base = entries.find(({ contender }) => contender === row.base)
    return { row, pingMillis, results: entries.map((entry) => summary(row, entry, base)) }
  })

const contended: ReadonlySet<Group> = new Set(["hot", "many", "handoff", "semaphore", "readWrite"])

/** Where it is not the client's speed that is measured, a fifth of it does. */
const warmUpOf = (row: Row, warmUpMillis: number, workedMillis: number): number =>
  Math.max(
    warmUpMillis / 10,
    (row.group === "check" || row.group === "slow" ? warmUpMillis / 5 : warmUpMillis) - workedMillis
  )

const open = (
  row: Row,
  contender: ContenderId,
  crews: Crew.Pool,
  url: string
): Effect.Effect<Entry> =>
  Effect.map(Effect.either(crews.get(contender, row.processes, url)), (crew) => {
    const entry = { contender, samples: new Map<number, Sample>(), requests: 0 }
    return crew._tag === "Right"
      ? { ...entry, crew: crew.right, problem: undefined }
      : { ...entry, crew: undefined, problem: crew.left.message }
  })

const round = (
  row: Row,
  crew: Crew.Crew,
  server: RedisServer.RedisProcess,
  millis: number,
  /** By MONITOR: this slows the server down, so it is not for a round that is measured. */
  countRequests = false
): Effect.Effect<Sample, Crew.ContenderFailed> =>
  Effect.gen(function* () {
    const counting = row.load.body === "counter"
    yield* server.command("FLUSHALL")
    if (counting) yield* server.command("SET", counterKey, 0)
    yield* crew.prepare(row.load)
    yield* server.resetStats
    yield* Effect.exit(server.command("CONFIG", "SET", "latency-tracking-info-percentiles", "100"))
    const before = yield* usage(server)
    // What looking costs by itself.
    const again = yield* usage(server)
    const monitor = countRequests ? yield* server.monitor : undefined
    const results = yield* crew.run({ load: row.load, millis, keepTenures: row.processes > 1 })
    const requests = monitor && (yield* monitor.commands).filter(({ from }) => from !== "lua")
    const after = yield* usage(server)
    const calls = Object.values(yield* server.commandStats).reduce(
      (sum, command) => sum + command.calls,
      0
    )
    const latencies = String(yield* server.command("INFO", "latencystats"))
    const longest = [...latencies.matchAll(/usec_evalsha:p100=([\d.]+)/g)].map(([, it]) =>
      Number(it)
    )
    const cycles = sum(results, ({ allCycles }) => allCycles)
    const each = (total: number) => (cycles === 0 ? 0 : total / cycles)
    const turns = results.flatMap((result) => result.turns)
    const tenures = sortedTenures(results)
    const handoffs = row.group === "handoff" ? handoffTimes(tenures) : undefined
    const inRedis = counting ? Number(yield* server.command("GET", counterKey)) : cycles
    return {
      cycles,
      requests: each(requests?.length ?? 0),
      cyclesPerSecond: sum(results, (result) => result.cycles) / (millis / 1_000),
      cpuMicros: each(sum(results, ({ cpuMicros }) => cpuMicros)),
      serverCpuMicros: each(after.cpuMicros - again.cpuMicros),
      commands: each(calls),
      bytes: each(after.bytes - again.bytes - (again.bytes - before.bytes)),
      periodMillis:
        sum(results, ({ periods }) => periods.millis) /
        sum(results, ({ periods }) => periods.count),
      connections: Math.max(...results.map(({ connections }) => connections)),
      wait: quantiles(concat(results.map(({ waits }) => waits))),
      writeWait: quantiles(concat(results.map(({ writeWaits }) => writeWaits))),
      handoff: handoffs === undefined ? undefined : quantiles(handoffs),
      longestCallMillis: longest.length === 0 ? Number.NaN : Math.max(...longest) / 1_000,
      changes: handoffs === undefined ? 0 : handoffs.length / Math.max(1, tenures.length - 1),
      fewest: Math.min(...turns),
      most: Math.max(...turns),
      equalShare: sum(turns, (each) => each) / turns.length,
      violations: {
        overlaps: sum(results, ({ overlaps }) => overlaps) + notAlone(row.load, tenures),
        lostUpdates: cycles - inRedis,
        failures: sum(results, ({ failures }) => failures),
        firstFailure: results.find((result) => result.firstFailure !== undefined)?.firstFailure,
        stuck: sum(results, ({ stuck }) => stuck)
      }
    }
  }).pipe(Effect.scoped)

interface Tenure {
  readonly process: number
  readonly key: number
  readonly from: number
  readonly to: number
  readonly writes: boolean
}

/** Who was under a lock when, of all processes, by key and time. */
const sortedTenures = (results: ReadonlyArray<RunResult>): ReadonlyArray<Tenure> =>
  results
    .flatMap(({ tenures }, process) =>
      tenures === undefined
        ? []
        : Array.from(tenures.keys, (key, index) => ({
            process,
            key,
            from: tenures.from[index]!,
            to: tenures.to[index]!,
            writes: tenures.writes[index] === 1
          }))
    )
    .sort((a, b) => a.key - b.key || a.from - b.from)

/** How often somebody came in who may not be there with those inside. */
const notAlone = (load: Load, tenures: ReadonlyArray<Tenure>): number =>
  load.writeEvery !== undefined
    ? meetingsOf(tenures)
    : load.limit === undefined
      ? overlapsOf(tenures)
      : tooManyOf(tenures, load.limit)

/** Of one who writes and anybody else, in whichever process. */
const meetingsOf = (tenures: ReadonlyArray<Tenure>): number => {
  let key: number | undefined
  let anybodyUntil = -Infinity
  let writerUntil = -Infinity
  return tenures.filter((tenure) => {
    if (tenure.key !== key) anybodyUntil = writerUntil = -Infinity
    key = tenure.key
    const meets = tenure.from < (tenure.writes ? anybodyUntil : writerUntil)
    anybodyUntil = Math.max(anybodyUntil, tenure.to)
    if (tenure.writes) writerUntil = Math.max(writerUntil, tenure.to)
    return meets
  }).length
}

/** Overlaps within a process are counted there. */
const overlapsOf = (tenures: ReadonlyArray<Tenure>): number =>
  tenures.filter((tenure, index) => {
    const last = tenures[index - 1]
    return (
      last !== undefined &&
      last.key === tenure.key &&
      last.process !== tenure.process &&
      tenure.from < last.to
    )
  }).length

/** How often somebody came in while as many as may be were under the lock, in whichever process. */
const tooManyOf = (tenures: ReadonlyArray<Tenure>, limit: number): number => {
  const ends = new Map<number, Array<number>>()
  return tenures.filter(({ from, key, to }) => {
    const inside = (ends.get(key) ?? []).filter((end) => end > from)
    ends.set(key, [...inside, to])
    return inside.length >= limit
  }).length
}

/** From the last line of a tenure in one process to the first line of the next in another. */
const handoffTimes = (tenures: ReadonlyArray<Tenure>): Float64Array =>
  Float64Array.from(
    tenures.flatMap((tenure, index) => {
      const last = tenures[index - 1]
      return last !== undefined && last.process !== tenure.process ? [tenure.from - last.to] : []
    })
  )

const summary = (row: Row, entry: Entry, base: Entry | undefined): Result => {
  const samples = [...entry.samples.values()]
  const of = (value: (sample: Sample) => number) => spread(samples.map(value))
  const score = (sample: Sample | undefined) =>
    row.group === "handoff" ? sample?.handoff?.p50 : sample?.cyclesPerSecond
  const ratios = [...entry.samples].flatMap(([index, sample]) => {
    const mine = score(sample)
    const theirs = score(base?.samples.get(index))
    return mine === undefined || theirs === undefined || theirs === 0 ? [] : [mine / theirs]
  })
  const all = (value: (sample: Sample) => Quantiles) => ({
    p50: of((sample) => value(sample).p50),
    p99: of((sample) => value(sample).p99),
    max: of((sample) => value(sample).max).max
  })
  const violations = samples.map((sample) => sample.violations)
  return {
    contender: entry.contender,
    about: entry.crew?.about,
    problem: entry.problem,
    rounds: samples.length,
    cycles: sum(samples, ({ cycles }) => cycles),
    cyclesPerSecond: of(({ cyclesPerSecond }) => cyclesPerSecond),
    ratio: spread(ratios),
    cpuMicros: of(({ cpuMicros }) => cpuMicros),
    serverCpuMicros: of(({ serverCpuMicros }) => serverCpuMicros),
    requests: entry.requests,
    commands: of(({ commands }) => commands),
    bytes: of(({ bytes }) => bytes),
    periodMillis: of(({ periodMillis }) => periodMillis),
    longestCallMillis: of(({ longestCallMillis }) => longestCallMillis).max,
    connections: Math.max(0, ...samples.map(({ connections }) => connections)),
    wait: all(({ wait }) => wait),
    writeWait: all(({ writeWait }) => writeWait),
    handoff: samples[0]?.handoff === undefined ? undefined : all(({ handoff }) => handoff!),
    changes: of(({ changes }) => changes),
    fewest: of(({ fewest }) => fewest),
    most: of(({ most }) => most),
    equalShare: of(({ equalShare }) => equalShare),
    violations: {
      overlaps: sum(violations, ({ overlaps }) => overlaps),
      lostUpdates: sum(violations, ({ lostUpdates }) => lostUpdates),
      failures: sum(violations, ({ failures }) => failures),
      firstFailure: violations.find((each) => each.firstFailure !== undefined)?.firstFailure,
      stuck: sum(violations, ({ stuck }) => stuck)
    }
  }
}

const sum = <A>(values: ReadonlyArray<A>, of: (value: A) => number): number =>
  values.reduce((total, value) => total + of(value), 0)

const concat = (arrays: ReadonlyArray<Float64Array>): Float64Array => {
  const all = new Float64Array(sum(arrays, ({ length }) => length))
  let at = 0
  for (const array of arrays) {
    all.set(array, at)
    at += array.length
  }
  return all
}
