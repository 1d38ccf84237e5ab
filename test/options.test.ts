import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { Lock, LockStore, MemoryLockStore } from "effect-redis-lock"

/** A store that remembers what it was asked. */
const spy = Effect.map(MemoryLockStore.make, (store) => {
  const claims: Array<LockStore.Claim> = []
  return {
    claims,
    store: LockStore.LockStore.of({
      clock: store.clock,
      acquire: (claim, restore) => {
        claims.push(claim)
        return store.acquire(claim, restore)
      }
    })
  }
})

type Entry = (
  key: string,
  options: Lock.WaitOptions | undefined
) => Effect.Effect<unknown, unknown, LockStore.LockStore>

const entries: ReadonlyArray<readonly [string, Entry]> = [
  ["acquire", (key, options) => Effect.scoped(Lock.acquire(key, options))],
  ["tryAcquire", (key, options) => Effect.scoped(Lock.tryAcquire(key, options))],
  ["withLock", (key, options) => Lock.withLock(key, options)(Effect.void)],
  ["withLockIfAvailable", (key, options) => Lock.withLockIfAvailable(key, options)(Effect.void)]
]

const impossible: ReadonlyArray<
  readonly [option: string, value: unknown, shown: string, more?: object]
> = [
  ["ttl", 0, "0 ms"],
  ["ttl", -1, "-1 ms"],
  ["ttl", 9.9, "9.9 ms"],
  ["ttl", Number.NaN, "NaN"],
  ["ttl", Number.POSITIVE_INFINITY, "Infinity"],
  ["ttl", Number.NEGATIVE_INFINITY, "-Infinity"],
  ["ttl", Number.MAX_SAFE_INTEGER, `${Number.MAX_SAFE_INTEGER}`],
  ["ttl", 9_007_199_254_741, "9007199254741 ms"],
  ["ttl", Duration.zero, "0 ms"],
  ["ttl", Duration.infinity, "Infinity"],
  ["ttl", "rubbish", '"rubbish"'],
  ["ttl", "", '""'],
  ["ttl", "5 parsecs", '"5 parsecs"'],
  ["ttl", null, "null"],
  ["ttl", true, "true"],
  // (to Effect 4, a duration of nothing)
  ["ttl", {}, ""],
  ["warnAfter", 0, "0 ms"],
  ["warnAfter", Number.NaN, "NaN"],
  ["warnAfter", "rubbish", '"rubbish"'],
  ["renewEvery", 0, "0 ms"],
  ["renewEvery", -1, "-1 ms"],
  ["renewEvery", Number.NaN, "NaN"],
  ["renewEvery", Number.POSITIVE_INFINITY, "Infinity"],
  ["renewEvery", "rubbish", '"rubbish"'],
  ["renewEvery", "5 seconds", "5000 ms"],
  ["renewEvery", "1 minute", "60000 ms"],
  // within the ttl, and after its validity
  ["renewEvery", 4_948, "4948 ms"],
  ["renewEvery", "500 millis", "500 ms", { ttl: "500 millis" }],
  ["margin", -1, "-1 ms"],
  ["margin", Number.NaN, "NaN"],
  ["margin", Number.POSITIVE_INFINITY, "Infinity"],
  ["margin", "rubbish", '"rubbish"'],
  ["margin", "5 seconds", "5000 ms"],
  ["margin", 2_448, "2448 ms"],
  ["margin", "1 second", "1000 ms", { renewEvery: "4 seconds" }],
  ["owner", 42, "42"],
  ["owner", null, "null"],
  ["owner", "o".repeat(1_025), '"ooo'],
  ["name", 42, "42"],
  ["name", "n".repeat(1_025), '"nnn'],
  ["reentrant", 1, "1. It must be true or false"],
  ["reentrant", "yes", '"yes"'],
  ["reentrant", null, "null"],
  // nothing that a string can be made of
  ["owner", Object.create(null), ""],
  ["ttl", Object.create(null), ""]
]

const impossibleWaits: ReadonlyArray<readonly [unknown, string]> = [
  [-1, "-1 ms"],
  [Number.NaN, "NaN"],
  [Number.NEGATIVE_INFINITY, "-Infinity"],
  ["rubbish", '"rubbish"'],
  ["-5 seconds", "-5"],
  [null, "null"]
]

const impossibleKeys: ReadonlyArray<readonly [unknown, string]> = [
  ["", '""'],
  [undefined, "undefined"],
  [null, "null"],
  [42, "42. A key must be a string"],
  [["key"], "key"],
  [Symbol("s"), "Symbol(s)"],
  ["k".repeat(65_537), '"kkk'],
  [Object.create(null), ""]
]

/** It is refused: as a defect, when it runs, with a message that says what, and nothing is asked. */
const expectRefused = (run: Entry, key: unknown, options: unknown, option: string, value: string) =>
  Effect.gen(function* () {
    const { claims, store } = yield* spy
    // building it throws nothing
    const effect = run(key as string, options as Lock.WaitOptions)
    const exit = yield* Effect.exit(Effect.provideService(effect, LockStore.LockStore, store))
    const cause = Exit.isFailure(exit) ? exit.cause : Cause.empty
    expect(Option.isNone(Cause.failureOption(cause))).toBe(true)
    const [defect] = Chunk.toReadonlyArray(Cause.defects(cause))
    expect(defect, `${String(defect)}`).toSatisfy(Cause.isIllegalArgumentException)
    const { message } = defect as Cause.IllegalArgumentException
    expect(message).toMatch(new RegExp(`option ${option}: `))
    expect(message).toContain(value)
    expect(message.length).toBeLessThan(500)
    expect(claims).toEqual([])
  })

describe.each(entries)("Lock.%s", (_, run) => {
  for (const [option, value, shown, more] of impossible) {
    it.effect(
      `refuses ${option} ${describeValue(value)}${more ? ` ${JSON.stringify(more)}` : ""}`,
      () => expectRefused(run, "key", { ...more, [option]: value }, option, shown)
    )
  }

  for (const [key, shown] of impossibleKeys) {
    it.effect(`refuses key ${describeValue(key)}`, () =>
      expectRefused(run, key, undefined, "key", shown)
    )
  }

  it.effect("takes no options at all, and gives the defaults to the store", () =>
    Effect.gen(function* () {
      const { claims, store } = yield* spy
      const waits = run === entries[0]![1] || run === entries[2]![1]
      yield* Effect.provideService(run("key", undefined), LockStore.LockStore, store)
      yield* Effect.provideService(run("key", {}), LockStore.LockStore, store)
      const expected = {
        key: "key",
        kind: "lock",
        share: 1,
        limit: 1,
        ttlMillis: 5_000,
        waitMillis: waits ? Number.POSITIVE_INFINITY : 0,
        ...(waits ? { whenWaiting: expect.any(Function) as unknown } : {}),
        owner: undefined
      }
      expect(claims).toEqual([expected, expected])
    })
  )

  it.effect("takes an option that is undefined for one that is not given", () =>
    Effect.gen(function* () {
      const { claims, store } = yield* spy
      const nothing = {
        ttl: undefined,
        renewEvery: undefined,
        margin: undefined,
        owner: undefined,
        name: undefined,
        waitAtMost: undefined
      }
      yield* Effect.provideService(run("key", nothing), LockStore.LockStore, store)
      expect(claims).toMatchObject([{ ttlMillis: 5_000 }])
    })
  )

  it.effect("takes the extremes of what is possible", () =>
    Effect.gen(function* () {
      const { claims, store } = yield* spy
      const take = (key: string, options: Lock.Options) =>
        Effect.provideService(run(key, options), LockStore.LockStore, store)
      yield* take("k", { ttl: 10 })
      yield* take("k", { ttl: "365 days" })
      yield* take("k", { ttl: 9_007_199_254_740 })
      yield* take("k", { ttl: Duration.seconds(1.5), renewEvery: "1 millis", margin: 0 })
      yield* take("k", { ttl: 10.9 })
      yield* take("k", { renewEvery: 4_947, margin: 0 })
      yield* take("k", { owner: "o".repeat(1_024), name: "n".repeat(1_024) })
      yield* take("k", { owner: "" })
      yield* take("k".repeat(65_536), {})
      expect(claims.map((claim) => claim.ttlMillis)).toEqual([
        10,
        365 * 86_400_000,
        9_007_199_254_740,
        1_500,
        10,
        5_000,
        5_000,
        5_000,
        5_000
      ])
    })
  )
})

describe.each([entries[0]!, entries[2]!])("Lock.%s", (_, run) => {
  for (const [value, shown] of impossibleWaits) {
    it.effect(`refuses waitAtMost ${describeValue(value)}`, () =>
      expectRefused(run, "key", { waitAtMost: value }, "waitAtMost", shown)
    )
  }

  it.effect("waits no time, some time or for ever", () =>
    Effect.gen(function* () {
      const { claims, store } = yield* spy
      for (const waitAtMost of [
        0,
        "0 millis",
        "1.5 seconds",
        Number.POSITIVE_INFINITY,
        Duration.infinity
      ] as const) {
        yield* Effect.provideService(run("key", { waitAtMost }), LockStore.LockStore, store)
      }
      expect(claims.map((claim) => claim.waitMillis)).toEqual([
        0,
        0,
        1_500,
        Number.POSITIVE_INFINITY,
        Number.POSITIVE_INFINITY
      ])
    })
  )
})

function describeValue(value: unknown): string {
  if (Duration.isDuration(value)) return `Duration ${Duration.format(value)}`
  if (typeof value === "string") {
    return JSON.stringify(value.length > 20 ? `${value.slice(0, 3)}… (${value.length})` : value)
  }
  if (typeof value === "object" && value !== null && Object.getPrototypeOf(value) === null) {
    return "an object without a prototype"
  }
  return typeof value === "object" ? JSON.stringify(value) : String(value)
}
