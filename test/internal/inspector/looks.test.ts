/** What those who watch are told, and what that costs the store: under a `TestClock`. */
import { describe, expect, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import { LockError, type LockInspector, LockStore } from "effect-redis-lock"
import { makeLooks } from "../../../src/internal/inspector/looks.js"
import { decodeTerms } from "../../../src/internal/inspector/terms.js"
import type { Update } from "../../../src/internal/inspector/wire.js"

const held = (owner: string, more: Partial<LockStore.HeldEntry> = {}): LockStore.HeldEntry => ({
  owner,
  heldFor: Duration.zero,
  foreign: false,
  share: 1,
  limit: 1,
  fencingToken: 1,
  ttlLeft: Duration.seconds(10),
  id: owner,
  ...more
})

/** A store of which a test says what is in it, and that counts how often its keys are asked for. */
const fake = Effect.sync(() => {
  const keys = new Map<string, ReadonlyArray<LockStore.HeldEntry>>()
  const state = { looks: 0, isAway: false }
  const away = new LockError.LockStoreError({ operation: "keys", detail: "gone", transient: true })
  const look: NonNullable<LockStore.LockStore["look"]> = (key) =>
    Effect.map(DateTime.now, (at) => {
      const held = keys.get(key) ?? []
      return {
        kind: held.length === 0 ? undefined : "lock",
        limit: undefined,
        inUse: held.length,
        held,
        pending: [],
        heldCount: held.length,
        pendingCount: 0,
        at
      }
    })
  const store = {
    capabilities: new Set(["look", "keys"]),
    look,
    keys: () => {
      state.looks++
      return state.isAway ? Stream.fail(away) : Stream.fromIterable([...keys.keys()])
    }
  } as Partial<LockStore.LockStore> as LockStore.LockStore
  const looks = (options: Parameters<typeof decodeTerms>[0] = {}) =>
    Effect.provideService(
      Effect.flatMap(decodeTerms(options), makeLooks),
      LockStore.LockStore,
      store
    )
  return { keys, state, looks, store }
})

/** Reads when it is asked to: a slow browser. */
const reader = (updates: Stream.Stream<Update>) =>
  Effect.map(Stream.toPull(updates), (pull) => {
    const next = Effect.orDie(Effect.map(pull, Chunk.unsafeHead))
    return { next }
  })

const keysOf = ({ rows }: Update): ReadonlyArray<string> => rows.map(({ key }) => key)

describe("looks", () => {
  it.scoped("are made while somebody watches, once for all of them, and for a while after", () =>
    Effect.gen(function* () {
      const { keys, looks, state } = yield* fake
      keys.set("k", [held("one")])
      const { detailsOf, updates } = yield* looks({ idleAfter: "5 seconds" })
      yield* TestClock.adjust("1 minute")
      expect(state.looks).toBe(0)
      const watching = Effect.scoped(
        Effect.gen(function* () {
          const [first, second] = [yield* reader(updates), yield* reader(updates)]
          expect(yield* first.next).toMatchObject({ reset: true })
          expect(yield* second.next).toMatchObject({ reset: true })
          yield* TestClock.adjust("10 seconds")
          return state.looks
        })
      )
      const looked = yield* watching
      expect(looked).toBeGreaterThanOrEqual(10)
      expect(looked).toBeLessThanOrEqual(12)
      yield* TestClock.adjust("10 seconds")
      expect(state.looks - looked).toBeLessThanOrEqual(6)
      const afterwards = state.looks
      yield* TestClock.adjust("1 hour")
      expect(state.looks).toBe(afterwards)
      // what was not watched is not known, and it begins again
      const snapshot = {
        key: "k",
        at: yield* DateTime.now,
        held: [],
        pending: []
      } as Partial<LockInspector.Snapshot> as LockInspector.Snapshot
      expect(detailsOf(snapshot)).toMatchObject({ history: [], watchedSince: null })
      yield* watching
      expect(state.looks).toBeGreaterThan(afterwards + 9)
    })
  )

  it.scoped("are made always where they are never idle", () =>
    Effect.gen(function* () {
      const { looks, state } = yield* fake
      yield* looks({ idleAfter: Duration.infinity })
      yield* TestClock.adjust("1 minute")
      expect(state.looks).toBeGreaterThan(55)
    })
  )

  it.scoped("who reads late is told once what has become of each key", () =>
    Effect.gen(function* () {
      const { keys, looks } = yield* fake
      keys.set("stays", [held("one")]).set("goes", [held("one")])
      const { next } = yield* reader((yield* looks()).updates)
      yield* next
      yield* TestClock.adjust("1 second")
      const first = yield* next
      expect([first.reset, [...keysOf(first)].sort()]).toEqual([true, ["goes", "stays"]])
      keys.delete("goes")
      keys.set("comes", [held("two")]).set("passes", [held("two")])
      yield* TestClock.adjust("1 minute")
      keys.delete("passes")
      yield* TestClock.adjust("1 second")
      const second = yield* next
      expect(second).toMatchObject({ reset: false })
      // ("stays" has had another end of its ttl with each look)
      expect([...keysOf(second)].sort()).toEqual(["comes", "stays"])
      expect([...second.gone].sort()).toEqual(["goes", "passes"])
      expect(second.events.length).toBeLessThanOrEqual(200)
      const third = yield* Effect.zipRight(TestClock.adjust("1 second"), next)
      expect(third.gone).toEqual([])
    })
  )

  it.scoped("who has missed more keys than are remembered is told all", () =>
    Effect.gen(function* () {
      const { keys, looks } = yield* fake
      const { next } = yield* reader((yield* looks()).updates)
      for (let i = 0; i <= 5_000; i++) keys.set(`k${i}`, [held("one")])
      yield* next
      yield* TestClock.adjust("1 second")
      expect((yield* next).rows.length).toBe(5_001)
      keys.clear()
      keys.set("new", [held("one")])
      yield* TestClock.adjust("1 second")
      const update = yield* next
      expect([update.reset, keysOf(update)]).toEqual([true, ["new"]])
    })
  )

  it.scoped("a store that is away is told, with what was known, until it answers again", () =>
    Effect.gen(function* () {
      const { keys, looks, state } = yield* fake
      keys.set("k", [held("one")])
      const { next } = yield* reader((yield* looks()).updates)
      yield* next
      yield* TestClock.adjust("1 second")
      yield* next
      state.isAway = true
      yield* TestClock.adjust("1 second")
      const away = yield* next
      yield* TestClock.adjust("5 seconds")
      const still = yield* next
      expect(away).toMatchObject({
        reset: false,
        gone: [],
        trouble: { detail: "gone", isRefusal: false }
      })
      expect(still.trouble).toEqual(away.trouble)
      expect(still.now - still.lookedAt!).toBeGreaterThanOrEqual(5_000)
      state.isAway = false
      keys.delete("k")
      yield* TestClock.adjust("1 second")
      expect(yield* next).toMatchObject({ trouble: null, gone: ["k"] })
    })
  )

  it.scoped("something is said also while a look takes long", () =>
    Effect.gen(function* () {
      const { looks, store } = yield* fake
      Object.assign(store, { keys: () => Stream.never })
      const { next } = yield* reader((yield* looks()).updates)
      expect(yield* next).toMatchObject({ reset: true, lookedAt: null })
      const waiting = yield* Effect.fork(next)
      yield* TestClock.adjust("5 seconds")
      expect(yield* waiting).toMatchObject({ rows: [], trouble: null })
    })
  )

  it.scoped("a store that cannot list its keys is told so, and nothing dies of it", () =>
    Effect.gen(function* () {
      const { looks, store } = yield* fake
      Object.assign(store, { capabilities: new Set(["look"]) })
      const { next } = yield* reader((yield* looks()).updates)
      yield* next
      yield* TestClock.adjust("1 second")
      expect((yield* next).trouble).toMatchObject({
        detail: expect.stringContaining("keys"),
        isRefusal: true
      })
    })
  )

  it.scoped("its times are of the store's clock, also of what was before that was known", () =>
    Effect.gen(function* () {
      const { keys, looks, state, store } = yield* fake
      const hour = Duration.hours(1)
      const { look } = store
      // (that of the store is an hour late)
      Object.assign(store, {
        look: (key: string) =>
          Effect.map(look!(key, 100, []), (found) => ({
            ...found,
            at: DateTime.subtractDuration(found.at!, hour)
          }))
      })
      yield* TestClock.adjust("1 day")
      const { detailsOf, updates } = yield* looks()
      const { next } = yield* reader(updates)
      yield* next
      yield* TestClock.adjust("1 second")
      const wall = yield* next
      keys.set("k", [held("one")])
      yield* TestClock.adjust("10 seconds")
      const own = yield* next
      const at = DateTime.subtractDuration(yield* DateTime.now, hour)
      expect(own.now).toBe(wall.now + 10_000 - 3_600_000)
      expect(own.now - own.watchedSince!).toBe(11_000)
      expect(own.now - own.lookedAt!).toBeLessThanOrEqual(1_000)
      const snapshot = { key: "k", at, held: [], pending: [] }
      expect(
        detailsOf(snapshot as Partial<LockInspector.Snapshot> as LockInspector.Snapshot)
      ).toMatchObject({ watchedSince: own.watchedSince })
      state.isAway = true
      yield* TestClock.adjust("3 seconds")
      const away = yield* next
      expect(away.now - away.trouble!.since).toBeLessThanOrEqual(3_000)
    })
  )

  it.scoped("a renewal is seen by the end of the ttl, and the time that passes is none", () =>
    Effect.gen(function* () {
      const { keys, looks } = yield* fake
      const { next } = yield* reader((yield* looks()).updates)
      const left = (millis: number) =>
        keys.set("k", [held("one", { ttlLeft: Duration.millis(millis) })])
      const look = Effect.zipRight(TestClock.adjust("1 second"), next)
      left(8_000)
      yield* next
      const first = yield* next
      // (the same end, also where the server was stopped between its time and what is left)
      left(7_100)
      const second = yield* look
      left(10_000)
      const third = yield* look
      expect(first.rows[0]!.first).toMatchObject({ ttl: 8_000, renewedAt: null })
      expect(second.rows).toEqual([])
      expect(third.rows[0]!.first).toMatchObject({ ttl: 10_000, renewedAt: third.now })
    })
  )
})
