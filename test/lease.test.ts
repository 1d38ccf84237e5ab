/** The life of a lease where its caller, its scope, its tracer or its logger misbehave. */
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as FiberRef from "effect/FiberRef"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Scope from "effect/Scope"
import * as Supervisor from "effect/Supervisor"
import * as TestClock from "effect/TestClock"
import * as Tracer from "effect/Tracer"
import {
  type Lease,
  Lock,
  LockError,
  LockStore,
  MemoryLockStore,
  MultiLock
} from "effect-redis-lock"
import { inspect } from "node:util"
import { isEffect4 } from "./support/face.js"
import { forkSettled, settle } from "./support/fibers.js"
import { ask, type Controls, memory, quiet, StoreControls } from "./support/stores.js"

describe("a lock that is taken by a finalizer", () => {
  for (const [name, finalizer] of Object.entries({
    onInterrupt: <R>(effect: Effect.Effect<unknown, never, R>) =>
      Effect.onInterrupt(Effect.never, () => effect),
    ensuring: <R>(effect: Effect.Effect<unknown, never, R>) =>
      Effect.ensuring(Effect.never, effect),
    "the finalizer of a scope": <R>(effect: Effect.Effect<unknown, never, R>) =>
      Effect.scoped(
        Effect.zipRight(
          Effect.addFinalizer(() => effect),
          Effect.never
        )
      )
  })) {
    it.effect(`of a fiber that was interrupted is renewed (${name})`, () =>
      Effect.gen(function* () {
        const { count } = yield* StoreControls
        const ended = yield* Deferred.make<Exit.Exit<string, unknown>>()
        const fiber = yield* forkSettled(
          finalizer(
            Lock.withLock("key", { ttl: 200 })(Effect.as(Effect.sleep(700), "whole")).pipe(
              Effect.exit,
              Effect.flatMap((exit) => Deferred.succeed(ended, exit))
            )
          )
        )
        yield* Effect.zipRight(Fiber.interruptFork(fiber), settle)
        yield* TestClock.adjust(700)
        expect(yield* Deferred.await(ended)).toEqual(Exit.succeed("whole"))
        expect(count("key", "renewed")).toBeGreaterThan(2)
      }).pipe(Effect.provide(memory))
    )
  }

  it.effect("a lock whose holder is interrupted is renewed until its body has cleaned up", () =>
    Effect.gen(function* () {
      const { count } = yield* StoreControls
      let cleaned = false
      const fiber = yield* forkSettled(
        Lock.withLock("key", { ttl: 200 })((lease) =>
          Effect.onInterrupt(Effect.never, () =>
            Effect.zipRight(
              Effect.sleep(700),
              Effect.map(lease.isHeld, (isHeld) => (cleaned = isHeld))
            )
          )
        )
      )
      yield* Effect.zipRight(Fiber.interruptFork(fiber), settle)
      yield* TestClock.adjust(700)
      const exit = yield* Fiber.await(fiber)
      expect(Exit.isInterrupted(exit)).toBe(true)
      expect(Exit.isFailure(exit) && [...Cause.failures(exit.cause)]).toEqual([])
      expect(cleaned).toBe(true)
      expect(count("key", "renewed")).toBeGreaterThan(2)
    }).pipe(Effect.provide(memory))
  )
})

describe("a lease that is held for long", () => {
  /**
   * The frames on the stack of the renewal fiber (Effect keeps them to itself). On Effect 4 each
   * renewal has a fiber of its own.
   */
  const frames = (lease: Lease.Lease): number =>
    isEffect4
      ? 0
      : (
          lease as unknown as {
            readonly renewal: { readonly fiber: { readonly _stack: ReadonlyArray<unknown> } }
          }
        ).renewal.fiber._stack.length

  it.effect("its renewal fiber does not grow", () =>
    Effect.gen(function* () {
      const { count } = yield* StoreControls
      const lease = yield* Lock.acquire("key", { ttl: "1 second", renewEvery: "100 millis" })
      yield* TestClock.adjust("1 second")
      const before = { frames: frames(lease), renewals: count("key", "renewed") }
      yield* TestClock.adjust("10 seconds")
      expect(count("key", "renewed")).toBeGreaterThanOrEqual(before.renewals + 100)
      expect(frames(lease)).toBe(before.frames)
      expect(before.frames).toBeLessThan(30)
      yield* lease.verify
    }).pipe(Effect.scoped, Effect.provide(memory))
  )

  it.effect("nor where renewals fail now and then", () =>
    Effect.gen(function* () {
      const { count, failRenewals, heal } = yield* StoreControls
      const lease = yield* Lock.acquire("key", { ttl: "10 seconds", renewEvery: "1 second" })
      yield* TestClock.adjust("10 seconds")
      const before = frames(lease)
      for (let i = 0; i < 10; i++) {
        failRenewals("key")
        yield* TestClock.adjust("2 seconds")
        heal("key")
        yield* TestClock.adjust("2 seconds")
      }
      expect(count("key", "renew")).toBeGreaterThan(count("key", "renewed") + 20)
      expect(frames(lease)).toBe(before)
      yield* lease.verify
    }).pipe(Effect.scoped, Effect.provide(memory))
  )
})

describe("the close of a scope that is interrupted", () => {
  /** A store whose releases wait. */
  const slowReleases = (asked: Deferred.Deferred<void>, gate: Deferred.Deferred<void>) =>
    Layer.map(MemoryLockStore.layer, (context) => {
      const store = Context.get(context, LockStore.LockStore)
      return Context.make(LockStore.LockStore, {
        clock: store.clock,
        acquire: (claim, restore) =>
          Effect.map(store.acquire(claim, restore), (grant) => ({
            ...grant,
            release: Deferred.succeed(asked, undefined).pipe(
              Effect.zipRight(Deferred.await(gate)),
              Effect.zipRight(grant.release)
            )
          }))
      })
    })

  it.effect("still releases, and other calls of release end as well", () =>
    Effect.gen(function* () {
      const asked = yield* Deferred.make<void>()
      const gate = yield* Deferred.make<void>()
      yield* Effect.gen(function* () {
        const scope = yield* Scope.make()
        const lease = yield* Scope.extend(Lock.acquire("key"), scope)
        const closing = yield* forkSettled(Scope.close(scope, Exit.void))
        yield* Deferred.await(asked)
        const joined = yield* forkSettled(Effect.exit(lease.release))
        const interruption = yield* forkSettled(Fiber.interrupt(closing))
        yield* Deferred.succeed(gate, undefined)
        yield* settle
        const exits = [closing, joined, interruption].map((fiber) => fiber.unsafePoll() !== null)
        expect(exits).toEqual([true, true, true])
        expect(yield* Fiber.join(joined)).toEqual(Exit.void)
        const again = yield* forkSettled(Effect.exit(lease.release))
        expect(again.unsafePoll()).toEqual(Exit.succeed(Exit.void))
        // and it is free
        yield* Effect.scoped(Lock.tryAcquire("key"))
      }).pipe(Effect.provide(slowReleases(asked, gate)))
    })
  )
})

describe("a lease that is printed", () => {
  const secretOf = ({ token }: Lease.Lease) => token.slice(-22)

  it.effect("does not show its token", () =>
    Effect.gen(function* () {
      const lease = yield* Lock.acquire("key")
      const printed = [
        JSON.stringify(lease),
        JSON.stringify({ nested: [lease] }),
        inspect(lease, { depth: Number.POSITIVE_INFINITY, showHidden: true }),
        inspect({ nested: [lease] }, { depth: Number.POSITIVE_INFINITY, showHidden: true }),
        `${String(lease)}`,
        Cause.pretty(Cause.fail(lease)),
        Cause.pretty(Cause.die(lease)),
        Cause.pretty(Cause.die(new Error("of its user", { cause: lease })), {
          renderErrorCause: true
        }),
        String(Exit.succeed(lease)),
        JSON.stringify(Exit.fail(lease)),
        inspect(Exit.succeed(lease), { depth: Number.POSITIVE_INFINITY })
      ]
      expect(secretOf(lease)).toHaveLength(22)
      for (const text of printed) expect(text).not.toContain(secretOf(lease))
      // what it does show is of use
      expect(JSON.parse(JSON.stringify(lease))).toEqual({
        _id: "Lease",
        key: "key",
        fencingToken: lease.fencingToken
      })
    }).pipe(Effect.scoped, Effect.provide(MemoryLockStore.layer))
  )

  it.effect("nor does anything else that has it: a share, one of several, a grant", () =>
    Effect.gen(function* () {
      const lease = yield* Lock.acquire("key")
      const several = yield* MultiLock.acquire(["a", "b"])
      const grant = yield* ask("other")
      const secrets = [lease, ...several.leases, grant].map(({ token }) => token.slice(-22))
      const shared = yield* lease.guard(Lock.acquire("key", { reentrant: true }))
      for (const value of [shared, several, ...several.leases, grant]) {
        const printed = [
          String(value),
          String(Exit.succeed({ value })),
          inspect(Exit.succeed(value), { depth: Number.POSITIVE_INFINITY })
        ]
        for (const text of printed) {
          for (const secret of secrets) expect(text).not.toContain(secret)
        }
      }
      yield* grant.release
    }).pipe(Effect.scoped, Effect.provide(MemoryLockStore.layer))
  )

  for (const [name, logger] of Object.entries({
    jsonLogger: Logger.jsonLogger,
    logfmtLogger: Logger.logfmtLogger,
    stringLogger: Logger.stringLogger
  })) {
    it.effect(`nor in a log: as a message, an annotation, or a cause (${name})`, () =>
      Effect.gen(function* () {
        const lines: Array<string> = []
        const collecting = Logger.map(logger, (line) => void lines.push(line))
        const lease = yield* Lock.acquire("key")
        yield* Effect.log("taken", lease, { lease }).pipe(
          Effect.zipRight(Effect.logError("failed", Cause.fail({ lease }))),
          Effect.annotateLogs("lease", lease),
          Effect.provide(Logger.replace(Logger.defaultLogger, collecting))
        )
        expect(lines).toHaveLength(2)
        for (const line of lines) {
          expect(line).toContain(String(lease.fencingToken))
          expect(line).not.toContain(secretOf(lease))
        }
      }).pipe(Effect.scoped, Effect.provide(MemoryLockStore.layer))
    )
  }
})

describe("a tracer that throws", () => {
  const throwing = (throws: {
    readonly onSpan?: string
    readonly onAttribute?: string
  }): Tracer.Tracer =>
    Tracer.make({
      context: (execution) => execution(),
      span: (name, parent, context, links, startTime, kind) => {
        if (name === throws.onSpan) throw new Error("of the tracer")
        return {
          _tag: "Span",
          name,
          spanId: name,
          traceId: "trace",
          parent,
          context,
          links,
          kind,
          sampled: true,
          attributes: new Map(),
          status: { _tag: "Started", startTime },
          attribute: (key) => {
            if (key === throws.onAttribute) throw new Error("of the tracer")
          },
          end: () => {},
          event: () => {},
          addLinks: () => {}
        }
      }
    })

  const faults = {
    "at the span of holding": { onSpan: "Lock.hold" },
    "at an attribute of the acquisition": { onAttribute: "lock.fencing_token" }
  }
  const ways = {
    withLock: Lock.withLock("key", { ttl: "1 second" })(Effect.void),
    acquire: Effect.scoped(Lock.acquire("key", { ttl: "1 second" }))
  }
  for (const [fault, throws] of Object.entries(faults)) {
    for (const [way, effect] of Object.entries(ways)) {
      it.effect(`${fault} leaves no lease behind (${way})`, () =>
        Effect.gen(function* () {
          const { count, events } = yield* StoreControls
          const exit = yield* Effect.exit(Effect.withTracer(effect, throwing(throws)))
          expect(Exit.isFailure(exit) && Cause.isDie(exit.cause)).toBe(true)
          expect(events("key")).toEqual(["acquire", "granted", "release", "released"])
          yield* TestClock.adjust("5 seconds")
          expect(count("key", "renew")).toBe(0)
          // and it is free, without having run out
          yield* Effect.scoped(Lock.tryAcquire("key"))
        }).pipe(Effect.provide(memory))
      )
    }
  }

  it.effect("at the span of a release: the lease is given back without it", () =>
    Effect.gen(function* () {
      const { events } = yield* StoreControls
      const tracer = throwing({ onSpan: "Lock.release" })
      yield* Effect.withTracer(ways.withLock, tracer)
      expect(events("key")).toEqual(["acquire", "granted", "release", "released"])
    }).pipe(Effect.provide(memory))
  )
})

describe("a body", () => {
  it.effect("does not begin where its caller was interrupted while it took the lock", () =>
    Effect.gen(function* () {
      const store = yield* LockStore.LockStore
      // the interruption waits for the end of the region in which nothing may get lost
      const acquire: typeof store.acquire = (claim, restore) =>
        Effect.withFiberRuntime((fiber) => {
          fiber.unsafeInterruptAsFork(FiberId.none)
          return Effect.zipRight(Effect.yieldNow(), store.acquire(claim, restore))
        })
      let began = false
      const body = Effect.sync(() => {
        began = true
      })
      const exit = yield* Lock.withLock("key")(body).pipe(
        Effect.provideService(LockStore.LockStore, { ...store, clock: store.clock, acquire }),
        Effect.fork,
        Effect.flatMap(Fiber.await)
      )
      expect(Exit.isInterrupted(exit)).toBe(true)
      expect(began).toBe(false)
      // and nothing is left
      yield* Effect.scoped(Lock.tryAcquire("key"))
    }).pipe(Effect.provide(memory))
  )

  it.effect("that sets a FiberRef is joined, as far as Effect joins what a child has set", () =>
    Effect.gen(function* () {
      const ref = yield* FiberRef.make(0)
      yield* Lock.withLock("key")(FiberRef.set(ref, 1))
      expect(yield* FiberRef.get(ref)).toBe(isEffect4 ? 0 : 1)
      yield* Lock.withLock("key")(Effect.zipRight(Effect.yieldNow(), FiberRef.set(ref, 2)))
      expect(yield* FiberRef.get(ref)).toBe(isEffect4 ? 0 : 2)
    }).pipe(Effect.scoped, Effect.provide(memory))
  )

  // (Effect 4 has no join)
  if (!isEffect4) {
    it.effect("that sets none costs no join of them", () =>
      Effect.gen(function* () {
        const before = yield* Effect.getFiberRefs
        yield* Lock.withLock("key")(Effect.void)
        yield* Lock.withLock("key")(Effect.yieldNow())
        const after = yield* Effect.getFiberRefs
        for (const [fiberRef, values] of after.locals) {
          if (fiberRef !== FiberRef.currentRuntimeFlags) {
            expect(before.locals.get(fiberRef)).toBe(values)
          }
        }
      }).pipe(Effect.provide(memory))
    )
  }
})

describe("whatever watches a lease", () => {
  const ways: Record<string, (lease: Lease.Lease) => Effect.Effect<unknown, never, StoreControls>> =
    {
      "a loss that the clock tells": () => TestClock.adjust("1 minute"),
      "a loss that verify tells": (lease) =>
        Effect.flatMap(StoreControls, ({ takeAway }) =>
          Effect.zipRight(takeAway(lease), Effect.exit(lease.verify))
        ),
      "a loss that a renewal tells": (lease) =>
        Effect.flatMap(StoreControls, ({ heal, takeAway }) =>
          Effect.zipRight(
            takeAway(lease),
            Effect.suspend(() => {
              heal(lease.key)
              return TestClock.adjust("6 seconds")
            })
          )
        )
    }

  for (const [name, lose] of Object.entries(ways)) {
    it.effect(`is told before anybody logs: ${name}`, () =>
      Effect.gen(function* () {
        const order: Array<string> = []
        const logger = Logger.make(() => void order.push("logged"))
        yield* Effect.gen(function* () {
          const { silenceRenewals } = yield* StoreControls
          silenceRenewals("key")
          const lease = yield* Lock.acquire("key", { ttl: "10 seconds" })
          lease.signal.addEventListener("abort", () => order.push("told"))
          const guarded = yield* forkSettled(
            Effect.exit(
              lease.guard(
                Effect.onInterrupt(Effect.never, () => Effect.sync(() => order.push("interrupted")))
              )
            )
          )
          yield* lose(lease)
          yield* Fiber.await(guarded)
          yield* settle
        }).pipe(
          Effect.scoped,
          Effect.provide(Layer.merge(memory, Logger.replace(Logger.defaultLogger, logger)))
        )
        expect(order[0]).toBe("told")
        expect([...order].sort()).toEqual(["interrupted", "logged", "told"])
      })
    )
  }
})

describe("a body that is guarded", () => {
  it.live("is interrupted if its first, synchronous part interrupts its caller", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const fiber = yield* Effect.fork(
        Effect.scoped(
          Effect.flatMap(Lock.acquire("key"), (lease) =>
            Effect.withFiberRuntime<void, LockError.LockLost>((caller) =>
              lease.guard(
                Effect.suspend(() => {
                  caller.unsafeInterruptAsFork(FiberId.none)
                  return Effect.never
                }).pipe(Effect.onInterrupt(() => Effect.sync(() => log.push("interrupted"))))
              )
            )
          )
        )
      )
      const exit = yield* Fiber.await(fiber)
      log.push("caller ended")
      expect(Exit.isInterrupted(exit)).toBe(true)
      expect(log).toEqual(["interrupted", "caller ended"])
    }).pipe(Effect.provide(MemoryLockStore.layer))
  )

  it.live("is interrupted with its caller, at whatever step that yields and is interrupted", () =>
    Effect.gen(function* () {
      // a fiber yields after 2048 steps
      const after = (steps: number) =>
        Effect.gen(function* () {
          let body = "not begun"
          const fiber = yield* Effect.fork(
            Effect.scoped(
              Effect.gen(function* () {
                const lease = yield* Lock.acquire(`key ${steps}`)
                yield* Effect.yieldNow()
                yield* Effect.withFiberRuntime<void>((caller) =>
                  Effect.sync(() =>
                    queueMicrotask(() => caller.unsafeInterruptAsFork(FiberId.none))
                  )
                )
                for (let step = 0; step < steps; step++) yield* Effect.sync(() => {})
                yield* lease.guard(
                  Effect.suspend(() => {
                    body = "running"
                    return Effect.never
                  }).pipe(Effect.onInterrupt(() => Effect.sync(() => (body = "interrupted"))))
                )
              })
            )
          )
          yield* Fiber.await(fiber)
          return body
        })
      for (let steps = 2_010; steps < 2_060; steps++) {
        expect(yield* after(steps)).not.toBe("running")
      }
      expect(yield* after(1_000)).toBe("interrupted")
    }).pipe(Effect.provide(MemoryLockStore.layer))
  )

  const ways = {
    withLock: <A, E>(work: Effect.Effect<A, E>) => Lock.withLock("key")(work),
    guard: <A, E>(work: Effect.Effect<A, E>) =>
      Effect.scoped(Effect.flatMap(Lock.acquire("key"), (lease) => lease.guard(work)))
  }
  for (const [name, way] of Object.entries(ways)) {
    // (the caller's own interruption comes behind the region, and is not what is looked at)
    const inside = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      Effect.gen(function* () {
        const ended = yield* Deferred.make<Exit.Exit<A, E>>()
        const fiber = yield* forkSettled(
          Effect.uninterruptible(
            Effect.flatMap(Effect.exit(effect), (exit) => Deferred.succeed(ended, exit))
          )
        )
        yield* forkSettled(Fiber.interruptFork(fiber))
        return Deferred.await(ended)
      })

    it.effect(`can be interrupted if it allows that, although its caller does not (${name})`, () =>
      Effect.gen(function* () {
        const ended = yield* inside(way(Effect.interruptible(Effect.never)))
        expect(Exit.isInterrupted(yield* ended)).toBe(true)
        // and it is free, without having run out
        yield* Effect.scoped(Lock.tryAcquire("key"))
      }).pipe(Effect.provide(memory))
    )

    it.effect(`ends as it likes where it does not allow that (${name})`, () =>
      Effect.gen(function* () {
        const ended = yield* inside(way(Effect.as(Effect.sleep(500), "whole")))
        yield* TestClock.adjust(500)
        expect(yield* ended).toEqual(Exit.succeed("whole"))
      }).pipe(Effect.provide(memory))
    )
  }

  it.effect("that a supervisor does not let begin leaves no lease behind", () =>
    Effect.gen(function* () {
      let refused = false
      class Refusing extends Supervisor.AbstractSupervisor<void> {
        readonly value = Effect.void
        override onStart() {
          // (what gives the lease back may need a fiber)
          if (refused) return
          refused = true
          throw new Error("of the supervisor")
        }
      }
      const { events } = yield* StoreControls
      const exit = yield* Lock.withLock("key")(Effect.yieldNow()).pipe(
        Effect.supervised(new Refusing()),
        Effect.exit
      )
      expect(Exit.isFailure(exit) && Cause.isDie(exit.cause)).toBe(true)
      expect(events("key")).toEqual(["acquire", "granted", "release", "released"])
    }).pipe(Effect.provide(memory))
  )
})

describe("whatever fails after a grant", () => {
  /** The store, with some of its grants' and clock's members replaced. */
  const withStore = (
    change: (store: LockStore.LockStore) => LockStore.LockStore
  ): (<A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R | LockStore.LockStore>) =>
    Effect.updateService(LockStore.LockStore, change)
  const defect = (): never => {
    throw new Error("of somebody")
  }
  const faults = {
    // (a reference of Effect 4 has no say in a fork)
    ...(isEffect4
      ? {}
      : {
          "a FiberRef that cannot be forked": (effect: Effect.Effect<unknown, unknown, unknown>) =>
            Effect.scoped(
              Effect.flatMap(FiberRef.make<string>("value", { fork: defect }), (ref) =>
                Effect.locally(effect, ref, "other")
              )
            )
        }),
    "a store whose clock keeps no appointments": withStore((store) => ({
      ...store,
      clock: { ...store.clock, unsafeSchedule: defect }
    })),
    "a grant that takes no listener": withStore((store) => ({
      ...store,
      acquire: (claim, restore) =>
        Effect.map(store.acquire(claim, restore), (grant) => ({ ...grant, whenLost: defect }))
    })),
    "a grant that says no time": withStore((store) => ({
      ...store,
      acquire: (claim, restore) =>
        Effect.map(store.acquire(claim, restore), (grant) => ({
          ...grant,
          get validUntil(): number {
            return defect()
          }
        }))
    }))
  }
  const ways = {
    withLock: Lock.withLock("key", { ttl: "1 second" })(Effect.yieldNow()),
    withLockIfAvailable: Lock.withLockIfAvailable("key", { ttl: "1 second" })(Effect.yieldNow()),
    acquire: Effect.scoped(
      Effect.flatMap(Lock.acquire("key", { ttl: "1 second" }), (lease) =>
        lease.guard(Effect.yieldNow())
      )
    )
  }
  for (const [fault, wrap] of Object.entries(faults)) {
    for (const [way, effect] of Object.entries(ways)) {
      it.effect(`gives the lease back at once: ${fault} (${way})`, () =>
        Effect.gen(function* () {
          const { count, events } = yield* StoreControls
          const exit = yield* Effect.exit(
            wrap(effect) as Effect.Effect<unknown, unknown, LockStore.LockStore>
          )
          expect(Exit.isFailure(exit) && Cause.isDie(exit.cause)).toBe(true)
          expect(events("key")).toEqual(["acquire", "granted", "release", "released"])
          yield* TestClock.adjust("5 seconds")
          expect(count("key", "renew")).toBe(0)
        }).pipe(Effect.provide(memory))
      )
    }
  }

  it.effect("what a lock does not need of a grant is not read", () =>
    Effect.gen(function* () {
      const { events } = yield* StoreControls
      const wrap = withStore((store) => ({
        ...store,
        acquire: (claim, restore) =>
          Effect.map(store.acquire(claim, restore), (grant) => ({
            ...grant,
            get reshare(): never {
              return defect()
            }
          }))
      }))
      expect(yield* wrap(Lock.withLock("key")(Effect.succeed("done")))).toBe("done")
      expect(events("key")).toEqual(["acquire", "granted", "release", "released"])
    }).pipe(Effect.provide(memory))
  )

  it.effect("no scope where one is needed: the same", () =>
    Effect.gen(function* () {
      const { count, events } = yield* StoreControls
      const exit = yield* Lock.acquire("key", { ttl: "1 second" }).pipe(
        Effect.mapInputContext(
          (context: Context.Context<LockStore.LockStore>) =>
            Context.pick(LockStore.LockStore)(context) as Context.Context<
              LockStore.LockStore | Scope.Scope
            >
        ),
        Effect.exit
      )
      expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain("effect/Scope")
      expect(events("key")).toEqual(["acquire", "granted", "release", "released"])
      yield* TestClock.adjust("5 seconds")
      expect(count("key", "renew")).toBe(0)
    }).pipe(Effect.provide(memory))
  )

  it.effect("a body that has begun ends before the lease does", () =>
    Effect.gen(function* () {
      const { events } = yield* StoreControls
      let atItsEnd: ReadonlyArray<string> = []
      const body = Effect.never.pipe(
        Effect.onInterrupt(() =>
          Effect.zipRight(
            Effect.yieldNow(),
            Effect.sync(() => {
              atItsEnd = [...events("key")]
            })
          )
        )
      )
      const exit = yield* Lock.withLock("key")(body).pipe(
        faults["a store whose clock keeps no appointments"],
        Effect.exit
      )
      expect(Exit.isFailure(exit) && Cause.isDie(exit.cause)).toBe(true)
      // (on Effect 4 it has not begun: the body comes after what arranges its renewal)
      expect(atItsEnd).toEqual(isEffect4 ? [] : ["acquire", "granted"])
      expect(events("key")).toEqual(["acquire", "granted", "release", "released"])
    }).pipe(Effect.provide(memory))
  )

  it.effect("a logger that throws when a release was not confirmed changes nothing", () =>
    Effect.gen(function* () {
      const { failReleases } = yield* StoreControls
      failReleases("key")
      const exit = yield* Lock.withLock("key")(Effect.succeed("done")).pipe(
        Effect.provide(Logger.replace(Logger.defaultLogger, Logger.make(defect))),
        Effect.exit
      )
      expect(exit).toEqual(Exit.succeed("done"))
    }).pipe(Effect.provide(memory))
  )
})

describe("a deep nest", () => {
  const nest = (
    depth: number,
    wrap: (inner: Effect.Effect<number, unknown>) => Effect.Effect<number, unknown>
  ): Effect.Effect<number, unknown> =>
    depth === 0 ? Effect.succeed(42) : Effect.suspend(() => wrap(nest(depth - 1, wrap)))

  it.effect("of guards does not overflow", () =>
    Effect.gen(function* () {
      const lease = yield* Lock.acquire("key")
      expect(yield* nest(5_000, lease.guard)).toBe(42)
    }).pipe(Effect.scoped, Effect.provide(memory))
  )

  it("of locks in memory runs synchronously where a single one does", () => {
    const store = Effect.runSync(MemoryLockStore.make)
    let key = 0
    // (whoever is deeper on Effect 4 goes on in a turn of its own)
    const nested = nest(isEffect4 ? 90 : 2_000, (inner) =>
      Effect.provideService(
        Lock.withLock(`key-${key++}`, { ttl: "1 hour" })(inner),
        LockStore.LockStore,
        store
      )
    )
    expect(Effect.runSync(nested)).toBe(42)
  })
})

describe("a loss by the clock", () => {
  const loss = (prepare: (controls: Controls) => Effect.Effect<void>) =>
    Effect.gen(function* () {
      const lease = yield* Lock.acquire("key", { ttl: "10 seconds" })
      yield* prepare(yield* StoreControls)
      yield* TestClock.adjust("11 seconds")
      return yield* Effect.flip(lease.verify)
    }).pipe(Effect.scoped, Effect.provide([memory, quiet]))

  it.effect("says what the last renewal failed with, in its message and as its cause", () =>
    Effect.gen(function* () {
      const error = yield* loss(({ failRenewals }) => Effect.sync(() => failRenewals("key")))
      expect(error).toMatchObject({ reason: "Unreachable", cause: { operation: "renew" } })
      expect(error.message).toMatch(/The last one failed: made to fail by a test\.$/)
    })
  )

  it.effect("does not say what failed before a renewal that was confirmed", () =>
    Effect.gen(function* () {
      const error = yield* loss(({ failRenewals, heal, silenceRenewals }) =>
        Effect.gen(function* () {
          failRenewals("key")
          yield* TestClock.adjust("6 seconds")
          heal("key")
          yield* TestClock.adjust("1 second")
          silenceRenewals("key")
        })
      )
      expect(error).toMatchObject({ reason: "Unreachable" })
      expect(error).not.toHaveProperty("cause")
      expect(error.message).toContain("The store did not answer")
    })
  )
})

describe("a renewal that fails once", () => {
  const failsOnce = Effect.map(LockStore.LockStore, (store): LockStore.LockStore => {
    let failed = false
    return {
      clock: store.clock,
      acquire: (claim, restore) =>
        Effect.map(store.acquire(claim, restore), (grant) => ({
          ...grant,
          renew: Effect.suspend(() => {
            if (failed) return grant.renew
            failed = true
            return Effect.fail(
              new LockError.LockStoreError({ operation: "renew", detail: "once", transient: true })
            )
          })
        }))
    }
  })
  const held = (wrap: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>) =>
    Effect.gen(function* () {
      const store = yield* failsOnce
      const held = Lock.withLock("key", { ttl: "1 second" })(Effect.as(Effect.sleep(1_800), "held"))
      expect(yield* wrap(held).pipe(Effect.provideService(LockStore.LockStore, store))).toBe("held")
    }).pipe(Effect.provide(MemoryLockStore.layer))

  // the next one is due before the fiber has told of this one
  it.live("costs nothing with a scheduler that lets a fiber run for a few steps at a time", () =>
    held(
      Effect.withScheduler({
        shouldYield: (fiber) => (fiber.currentOpCount > 12 ? 0 : false),
        scheduleTask: (task) => void setTimeout(task, 10)
      })
    )
  )

  it.live("costs nothing with a logger that throws", () =>
    held((effect) =>
      effect.pipe(
        Effect.provide(
          Logger.replace(
            Logger.defaultLogger,
            Logger.make(() => {
              throw new Error("of the logger")
            })
          )
        ),
        Logger.withMinimumLogLevel(LogLevel.Debug)
      )
    )
  )
})
