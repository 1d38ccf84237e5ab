/** What leaders promise, over every store, and what those who observe them are told. */
import { describe, expect, it, layer } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import {
  Leader,
  type Lease,
  Lock,
  LockError,
  LockStore,
  MemoryLockStore,
  ReadWriteLock,
  Semaphore
} from "effect-redis-lock"
import { collecting, impossible, storeError } from "./support/background.js"
import { blockEventLoop } from "./redis/support.js"
import {
  freshKey,
  kindsOf,
  lateAtFirst,
  lose,
  quiet,
  StoreControls,
  storesOf
} from "./support/stores.js"

// ---------------------------------------------------------------- helpers

/** A candidate in the background, whose terms are told as they begin. */
const candidate = (key: string, options?: Leader.Options) =>
  Effect.gen(function* () {
    const terms = yield* Queue.unbounded<Lease.Lease>()
    const ended: Array<number> = []
    const fiber = yield* Effect.forkScoped(
      Leader.run(key, { ttl: 10_000, ...options })((lease) =>
        Effect.zipRight(
          Queue.offer(terms, lease),
          Effect.onInterrupt(Effect.never, () =>
            Effect.sync(() => void ended.push(lease.fencingToken))
          )
        )
      )
    )
    return { terms, ended, fiber, elected: Queue.take(terms), resign: Fiber.interrupt(fiber) }
  })

const isPending = (fiber: Fiber.Fiber<unknown, unknown>) =>
  Effect.map(Fiber.poll(fiber), Option.isNone)

/** The store, with acquires or looks that fail, as long as there is an error. */
const failing = (store: LockStore.LockStore) => {
  const state: { error: LockError.LockStoreError | undefined; asked: number; looks: number } = {
    error: undefined,
    asked: 0,
    looks: 0
  }
  const { look } = store
  const wrapped: LockStore.LockStore = {
    ...store,
    acquire: (claim, restore) =>
      Effect.suspend(() => {
        state.asked++
        return state.error ?? store.acquire(claim, restore)
      }),
    look: (key, atMost) =>
      Effect.suspend(() => {
        state.looks++
        return state.error ?? look!(key, atMost)
      })
  }
  return { state, use: Effect.provideService(LockStore.LockStore, wrapped) }
}

const termOf = (info: Option.Option<Leader.LeaderInfo>) => Option.getOrUndefined(info)?.term

// ---------------------------------------------------------------- tests

describe.each(storesOf("lock"))("%s", (_, rawStore, capabilities) => {
  const store = Layer.merge(rawStore, quiet)

  layer(store, { excludeTestServices: true })("a leader", (it) => {
    it.scoped("leads until its work ends, and ends with what that ends with", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const work = Effect.succeed(7)
        expect(yield* Leader.run(key)(work)).toBe(7)
        expect(yield* Leader.run(work, key)).toBe(7)
        expect(
          yield* Leader.run(({ fencingToken }) => Effect.succeed(fencingToken), key)
        ).toBeGreaterThan(0)
        const failed = yield* Effect.exit(Leader.run(key)(Effect.fail("own")))
        expect(failed).toEqual(Exit.fail("own"))
        const died = yield* Effect.exit(Leader.run(key)(Effect.die("bug")))
        expect(died).toEqual(Exit.die("bug"))
        const interrupted = yield* Effect.exit(Leader.run(key)(Effect.interrupt))
        expect(Exit.isInterrupted(interrupted)).toBe(true)
        // a loss of another lock is a failure as any
        const other = new LockError.LockLost({ key, reason: "Taken", fencingToken: 1 })
        expect(yield* Effect.flip(Leader.run(key)(Effect.fail(other)))).toBe(other)
        expect(yield* Leader.current(key)).toEqual(Option.none())
      })
    )

    it.scoped("is one of them; the next is told which term it has, and after it nobody leads", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const first = yield* candidate(key, { owner: "first" })
        const { fencingToken } = yield* first.elected
        const second = yield* candidate(key, { owner: "second" })
        expect(yield* Leader.current(key)).toMatchObject(
          Option.some({ owner: "first", term: fencingToken })
        )
        yield* first.resign
        // (its finalizers before)
        expect(first.ended).toEqual([fencingToken])
        const next = yield* second.elected
        expect(next.fencingToken).toBeGreaterThan(fencingToken)
        expect(yield* Leader.current(key)).toMatchObject(
          Option.some({ owner: "second", term: next.fencingToken })
        )
        yield* second.resign
        expect(yield* Leader.current(key)).toEqual(Option.none())
      })
    )

    it.scoped("candidates of one process follow each other, each with the term that is told", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const terms: Array<number> = []
        const told: Array<number | undefined> = []
        const stand = Leader.run(key, { ttl: 10_000 })((lease) =>
          Effect.gen(function* () {
            terms.push(lease.fencingToken)
            told.push(termOf(yield* Leader.current(key)))
            // the others come to the queue meanwhile
            yield* Effect.sleep(30)
          })
        )
        yield* Effect.all(
          Array.from({ length: 6 }, () => stand),
          { concurrency: "unbounded" }
        )
        expect(told).toEqual(terms)
        expect(terms).toEqual([...new Set(terms)].sort((a, b) => a - b))
      })
    )

    it.scoped("that has lost its lead is interrupted, ends its finalizers, and stands again", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const one = yield* candidate(key)
        const lease = yield* one.elected
        yield* lose(lease)
        const again = yield* one.elected
        expect(one.ended).toEqual([lease.fencingToken])
        expect(again.fencingToken).toBeGreaterThan(lease.fencingToken)

        // somebody else has it: it waits for that one
        const { giveToAnother } = yield* StoreControls
        const scope = yield* Scope.make()
        const grant = yield* Scope.extend(giveToAnother(again), scope)
        yield* Effect.exit(again.verify)
        yield* Effect.sleep(50)
        expect(one.ended).toEqual([lease.fencingToken, again.fencingToken])
        expect(yield* Queue.size(one.terms)).toBe(0)
        yield* Scope.close(scope, Exit.void)
        expect((yield* one.elected).fencingToken).toBeGreaterThan(grant.fencingToken)
        yield* one.resign
      })
    )

    it.scoped("resigns by a release, and stands again behind the others", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const one = yield* candidate(key)
        const lease = yield* one.elected
        const two = yield* candidate(key)
        yield* Effect.sleep(50)
        yield* lease.release
        yield* two.elected
        expect(one.ended).toEqual([lease.fencingToken])
        expect(yield* Queue.size(one.terms)).toBe(0)
        expect(yield* isPending(one.fiber)).toBe(true)
        yield* two.resign
        yield* one.elected
        yield* one.resign
      })
    )

    it.scoped("drops, and logs, what its work ends with after a loss", () => {
      const { layer: logger, lines } = collecting()
      return Effect.gen(function* () {
        const key = freshKey()
        let runs = 0
        const work = (end: Effect.Effect<string, string>) =>
          Leader.run(key, { ttl: 10_000 })((lease) => {
            runs++
            return runs % 2 === 0
              ? Effect.succeed("led to its end")
              : Effect.uninterruptible(Effect.zipRight(lose(lease), end))
          })
        expect(yield* work(Effect.succeed("too late"))).toBe("led to its end")
        expect(yield* work(Effect.fail("refused"))).toBe("led to its end")
        expect(runs).toBe(4)
        const told = () => lines.filter(({ text }) => text.includes("dropped"))
        const failed = told().filter(({ text }) => !text.includes("succeeded"))
        // (in Effect 3, the interruption has taken the place of its success)
        expect(failed).toMatchObject([
          { level: "WARN", text: expect.stringContaining("refused") as string }
        ])
        expect(failed[0]!.text).toContain(key)
        // a mistake of the program is not
        expect(yield* Effect.exit(work(Effect.die("bug")))).toEqual(Exit.die("bug"))
        // nor is a loss that only the release has found
        const { takeAway } = yield* StoreControls
        expect(
          yield* Leader.run(key, { ttl: 10_000 })((lease) => {
            runs++
            return runs % 2 === 0
              ? Effect.as(takeAway(lease), "not known yet")
              : Effect.succeed("led to its end")
          })
        ).toBe("led to its end")
        expect(told().at(-1)).toMatchObject({
          level: "WARN",
          text: expect.stringContaining("succeeded")
        })
      }).pipe(Effect.provide(logger))
    })

    it.scoped("that was stopped finds out first: no fiber of its work makes another step", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const steps: Array<boolean> = []
        const scheduled = yield* Deferred.make<void>()
        const one = yield* Effect.forkScoped(
          Leader.run(key, { ttl: 500 })((lease) => {
            if (steps.includes(false)) return Effect.never
            const step = Effect.map(lease.isHeld, (held) => void steps.push(held))
            // (several, so that the one whose interruption comes last would step before it)
            const loop = Effect.forever(Effect.zipRight(Effect.sleep(5), step))
            const nested = Effect.race(Effect.all([loop, loop], { concurrency: 2 }), loop)
            return Effect.all([nested, nested, loop, Deferred.succeed(scheduled, undefined)], {
              concurrency: "unbounded"
            })
          })
        )
        yield* Deferred.await(scheduled)
        for (let stop = 0; stop < 3; stop++) {
          yield* Effect.sleep(60)
          expect(steps.length).toBeGreaterThan(0)
          blockEventLoop(700)
          const before = steps.length
          yield* Effect.sleep(0)
          expect(steps.slice(before)).not.toContain(false)
          yield* Effect.sleep(20)
        }
        expect(steps).not.toContain(false)
        yield* Fiber.interrupt(one)
      })
    )

    it.scoped("that has lost its lead before its work could begin stands again", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const late = lateAtFirst(yield* LockStore.LockStore)
        let runs = 0
        const led = yield* Leader.run(key)(Effect.sync(() => ++runs)).pipe(
          Effect.provideService(LockStore.LockStore, late)
        )
        expect(led).toBe(1)
      })
    )

    it.scoped("goes on through an outage of the store, which it tells once", () => {
      const { layer: logger, lines } = collecting()
      return Effect.gen(function* () {
        const key = freshKey()
        const { state, use } = failing(yield* LockStore.LockStore)
        state.error = storeError(true)
        const led = yield* Effect.forkScoped(use(Leader.run(key)(Effect.succeed("led"))))
        yield* Effect.repeat(Effect.sleep(5), { until: () => state.asked > 3 })
        expect(yield* isPending(led)).toBe(true)
        state.error = undefined
        expect(yield* Fiber.join(led)).toBe("led")
        expect(lines.filter(({ level }) => level === "WARN")).toMatchObject([
          { text: expect.stringMatching(/made to fail.*tried again/) }
        ])
      }).pipe(Effect.provide(logger))
    })

    it.scoped("fails where trying again does not help, or it was told not to", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { state, use } = failing(yield* LockStore.LockStore)
        const error = (state.error = storeError(false))
        expect(yield* Effect.flip(use(Leader.run(key)(Effect.die("ran"))))).toBe(error)
        expect(state.asked).toBe(1)
        const passing = (state.error = storeError(true))
        const once = Leader.run(key, { retry: Schedule.stop })(Effect.die("ran"))
        expect(yield* Effect.flip(use(once))).toBe(passing)
        expect(state.asked).toBe(2)
        const thrice = Leader.run(key, { retry: Schedule.recurs(2) })(Effect.die("ran"))
        expect(yield* Effect.flip(use(thrice))).toBe(passing)
        expect(state.asked).toBe(5)
        if (kindsOf(capabilities).includes("semaphore")) {
          yield* Semaphore.withPermits(key, { limit: 1 })(
            Effect.map(Effect.flip(Leader.run(key)(Effect.die("ran"))), (other) =>
              expect(other).toMatchObject({ _tag: "LockStoreError", transient: false })
            )
          )
        }
        expect(impossible(yield* Effect.exit(Leader.run("", {})(Effect.void)))).toContain('key: ""')
        expect(impossible(yield* Effect.exit(Leader.run(key, { ttl: 0 })(Effect.void)))).toContain(
          "ttl: 0 ms"
        )
        expect(
          impossible(yield* Effect.exit(Leader.run(key, { retry: 3 as never })(Effect.void)))
        ).toContain("retry: 3")
      })
    )
  })

  layer(store, { excludeTestServices: true })("a leader in a layer", (it) => {
    it.scoped("leads while the layer lives; its end waits for finalizers, and hands over", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const events: Array<string> = []
        const elected = yield* Deferred.make<Lease.Lease>()
        class Made extends Context.Tag("Made")<Made, string>() {}
        const background = Leader.layer(key, { ttl: 10_000 })((lease) =>
          Effect.gen(function* () {
            const made = yield* Made
            yield* Effect.addFinalizer(() =>
              Effect.map(lease.isHeld, (held) => void events.push(`${made} ${held}`))
            )
            yield* Deferred.succeed(elected, lease)
            return yield* Effect.never
          })
        )
        const scope = yield* Scope.make()
        yield* Layer.buildWithScope(
          Layer.provide(background, Layer.succeed(Made, "service")),
          scope
        )
        const { fencingToken } = yield* Deferred.await(elected)
        expect(termOf(yield* Leader.current(key))).toBe(fencingToken)
        const next = yield* candidate(key)
        yield* Effect.sleep(50)
        yield* Scope.close(scope, Exit.void)
        expect(events).toEqual(["service true"])
        yield* next.elected
        yield* next.resign
      })
    )

    it.scoped("gives each term a scope of its own", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const closed: Array<number> = []
        const terms = yield* Queue.unbounded<Lease.Lease>()
        yield* Layer.build(
          Leader.layer(
            (lease) =>
              Effect.zipRight(
                Effect.addFinalizer(() => Effect.sync(() => void closed.push(lease.fencingToken))),
                Effect.zipRight(Queue.offer(terms, lease), Effect.never)
              ),
            key,
            { ttl: 10_000 }
          )
        )
        const first = yield* Queue.take(terms)
        yield* lose(first)
        yield* Queue.take(terms)
        expect(closed).toEqual([first.fencingToken])
      })
    )

    it.scoped("tells the log of its failure; an impossible option is the layer's", () => {
      const { layer: logger, lines } = collecting()
      return Effect.gen(function* () {
        const key = freshKey()
        yield* Layer.build(Leader.layer(key)(Effect.fail("its work is broken")))
        yield* Effect.repeat(Effect.sleep(5), {
          until: () => lines.some(({ level }) => level === "ERROR")
        })
        expect(lines.find(({ level }) => level === "ERROR")!.text).toMatch(
          new RegExp(`${key}[^]*its work is broken`)
        )
        const bad = (options: Leader.Options) =>
          Effect.map(Effect.exit(Layer.build(Leader.layer(key, options)(Effect.void))), impossible)
        expect(yield* bad({ margin: "1 minute" })).toContain("margin: 60000 ms")
        expect(yield* bad({ retry: "often" as never })).toContain('retry: "often"')
      }).pipe(Effect.provide(logger))
    })
  })

  layer(store, { excludeTestServices: true })("those who observe", (it) => {
    it.scoped("are told who leads, which term it is, since when, and which process", () =>
      Effect.gen(function* () {
        const key = freshKey()
        expect(yield* Leader.current(key)).toEqual(Option.none())
        const one = yield* candidate(key, { owner: "blue" })
        const { fencingToken, token } = yield* one.elected
        yield* Effect.sleep(30)
        const now = yield* DateTime.now
        const info = Option.getOrThrow(yield* Leader.current(key))
        const way = DateTime.distance(now, yield* DateTime.now)
        expect(info).toMatchObject({ owner: "blue", term: fencingToken })
        // the part of the token that is no secret
        expect(token.startsWith(`erl1:${info.incarnation}.`)).toBe(true)
        expect(info.incarnation).toMatch(/^[\w-]{12}$/)
        const age = DateTime.distance(info.since, now)
        expect(age + way).toBeGreaterThanOrEqual(20)
        expect(age).toBeLessThan(5_000)
        yield* one.resign
        // who has resigned, and keeps the lead vacant
        const vacant = freshKey()
        yield* Leader.run(vacant, { holdAtLeast: "1 minute" })(Effect.void)
        expect(yield* Leader.current(vacant)).toEqual(Option.none())
        // what is no leader
        if (kindsOf(capabilities).includes("semaphore")) {
          yield* Semaphore.withPermits(key, { limit: 2 })(
            Effect.map(Leader.current(key), (none) => expect(none).toEqual(Option.none()))
          )
        }
        expect(impossible(yield* Effect.exit(Leader.current("")))).toContain('key: ""')
      })
    )

    it.scoped("of a key of any kind are told which store has it, of each holder", () =>
      Effect.gen(function* () {
        const { look } = yield* LockStore.LockStore
        const held = {
          lock: Effect.map(Lock.acquire(freshKey()), (one) => [one]),
          semaphore: Effect.flatMap(Effect.sync(freshKey), (key) =>
            Effect.all([1, 2].map(() => Semaphore.acquire(key, { limit: 3 })))
          ),
          readWriteLock: Effect.flatMap(Effect.sync(freshKey), (key) =>
            Effect.all([1, 2].map(() => ReadWriteLock.readLock(key)))
          )
        }
        for (const kind of kindsOf(capabilities)) {
          const leases: ReadonlyArray<Lease.Lease> = yield* held[kind]
          const [{ key, token }] = leases as [Lease.Lease]
          const found = yield* look!(key, 10)
          expect(found.held.length).toBeGreaterThan(0)
          for (const { incarnation } of found.held) {
            expect(incarnation).toBe(token.slice("erl1:".length).split(".")[0])
          }
        }
      })
    )

    it.scoped("are told of every change, vacancies too, and of no term twice", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const seen = yield* Queue.unbounded<number | undefined>()
        yield* Effect.forkScoped(
          Stream.runForEach(Leader.changes(key, { every: 10 }), (info) =>
            Queue.offer(seen, termOf(info))
          )
        )
        expect(yield* Queue.take(seen)).toBeUndefined()
        for (let term = 0; term < 3; term++) {
          const one = yield* candidate(key)
          const { fencingToken } = yield* one.elected
          expect(yield* Queue.take(seen)).toBe(fencingToken)
          yield* Effect.sleep(40)
          yield* one.resign
          expect(yield* Queue.take(seen)).toBeUndefined()
        }
        yield* Effect.sleep(40)
        expect(yield* Queue.size(seen)).toBe(0)
      })
    )

    it.scoped("cost nothing while nobody reads, and are told nothing in an outage", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { state, use } = failing(yield* LockStore.LockStore)
        const changes = Leader.changes(key, { every: 10 })
        yield* Effect.sleep(50)
        expect(state.looks).toBe(0)
        expect(yield* use(Stream.runHead(changes))).toEqual(Option.some(Option.none()))
        expect(state.looks).toBe(1)
        yield* Effect.sleep(50)
        expect(state.looks).toBe(1)

        const one = yield* candidate(key)
        const { fencingToken } = yield* one.elected
        state.error = storeError(true)
        const first = yield* Effect.forkScoped(use(Stream.runHead(changes)))
        yield* Effect.repeat(Effect.sleep(5), { until: () => state.looks > 3 })
        expect(yield* isPending(first)).toBe(true)
        state.error = undefined
        expect(termOf(Option.getOrThrow(yield* Fiber.join(first)))).toBe(fencingToken)
        const error = (state.error = storeError(false))
        expect(yield* Effect.flip(use(Stream.runDrain(changes)))).toBe(error)
        yield* one.resign
      })
    )

    it.scoped("must ask in a time that is possible, and of a store that can be looked at", () =>
      Effect.gen(function* () {
        const run = (every: Duration.DurationInput) =>
          Effect.map(Effect.exit(Stream.runHead(Leader.changes("key", { every }))), impossible)
        expect(yield* run(0)).toContain("every: 0 ms")
        expect(yield* run(Duration.infinity)).toContain("every: Infinity ms")
        expect(yield* run("often" as never)).toContain('every: "often"')
        const { acquire, clock } = yield* LockStore.LockStore
        const error = yield* Effect.flip(
          Effect.provideService(Leader.current("key"), LockStore.LockStore, { acquire, clock })
        )
        expect(error).toMatchObject({ operation: "look", transient: false })
        expect(error.detail).toContain("no look")
      })
    )
  })
})

/** (The tests above have changed what `it.scoped` does.) */
const underTestClock = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) =>
  Effect.provide(Effect.scoped(effect), TestContext.TestContext)

describe("in memory, with a clock of its own", () => {
  it.live("a candidate waits for days, and says nothing, whatever the store's defaults are", () => {
    const { layer: logger, lines } = collecting()
    return Effect.gen(function* () {
      const first = yield* candidate("key", { ttl: "1 hour" })
      yield* first.elected
      const since = yield* DateTime.now
      const second = yield* candidate("key", { ttl: "1 hour" })
      yield* TestClock.adjust("3 days")
      expect(yield* isPending(second.fiber)).toBe(true)
      expect(lines.filter(({ level }) => level === "WARN")).toEqual([])
      const info = Option.getOrThrow(yield* Leader.current("key"))
      expect(DateTime.toEpochMillis(info.since)).toBe(DateTime.toEpochMillis(since))
      yield* first.resign
      yield* second.elected
    }).pipe(
      Effect.provide(
        MemoryLockStore.layerWith({ defaults: { waitAtMost: "1 second", warnAfter: "1 second" } })
      ),
      Effect.provide(logger),
      underTestClock
    )
  })

  it.live(
    "with maxHold the lead goes round: the work is interrupted, and stands behind the others",
    () =>
      Effect.gen(function* () {
        const options = { maxHold: "1 minute", ttl: "10 seconds", margin: "1 second" } as const
        const [one, two] = [yield* candidate("key", options), yield* candidate("key", options)]
        const { fencingToken: first } = yield* one.elected
        yield* TestClock.adjust("58 seconds")
        expect(one.ended).toEqual([])
        expect(yield* Queue.size(two.terms)).toBe(0)
        yield* TestClock.adjust("2 seconds")
        expect(one.ended).toEqual([first])
        const { fencingToken: second } = yield* two.elected
        expect(second).toBeGreaterThan(first)
        yield* TestClock.adjust("1 minute")
        expect(two.ended).toEqual([second])
        expect((yield* one.elected).fencingToken).toBeGreaterThan(second)
        expect(yield* isPending(one.fiber)).toBe(true)
      }).pipe(Effect.provide(MemoryLockStore.layer), Effect.provide(quiet), underTestClock)
  )

  it.live("with holdAtLeast nobody leads for that time, whoever has resigned", () =>
    Effect.gen(function* () {
      const one = yield* candidate("key", { holdAtLeast: "1 minute", owner: "one" })
      const { fencingToken } = yield* one.elected
      const two = yield* candidate("key", { owner: "two" })
      yield* TestClock.adjust("20 seconds")
      yield* one.resign
      expect(one.ended).toEqual([fencingToken])
      yield* TestClock.adjust("39 seconds")
      expect(yield* Queue.size(two.terms)).toBe(0)
      expect(yield* Leader.current("key")).toEqual(Option.none())
      yield* TestClock.adjust("1 second")
      expect((yield* two.elected).fencingToken).toBeGreaterThan(fencingToken)
      expect(yield* Leader.current("key")).toMatchObject(Option.some({ owner: "two" }))
    }).pipe(Effect.provide(MemoryLockStore.layer), underTestClock)
  )

  it.live("observers ask every second, from the answer to the last question on", () =>
    Effect.gen(function* () {
      const { state, use } = failing(yield* MemoryLockStore.make)
      const all = yield* Effect.forkScoped(
        use(Stream.runCollect(Stream.take(Leader.changes("key"), 3)))
      )
      for (let second = 1; second <= 10; second++) {
        yield* TestClock.adjust("999 millis")
        expect(state.looks).toBe(second)
        yield* TestClock.adjust("1 millis")
      }
      // a term that is shorter than that is missed
      yield* use(Leader.run("key")(Effect.void))
      yield* TestClock.adjust("1 second")
      const one = yield* use(candidate("key"))
      const { fencingToken } = yield* one.elected
      yield* TestClock.adjust("1 second")
      yield* one.resign
      yield* TestClock.adjust("1 second")
      expect(Chunk.toReadonlyArray(yield* Fiber.join(all)).map(termOf)).toEqual([
        undefined,
        fencingToken,
        undefined
      ])
    }).pipe(underTestClock)
  )

  it.live("a lease that a lock of the same process holds is not a candidate's", () =>
    Effect.gen(function* () {
      const lock = yield* Scope.make()
      yield* Scope.extend(Lock.acquire("key"), lock)
      const one = yield* candidate("key")
      yield* TestClock.adjust("1 second")
      expect(yield* Queue.size(one.terms)).toBe(0)
      yield* Scope.close(lock, Exit.void)
      yield* one.elected
    }).pipe(Effect.provide(MemoryLockStore.layer), underTestClock)
  )
})
