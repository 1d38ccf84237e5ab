/** What semaphores promise, over every store that has them. */
import { describe, expect, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { Lock, LockStore, Semaphore } from "effect-redis-lock"
import { refusal } from "./support/kinds.js"
import { ask, freshKey, quiet, StoreControls, storesOf } from "./support/stores.js"

// ---------------------------------------------------------------- helpers

const isPending = (fiber: Fiber.Fiber<unknown, unknown>) =>
  Effect.map(Fiber.poll(fiber), Option.isNone)

/** Somebody who takes permits, and keeps them until told otherwise. */
const holder = (key: string, options: Semaphore.WaitOptions) =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) =>
      Scope.close(scope, Exit.void)
    )
    const lease = yield* Scope.extend(Semaphore.acquire(key, options), scope)
    return { lease, release: Scope.close(scope, Exit.void) }
  })

/** Somebody who waits, behind those who came before. */
const waiter = (key: string, options: Semaphore.WaitOptions) =>
  Effect.zipLeft(Effect.fork(holder(key, options)), Effect.sleep(20))

const lookAt = (key: string) =>
  Effect.flatMap(LockStore.LockStore, ({ look }) => Effect.orDie(look!(key, 100)))

/** Long before a ttl has passed, at which everything comes right by itself. */
const soon = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.timeout(effect, "2 seconds")

/** Waits until something is so; a test that waits in vain runs into its timeout. */
const until = <R>(condition: Effect.Effect<boolean, never, R>): Effect.Effect<void, never, R> =>
  Effect.asVoid(
    Effect.repeat(Effect.zipLeft(condition, Effect.sleep(2)), { while: (holds) => !holds })
  )

/** Fails unless nobody has any of it, nor waits. */
const expectNothing = (key: string) =>
  Effect.map(lookAt(key), (look) =>
    expect(look).toMatchObject({ kind: undefined, inUse: 0, heldCount: 0, pendingCount: 0 })
  )

const unavailable = expect.objectContaining({ _tag: "LockUnavailable" })

/** Tells how many are inside, with how many permits, and the most at any time. */
const makeRoom = () => {
  let [inside, most] = [0, 0]
  return {
    most: () => most,
    visit: (permits: number, stay: Effect.Effect<unknown>) =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          inside += permits
          most = Math.max(most, inside)
        }),
        () => stay,
        () =>
          Effect.sync(() => {
            inside -= permits
          })
      )
  }
}

const warnings = () => {
  const lines: Array<{ readonly text: string; readonly key: unknown }> = []
  const logger = Logger.make(({ annotations, logLevel, message }) => {
    if (logLevel.label !== "WARN") return
    lines.push({
      text: [message].flat().map(String).join(" "),
      key: Option.getOrUndefined(HashMap.get(annotations, "lock.key"))
    })
  })
  return { lines, layer: Logger.replace(Logger.defaultLogger, logger) }
}

// ---------------------------------------------------------------- tests

describe.concurrent.each(storesOf("semaphore"))("%s", (_, rawStore) => {
  const store = Layer.merge(rawStore, quiet)

  layer(store, { excludeTestServices: true })("permits", (it) => {
    it.scoped("are taken one by one, or several at once, and never more than the limit", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const one = yield* holder(key, { limit: 3 })
        expect(one.lease.permits).toBe(1)
        const two = yield* holder(key, { limit: 3, permits: 2 })
        expect(two.lease.permits).toBe(2)
        expect(yield* Semaphore.inUse(key)).toBe(3)
        expect(yield* Effect.flip(Semaphore.tryAcquire(key, { limit: 3 }))).toEqual(unavailable)
        yield* two.release
        expect(yield* Semaphore.inUse(key)).toBe(1)
        expect(yield* Effect.flip(Semaphore.tryAcquire(key, { limit: 3, permits: 3 }))).toEqual(
          unavailable
        )
        yield* Effect.scoped(Semaphore.tryAcquire(key, { limit: 3, permits: 2 }))
        yield* one.release
        yield* expectNothing(key)
      })
    )

    it.scoped("are a lease each: token, fencing token, what is left of it, its own release", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const a = yield* Semaphore.acquire(key, { limit: 2, ttl: "10 seconds" })
        const b = yield* Semaphore.acquire(key, { limit: 2, ttl: "1 minute" })
        expect(a.token).not.toBe(b.token)
        expect(b.fencingToken).toBeGreaterThan(a.fencingToken)
        expect(Duration.toMillis(yield* a.remaining)).toBeLessThanOrEqual(10_000 - 102)
        expect(Duration.toMillis(yield* b.remaining)).toBeGreaterThan(50_000)
        yield* a.release
        expect(yield* a.isHeld).toBe(false)
        expect(yield* b.isHeld).toBe(true)
        yield* b.verify
        expect(JSON.stringify(b)).not.toContain(b.token)
      })
    )

    it.scoped("who is in the way is the holder that expires first", () =>
      Effect.gen(function* () {
        const key = freshKey()
        yield* holder(key, { limit: 2, ttl: "20 seconds", owner: "late" })
        yield* holder(key, { limit: 2, ttl: "10 seconds", owner: "soon" })
        const error = yield* Effect.flip(Semaphore.tryAcquire(key, { limit: 2 }))
        expect(error).toMatchObject({ _tag: "LockUnavailable", key, holder: { owner: "soon" } })
        const left = error._tag === "LockUnavailable" ? error.retryAfter! : Duration.zero
        expect(Duration.toMillis(left)).toBeGreaterThan(5_000)
        expect(Duration.toMillis(left)).toBeLessThanOrEqual(10_000)
      })
    )

    it.scoped("in a crowd of all weights the limit is reached and not exceeded", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const room = makeRoom()
        yield* Effect.forEach(
          Array.from({ length: 60 }, (_, index) => 1 + (index % 4)),
          (permits) =>
            Semaphore.withPermits(key, { limit: 5, permits })(
              room.visit(permits, Effect.sleep(permits))
            ),
          { concurrency: "unbounded", discard: true }
        )
        expect(room.most()).toBeGreaterThan(3)
        expect(room.most()).toBeLessThanOrEqual(5)
        yield* expectNothing(key)
      })
    )
  })

  layer(store, { excludeTestServices: true })("the queue", (it) => {
    it.scoped(
      "is strict: a large request at the head is not overtaken, and blocks small ones",
      () =>
        Effect.gen(function* () {
          const key = freshKey()
          const first = yield* holder(key, { limit: 3 })
          const second = yield* holder(key, { limit: 3 })
          const large = yield* waiter(key, { limit: 3, permits: 3 })
          const small = yield* waiter(key, { limit: 3 })
          // there is room for the small one, and for others
          expect(yield* Effect.flip(Semaphore.tryAcquire(key, { limit: 3 }))).toEqual(unavailable)
          yield* first.release
          yield* Effect.sleep(30)
          expect(yield* isPending(large)).toBe(true)
          expect(yield* isPending(small)).toBe(true)
          yield* second.release
          const granted = yield* Fiber.join(large)
          expect(yield* isPending(small)).toBe(true)
          yield* granted.release
          const last = yield* Fiber.join(small)
          expect(last.lease.fencingToken).toBeGreaterThan(granted.lease.fencingToken)
        })
    )

    it.scoped("grants all that fit when room appears, without one waiting for another's end", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const whole = yield* holder(key, { limit: 5, permits: 5 })
        const crowd = []
        for (const permits of [1, 2, 1, 1, 1]) {
          crowd.push(yield* waiter(key, { limit: 5, permits }))
        }
        yield* whole.release
        // none of them ends: they are inside together
        const inside = yield* soon(Effect.forEach(crowd.slice(0, 4), Fiber.join))
        expect(inside.map(({ lease }) => lease.permits)).toEqual([1, 2, 1, 1])
        const fences = inside.map(({ lease }) => lease.fencingToken)
        expect(fences).toEqual([...fences].sort((a, b) => a - b))
        expect(yield* Semaphore.inUse(key)).toBe(5)
        expect(yield* isPending(crowd[4]!)).toBe(true)
        yield* inside[1]!.release
        yield* Fiber.join(crowd[4]!)
      })
    )

    it.scoped("goes on when its head gives up, or is interrupted: what stood behind enters", () =>
      Effect.gen(function* () {
        const key = freshKey()
        yield* holder(key, { limit: 3 })
        const impatient = yield* waiter(key, { limit: 3, permits: 3, waitAtMost: 150 })
        const cut = yield* waiter(key, { limit: 3, permits: 3 })
        const small = yield* waiter(key, { limit: 3 })
        expect(yield* Effect.flip(Fiber.join(impatient))).toEqual(unavailable)
        expect(yield* isPending(small)).toBe(true)
        yield* Fiber.interrupt(cut)
        yield* soon(Fiber.join(small))
        expect(yield* Semaphore.inUse(key)).toBe(2)
      })
    )

    it.scoped("waitAtMost ends the wait, and says how many were ahead", () =>
      Effect.gen(function* () {
        const key = freshKey()
        yield* holder(key, { limit: 1 })
        yield* waiter(key, { limit: 1 })
        const error = yield* Effect.flip(
          Effect.scoped(Semaphore.acquire(key, { limit: 1, waitAtMost: 50 }))
        )
        expect(error).toMatchObject({
          _tag: "LockUnavailable",
          ahead: 1,
          kind: "semaphore",
          message: expect.stringContaining(`Semaphore "${key}" is not available after waiting`)
        })
      })
    )
  })

  layer(store, { excludeTestServices: true })("limits that disagree", (it) => {
    it.scoped("from 3 to 5, and back: nobody's limit is exceeded while it holds", () =>
      Effect.gen(function* () {
        const key = freshKey()
        // an old process holds one of three
        const old = yield* holder(key, { limit: 3 })
        const more = [yield* holder(key, { limit: 5 }), yield* holder(key, { limit: 5 })]
        expect(yield* Effect.flip(Semaphore.tryAcquire(key, { limit: 5 }))).toEqual(unavailable)
        const fourth = yield* waiter(key, { limit: 5 })
        const fifth = yield* waiter(key, { limit: 5 })
        expect((yield* lookAt(key)).limit).toBe(3)
        // with the last of the old ones, its limit goes
        yield* old.release
        more.push(yield* Fiber.join(fourth), yield* Fiber.join(fifth))
        more.push(yield* holder(key, { limit: 5 }))
        expect(yield* Semaphore.inUse(key)).toBe(5)
        expect((yield* lookAt(key)).limit).toBe(5)
        // back: an old one waits until there is room for it by its own limit
        const back = yield* waiter(key, { limit: 3 })
        yield* more[0]!.release
        yield* more[1]!.release
        yield* Effect.sleep(30)
        expect(yield* isPending(back)).toBe(true)
        yield* more[2]!.release
        yield* Fiber.join(back)
        expect(yield* Effect.flip(Semaphore.tryAcquire(key, { limit: 5 }))).toEqual(unavailable)
      })
    )

    it.scoped("are warned about once for a key, and agreeing ones are not", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { layer, lines } = warnings()
        yield* Effect.gen(function* () {
          yield* holder(key, { limit: 3 })
          yield* holder(key, { limit: 3 })
          yield* Effect.yieldNow()
          expect(lines).toEqual([])
          for (const limit of [5, 4, 5]) {
            yield* Effect.scoped(Semaphore.acquire(key, { limit }))
          }
          yield* Effect.flip(Effect.scoped(Semaphore.tryAcquire(key, { limit: 2 })))
          yield* Effect.sleep(5)
        }).pipe(Effect.provide(layer))
        expect(lines).toHaveLength(1)
        expect(lines[0]!.key).toBe(key)
        expect(lines[0]!.text).toContain(JSON.stringify(key))
        expect(lines[0]!.text).toContain("a limit of 5, and a holder has a limit of 3")
      })
    )
  })

  layer(store, { excludeTestServices: true })("owning permits", (it) => {
    it.scoped("renewals keep them past their ttl, each by its own", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { until } = yield* StoreControls
        const short = yield* holder(key, { limit: 2, ttl: 1_000, renewEvery: 100 })
        const long = yield* holder(key, { limit: 2, ttl: "20 seconds" })
        yield* Effect.raceFirst(until(key, "renewed", 15), short.lease.awaitLost)
        yield* short.lease.verify
        yield* long.lease.verify
        expect(yield* Effect.flip(Semaphore.tryAcquire(key, { limit: 2 }))).toEqual(unavailable)
      })
    )

    it.scoped("a holder that dies costs its permits for its ttl, and nobody else's", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const permits = { kind: "semaphore", limit: 3 } as const
        const dead = yield* ask(key, { ...permits, share: 2, ttlMillis: 300 })
        const alive = yield* ask(key, { ...permits, ttlMillis: 20_000 })
        const next = yield* ask(key, { ...permits, share: 2, waitMillis: 10_000 })
        expect(yield* dead.renew).toEqual({ _tag: "NotOurs", reason: "Missing" })
        expect(yield* dead.verify).toBe("Missing")
        // it frees nothing of what others have
        yield* Effect.exit(dead.release)
        expect(yield* Semaphore.inUse(key)).toBe(3)
        expect(yield* alive.verify).toBe("Ours")
        expect(yield* next.verify).toBe("Ours")
        yield* alive.release
        yield* next.release
        yield* expectNothing(key)
      })
    )

    it.scoped("a lost permit interrupts its holder, and no other", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { takeAway } = yield* StoreControls
        const inside = yield* Deferred.make<Semaphore.SemaphoreLease>()
        const cleaned: Array<string> = []
        const body = (name: string) =>
          Effect.onInterrupt(Effect.never, () => Effect.sync(() => cleaned.push(name)))
        const options = { limit: 3, ttl: "10 seconds", renewEvery: "20 millis" } as const
        const other = yield* Effect.fork(Semaphore.withPermits(key, options)(body("other")))
        const victim = yield* Effect.fork(
          Semaphore.withPermits(key, { ...options, permits: 2 })((lease) =>
            Effect.zipRight(Deferred.succeed(inside, lease), body("victim"))
          )
        )
        const lease = yield* Deferred.await(inside)
        yield* takeAway(lease)
        expect(yield* Effect.flip(Fiber.join(victim))).toMatchObject({
          _tag: "LockLost",
          reason: "Missing",
          key,
          kind: "semaphore",
          fencingToken: lease.fencingToken,
          message: expect.stringContaining(`The lease of semaphore "${key}" (`)
        })
        expect(cleaned).toEqual(["victim"])
        expect(yield* isPending(other)).toBe(true)
        expect(yield* Semaphore.inUse(key)).toBe(1)
        yield* Fiber.interrupt(other)
        yield* expectNothing(key)
      })
    )
  })

  layer(store, { excludeTestServices: true })("fencing", (it) => {
    /**
     * UPDATE … SET floor = GREATEST(floor, :floor) WHERE floor <= :token, as docs/fencing.md has it.
     */
    const makeRegister = () => {
      let floor = 0
      return {
        write: (lease: Pick<Semaphore.SemaphoreLease, "fencingToken" | "fencingFloor">) => {
          if (floor > lease.fencingToken) return false
          floor = Math.max(floor, lease.fencingFloor)
          return true
        }
      }
    }

    it.scoped(
      "holders write in any order; one that is gone is refused, once a later floor came",
      () =>
        Effect.gen(function* () {
          const key = freshKey()
          const register = makeRegister()
          const permits = { kind: "semaphore", limit: 2 } as const
          // it does not renew, and is late
          const paused = yield* ask(key, { ...permits, ttlMillis: 250 })
          const pausedLease = {
            fencingToken: paused.fencingToken,
            fencingFloor: paused.fencingFloor ?? paused.fencingToken
          }
          expect(pausedLease.fencingFloor).toBe(paused.fencingToken)
          const second = yield* holder(key, { limit: 2 })
          expect(second.lease.fencingFloor).toBe(paused.fencingToken)
          // both are right
          expect(register.write(second.lease)).toBe(true)
          expect(register.write(pausedLease)).toBe(true)
          const third = yield* holder(key, { limit: 2 })
          expect(third.lease.fencingFloor).toBe(second.lease.fencingToken)
          expect(register.write(third.lease)).toBe(true)
          expect(register.write(pausedLease)).toBe(false)
          expect(register.write(second.lease)).toBe(true)
          yield* second.release
          yield* third.release
          const alone = yield* holder(key, { limit: 2 })
          expect(alone.lease.fencingFloor).toBe(alone.lease.fencingToken)
          expect(alone.lease.fencingToken).toBeGreaterThan(third.lease.fencingToken)
        })
    )
  })

  layer(store, { excludeTestServices: true })("kinds that meet on one key", (it) => {
    it.scoped("held as a semaphore: a lock is refused, whether it waits or not", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { lease, release } = yield* holder(key, { limit: 3 })
        const refused = refusal(key, "semaphore", "lock")
        expect(yield* Effect.flip(Lock.tryAcquire(key))).toEqual(refused)
        expect(yield* Effect.flip(Lock.withLock(key)(Effect.void))).toEqual(refused)
        expect(yield* Effect.flip(Lock.withLockIfAvailable(key)(Effect.void))).toEqual(refused)
        expect(yield* lookAt(key)).toMatchObject({ heldCount: 1, pendingCount: 0 })
        yield* lease.verify
        yield* release
        // then it is a key like any other
        yield* Effect.scoped(Lock.tryAcquire(key))
      })
    )

    it.scoped("held as a lock: permits are refused, and the lock goes on", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const scope = yield* Scope.make()
        const lease = yield* Scope.extend(Lock.acquire(key), scope)
        const refused = refusal(key, "lock", "semaphore")
        expect(yield* Effect.flip(Semaphore.tryAcquire(key, { limit: 1 }))).toEqual(refused)
        expect(yield* Effect.flip(Semaphore.withPermits(key, { limit: 3 })(Effect.void))).toEqual(
          refused
        )
        yield* lease.verify
        yield* Scope.close(scope, Exit.void)
        yield* Effect.scoped(Semaphore.tryAcquire(key, { limit: 1 }))
        yield* expectNothing(key)
      })
    )

    it.scoped("held and queued for: the same, as long as somebody has it or waits", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { release } = yield* holder(key, { limit: 3, permits: 3 })
        const first = yield* waiter(key, { limit: 3, permits: 3 })
        yield* release
        const { release: last } = yield* Fiber.join(first)
        const second = yield* waiter(key, { limit: 3 })
        expect(yield* Effect.flip(Lock.tryAcquire(key))).toEqual(refusal(key, "semaphore", "lock"))
        yield* Fiber.interrupt(second)
        yield* last
        yield* Effect.scoped(Lock.tryAcquire(key))
      })
    )
  })

  layer(store, { excludeTestServices: true })("inUse", (it) => {
    it.scoped("changes nothing, whoever asks; of a key that nobody has, it is 0", () =>
      Effect.gen(function* () {
        const key = freshKey()
        expect(yield* Semaphore.inUse(key)).toBe(0)
        // no trace of the question: any kind can begin
        yield* Effect.scoped(Lock.tryAcquire(key))
        const { lease } = yield* holder(key, { limit: 3, permits: 2, ttl: "10 seconds" })
        const waiting = yield* waiter(key, { limit: 3, permits: 3 })
        const withoutTimes = Effect.map(lookAt(key), (look) => ({
          ...look,
          at: undefined,
          held: look.held.map(({ owner, share, limit, fencingToken }) => ({
            owner,
            share,
            limit,
            fencingToken
          })),
          pending: look.pending.map(({ owner, share, limit }) => ({ owner, share, limit }))
        }))
        const before = yield* withoutTimes
        const left = Duration.toMillis((yield* lookAt(key)).held[0]!.ttlLeft!)
        for (let i = 0; i < 20; i++) expect(yield* Semaphore.inUse(key)).toBe(2)
        expect(yield* withoutTimes).toEqual(before)
        expect(Duration.toMillis((yield* lookAt(key)).held[0]!.ttlLeft!)).toBeLessThanOrEqual(left)
        yield* lease.verify
        expect(yield* isPending(waiting)).toBe(true)
      })
    )

    it.effect("an impossible key is a defect", () =>
      Effect.gen(function* () {
        const exit = yield* Effect.exit(Semaphore.inUse(""))
        expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toMatch(
          /Impossible lock option key/
        )
      })
    )
  })

  layer(store, { excludeTestServices: true })("impossible options", (it) => {
    type Entry = (
      key: string,
      options: Semaphore.Options
    ) => Effect.Effect<unknown, unknown, LockStore.LockStore>
    const entries: Record<string, Entry> = {
      acquire: (key, options) => Effect.scoped(Semaphore.acquire(key, options)),
      tryAcquire: (key, options) => Effect.scoped(Semaphore.tryAcquire(key, options)),
      withPermits: (key, options) => Semaphore.withPermits(key, options)(Effect.void),
      "withPermits, data first": (key, options) => Semaphore.withPermits(Effect.void, key, options),
      withPermitsIfAvailable: (key, options) =>
        Semaphore.withPermitsIfAvailable(key, options)(Effect.void)
    }
    const impossible: ReadonlyArray<readonly [option: string, shown: string, options: object]> = [
      ["limit", "undefined", {}],
      ["limit", "0", { limit: 0 }],
      ["limit", "-1", { limit: -1 }],
      ["limit", "1.5", { limit: 1.5 }],
      ["limit", "NaN", { limit: Number.NaN }],
      ["limit", "Infinity", { limit: Number.POSITIVE_INFINITY }],
      ["limit", "1000001", { limit: 1_000_001 }],
      ["limit", '"3"', { limit: "3" }],
      ["limit", "null", { limit: null }],
      ["permits", "0", { limit: 3, permits: 0 }],
      ["permits", "-1", { limit: 3, permits: -1 }],
      ["permits", "4", { limit: 3, permits: 4 }],
      ["permits", "1.5", { limit: 3, permits: 1.5 }],
      ["permits", "NaN", { limit: 3, permits: Number.NaN }],
      ["permits", '"1"', { limit: 3, permits: "1" }],
      ["permits", "null", { limit: 3, permits: null }],
      ["ttl", "0 ms", { limit: 3, ttl: 0 }]
    ]

    it.effect.each(Object.entries(entries))("are defects, and ask nothing: %s", ([, entry]) =>
      Effect.gen(function* () {
        const { events } = yield* StoreControls
        for (const [option, shown, options] of impossible) {
          const key = freshKey()
          const exit = yield* Effect.exit(entry(key, options as Semaphore.Options))
          const defect = Exit.isFailure(exit)
            ? Option.getOrUndefined(Cause.dieOption(exit.cause))
            : undefined
          expect(Cause.isIllegalArgumentException(defect)).toBe(true)
          expect((defect as Error).message).toContain(
            `Impossible lock option ${option}: ${shown}. `
          )
          expect(events(key)).toEqual([])
        }
      })
    )

    it.scoped("the greatest and the smallest possible ones are possible", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const most = 1_000_000
        const { release } = yield* holder(key, { limit: most, permits: most - 1 })
        yield* Effect.scoped(Semaphore.tryAcquire(key, { limit: most }))
        yield* release
        yield* Effect.scoped(Semaphore.tryAcquire(key, { limit: 1, permits: 1 }))
        yield* expectNothing(key)
      })
    )
  })

  layer(store, { excludeTestServices: true })("the forms", (it) => {
    it.scoped("data first and data last, of an effect and of a function of the lease", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const options = { limit: 3, permits: 2 }
        const ofLease = ({ permits }: Semaphore.SemaphoreLease) => Effect.succeed(permits)
        const body = Semaphore.inUse(key)
        expect(yield* Semaphore.withPermits(body, key, options)).toBe(2)
        expect(yield* body.pipe(Semaphore.withPermits(key, options))).toBe(2)
        expect(yield* Semaphore.withPermits(ofLease, key, options)).toBe(2)
        expect(yield* Semaphore.withPermits(key, options)(ofLease)).toBe(2)
        const some = Option.some(2)
        expect(yield* Semaphore.withPermitsIfAvailable(body, key, options)).toEqual(some)
        expect(yield* Semaphore.withPermitsIfAvailable(key, options)(ofLease)).toEqual(some)
        yield* expectNothing(key)
        yield* holder(key, { limit: 3, permits: 2 })
        const none = Semaphore.withPermitsIfAvailable(Effect.die("ran"), key, options)
        expect(yield* none).toEqual(Option.none())
      })
    )

    it.scoped("Lock's, too", () =>
      Effect.gen(function* () {
        const key = freshKey()
        expect(yield* Lock.withLock(Effect.succeed(1), key)).toBe(1)
        expect(yield* Lock.withLock(Effect.succeed(1), key, { ttl: "1 minute" })).toBe(1)
        expect(yield* Lock.withLock((lease) => Effect.succeed(lease.key), key)).toBe(key)
        expect(yield* Lock.withLockIfAvailable(Effect.succeed(1), key)).toEqual(Option.some(1))
        yield* Lock.acquire(key)
        expect(yield* Lock.withLockIfAvailable(Effect.succeed(1), key)).toEqual(Option.none())
        const error = Lock.withLock(Effect.void, key, { waitAtMost: 10 })
        expect(yield* Effect.flip(error)).toEqual(unavailable)
      })
    )
  })

  layer(store, { excludeTestServices: true })("interruption", (it) => {
    it.scoped("waiters that are interrupted just as permits become free leave nothing", () =>
      Effect.gen(function* () {
        for (let round = 0; round < 40; round++) {
          const key = freshKey()
          const options = { limit: 3, ttl: "1 minute" } as const
          const whole = yield* holder(key, { ...options, permits: 3 })
          const waiters = yield* Effect.forEach([0, 1, 2, 3], () => waiter(key, options))
          const releasing = yield* Effect.fork(whole.release)
          if (round % 2 === 0) yield* Effect.replicateEffect(Effect.yieldNow(), round / 2)
          else yield* Effect.sleep(round / 20)
          yield* Fiber.interruptAll(waiters)
          yield* Fiber.join(releasing)
          // those that had been granted permits by then have them until the end of the test
          for (const one of waiters) {
            const exit = yield* Fiber.await(one)
            if (Exit.isSuccess(exit)) yield* exit.value.release
          }
          yield* soon(until(Effect.map(lookAt(key), ({ kind }) => kind === undefined)))
        }
      })
    )

    it.scoped(
      "thousands of callers that are interrupted at random moments leave nothing",
      () =>
        Effect.gen(function* () {
          const keys = Array.from({ length: 12 }, freshKey)
          const room = new Map(keys.map((key) => [key, makeRoom()]))
          const turn = (key: string, permits: number) =>
            Semaphore.withPermits(key, { limit: 4, permits, ttl: "1 minute" })(
              room.get(key)!.visit(permits, Effect.sleep(Math.random() * 3))
            )
          let [done, cut] = [0, 0]
          yield* Effect.forEach(
            Array.from({ length: 3_000 }, (_, index) => index),
            (index) =>
              Effect.gen(function* () {
                const fiber = yield* Effect.fork(
                  turn(keys[index % keys.length]!, 1 + ((index % 5) % 3))
                )
                const when = Math.random()
                if (when < 0.3) yield* Effect.replicateEffect(Effect.yieldNow(), index % 12)
                else yield* Effect.sleep(when < 0.6 ? when * 20 : when * 100)
                const exit = yield* Fiber.interrupt(fiber)
                if (Exit.isSuccess(exit)) done++
                else cut++
              }),
            { concurrency: 60, discard: true }
          )
          expect(done).toBeGreaterThan(10)
          expect(cut).toBeGreaterThan(100)
          for (const key of keys) {
            expect(room.get(key)!.most()).toBeLessThanOrEqual(4)
            // what was sent may still be on its way
            yield* until(Effect.map(lookAt(key), ({ kind }) => kind === undefined))
            yield* Effect.scoped(Semaphore.tryAcquire(key, { limit: 4, permits: 4 }))
          }
        }),
      60_000
    )
  })
})
