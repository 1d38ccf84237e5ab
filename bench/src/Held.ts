/** Many leases held at once: what they keep in memory, and what it costs to keep them alive. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import * as RedisServer from "../../test/support/RedisServer.js"
import type { Settings } from "./Contender.js"
import type { ContenderId } from "./contenders/index.js"
import * as Crew from "./Crew.js"
import type { HoldResult, Opened, WatchResult } from "./protocol.js"
import type { Form } from "./Row.js"
import { spread, type Spread } from "./Stats.js"
import { usage } from "./Usage.js"

/** One contender with so many leases. */
export interface Held {
  readonly contender: ContenderId
  readonly leases: number
  readonly about: Opened | undefined
  readonly problem: string | undefined
  readonly bytesPerLease: Spread
  /** Of a core. */
  readonly cpuPercent: Spread
  readonly serverCpuPercent: Spread
  readonly commandsPerSecond: Spread
  readonly bytesPerSecond: Spread
  /** To take them all. */
  readonly takenMillis: Spread
  readonly fibersPerLease: number | undefined
  /** Leases whose key was gone at the end, or that the contender itself gave up. */
  readonly lost: number
  readonly failures: number
  readonly firstFailure: string | undefined
}

export interface HeldResult {
  readonly ttlMillis: number
  readonly watchedMillis: number
  readonly results: ReadonlyArray<Held>
}

const sizes = [100, 1_000, 10_000] as const

const contenders: ReadonlyArray<ContenderId> = [
  "raw",
  "effect-redis-lock",
  "effect-redis-lock, Effect 4",
  "redis-semaphore",
  "@sesamecare-oss/redlock",
  "redlock-universal",
  "effect-distributed-lock"
]

type Part = readonly [contender: ContenderId, leases: number]

/** `redlock` 4 renews nothing: it is here to see that what is lost is found. */
const blindness: Part = ["redlock", 100]

/** Those who hold at the same time: each has a process and a server of its own. */
const parts: Readonly<Record<Form, ReadonlyArray<ReadonlyArray<Part>>>> = {
  short: [
    [
      ...sizes.flatMap((leases): ReadonlyArray<Part> => [["effect-redis-lock", leases]]),
      ["effect-redis-lock, Effect 4", 10_000],
      ["raw", 10_000],
      ["redis-semaphore", 10_000],
      ["@sesamecare-oss/redlock", 10_000],
      ["redlock-universal", 10_000],
      ["effect-distributed-lock", 1_000],
      blindness
    ]
  ],
  full: [
    ...sizes.map((leases) => contenders.map((contender): Part => [contender, leases])),
    [blindness]
  ],
  smoke: [[["effect-redis-lock", 100]]]
}

/**
 * Whole ttls: some renew twice in one and some when it is nearly over, and the time of a look must not
 * decide how often it sees them work.
 */
const times: Readonly<Record<Form, { readonly ttlMillis: number; readonly ttls: number }>> = {
  short: { ttlMillis: 30_000, ttls: 1 },
  full: { ttlMillis: 30_000, ttls: 2 },
  smoke: { ttlMillis: 3_000, ttls: 1.1 }
}

/** What became of one contender in one round. */
interface Seen {
  readonly about?: Opened
  readonly problem?: string
  readonly sample?: Sample
}

interface Sample {
  readonly hold: HoldResult
  readonly watch: WatchResult
  readonly serverCpuMicros: number
  readonly commands: number
  readonly bytes: number
  readonly gone: number
}

export const measure = (
  form: Form,
  rounds: number,
  settings: Omit<Settings, "url" | "ttlMillis">,
  progress: (text: string) => void
): Effect.Effect<HeldResult> =>
  Effect.gen(function* () {
    const { ttlMillis, ttls } = times[form]
    const watchedMillis = ttlMillis * ttls
    const together = (batch: ReadonlyArray<Part>, round: number) =>
      Effect.gen(function* () {
        const name = `round ${round + 1} of ${rounds}`
        // One after the other: who takes locks at the same time is slower.
        const holding = yield* Effect.forEach(batch, ([contender, leases]) => {
          progress(`${name}: ${contender} takes ${leases}`)
          return Effect.either(take(contender, leases, { ...settings, ttlMillis }))
        })
        progress(`${name}: held for ${watchedMillis / 1_000} s`)
        return yield* Effect.forEach(
          holding,
          Either.match({
            onLeft: ({ message }) => Effect.succeed<Seen>({ problem: message }),
            onRight: ({ about, watch }) =>
              watch(watchedMillis).pipe(
                Effect.map((sample): Seen => ({ about, sample })),
                Effect.catchAll(({ message }) => Effect.succeed<Seen>({ about, problem: message }))
              )
          }),
          { concurrency: "unbounded" }
        )
      }).pipe(Effect.scoped)

    const results: Array<Held> = []
    for (const batch of parts[form]) {
      const all: Array<ReadonlyArray<Seen>> = []
      for (let round = 0; round < rounds; round++) all.push(yield* together(batch, round))
      batch.forEach(([contender, leases], index) => {
        const mine = all.map((round) => round[index]!)
        results.push(
          summary(
            contender,
            leases,
            mine.find(({ about }) => about !== undefined)?.about,
            mine.find(({ problem }) => problem !== undefined)?.problem,
            mine.flatMap(({ sample }) => (sample === undefined ? [] : [sample]))
          )
        )
      })
    }
    return { ttlMillis, watchedMillis, results }
  })

/** Takes the leases, on a server that nobody else uses. */
const take = (
  contender: ContenderId,
  leases: number,
  settings: Omit<Settings, "url">
): Effect.Effect<
  {
    readonly about: Opened
    readonly watch: (millis: number) => Effect.Effect<Sample, Crew.ContenderFailed>
  },
  Crew.ContenderFailed,
  Scope.Scope
> =>
  Effect.gen(function* () {
    const server = yield* RedisServer.make()
    const holder = yield* Crew.makeHolder(contender, { ...settings, url: server.url })
    const hold = yield* holder.hold(leases)
    return {
      about: holder.about,
      watch: (millis) =>
        Effect.gen(function* () {
          const keys = yield* alive(server)
          yield* server.resetStats
          const before = yield* usage(server)
          const watch = yield* holder.watch(millis)
          const after = yield* usage(server)
          const calls = Object.values(yield* server.commandStats)
          return {
            hold,
            watch,
            serverCpuMicros: after.cpuMicros - before.cpuMicros,
            commands: calls.reduce((sum, command) => sum + command.calls, 0),
            bytes: after.bytes - before.bytes,
            gone: Math.max(0, keys - (yield* alive(server)))
          }
        })
    }
  })

/** How many keys are held. (What this library keeps beside them is no lease: records, and its probe.) */
const alive = (server: RedisServer.RedisProcess): Effect.Effect<number> =>
  Effect.map(
    server.command(
      "EVAL",
      `local n = 0
for _, key in ipairs(redis.call('KEYS', '*')) do
  if not string.find(key, ':lock%-record$') then n = n + redis.call('EXISTS', key) end
end
return n`,
      0
    ),
    Number
  )

const summary = (
  contender: ContenderId,
  leases: number,
  about: Opened | undefined,
  problem: string | undefined,
  samples: ReadonlyArray<Sample>
): Held => {
  const of = (value: (sample: Sample) => number) => spread(samples.map(value))
  return {
    contender,
    leases,
    about,
    problem,
    bytesPerLease: of(({ hold }) => hold.bytesPerLease),
    cpuPercent: of(({ watch }) => watch.cpuMicros / 10 / watch.millis),
    serverCpuPercent: of(({ serverCpuMicros, watch }) => serverCpuMicros / 10 / watch.millis),
    commandsPerSecond: of(({ commands, watch }) => (1_000 * commands) / watch.millis),
    bytesPerSecond: of(({ bytes, watch }) => (1_000 * bytes) / watch.millis),
    takenMillis: of(({ hold }) => hold.millis),
    fibersPerLease: samples[0]?.hold.fibersPerLease,
    lost: Math.max(0, ...samples.map(({ gone, watch }) => Math.max(gone, watch.lost))),
    failures: samples.reduce((sum, { watch }) => sum + watch.failures, 0),
    firstFailure: samples.find(({ watch }) => watch.firstFailure !== undefined)?.watch.firstFailure
  }
}
