/** Rule 10: who is served when. First come, first served, and a bounded run within one process. */
import { expect, layer } from "@effect/vitest"
import { atOnce } from "../support/atOnce.js"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import { Lock } from "effect-redis-lock"
import * as fc from "fast-check"
import * as Judge from "../support/Judge.js"
import {
  awaitQueued,
  type Caller,
  caller,
  deadWaiter,
  environments,
  keysOf,
  idle,
  internals,
  nothing,
  onGrant,
  pair,
  queuedCaller,
  queueOf,
  strict,
  subscribed
} from "../support/Queue.js"
import { type Command, Model, replay, runs, stories } from "../support/queueModel.js"
import {
  type Environment,
  failure,
  leftovers,
  nothingLeft,
  pttl,
  quietly,
  RedisServer,
  seeded,
  sent,
  undisturbed
} from "./support.js"

const ttl = "1 minute"

/** A heartbeat of 300 ms, a claim window of 900. */
const brisk = { ttl: 900 }

let lastKey = 0
const freshKey = () => `k-${++lastKey}`

// -----------------------------------------------------------------------------
// against a model
// -----------------------------------------------------------------------------

const play = (
  stores: ReadonlyArray<Environment>,
  commands: ReadonlyArray<Command>
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const key = freshKey()
    const { server } = stores[0]!
    const storeIds = stores.map(({ store }) => internals(store).storeId)
    const model = new Model()
    const callers: Array<Caller> = []
    const fences: Array<number> = []

    const observed = Effect.map(queueOf(server, key), (tokens) => ({
      states: callers.map((one) => one.state()),
      // a dead process is -1
      queue: tokens.map((token) => storeIds.indexOf(token.split(".")[0]!))
    }))
    const expected = () => ({
      states: model.callers.map(({ state }) => state),
      queue: model.queue.map((store) => Math.max(-1, store))
    })
    const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b)
    const settle = RedisServer.eventually(
      Effect.map(observed, (now) => same(now, expected()))
    ).pipe(
      Effect.timeoutTo({
        duration: "5 seconds",
        onSuccess: () => Effect.void,
        onTimeout: () =>
          Effect.map(observed, (now) => {
            throw new Error(
              `expected ${JSON.stringify(expected())}, found ${JSON.stringify(now)} after step ${step}`
            )
          })
      }),
      Effect.flatten
    )

    let step = 0
    for (const command of commands) {
      step++
      const { holder } = model
      switch (command._tag) {
        case "Arrive":
          model.arrive(command.store)
          callers.push(yield* caller(stores[command.store]!.use, key, brisk))
          break
        case "Cancel": {
          const { waiting } = model
          if (waiting.length === 0) continue
          const who = waiting[command.who % waiting.length]!
          model.cancel(who)
          yield* callers[who]!.interrupt
          break
        }
        case "Release":
          if (holder === undefined) continue
          model.end()
          yield* callers[holder]!.release
          break
        case "Expire":
          // where nobody waits, nobody sees it
          if (holder === undefined || model.waiting.length === 0) continue
          model.end()
          yield* server.command("DEL", key)
          break
        case "DeadWaiter":
          if (holder === undefined) continue
          model.dieWaiting(command.fresh)
          yield* deadWaiter(server, key, {
            windowMillis: command.fresh ? 10_000 : 1,
            grantMillis: 60
          })
      }
      yield* settle
      for (const who of model.grants.slice(fences.length)) {
        fences.push((yield* callers[who]!.lease).fencingToken)
      }
      expect(fences).toEqual([...new Set(fences)].sort((a, b) => a - b))
    }

    for (const one of callers) if (one.state() === "waiting") yield* one.interrupt
    for (const one of callers) yield* one.release
    for (const { store } of stores) yield* idle(store)
    yield* nothingLeft(server)
  })

/** Stories take seconds, most of which are waiting: parts of them are played at the same time. */
const parts = 4

atOnce(RedisServer.layer())("against a model", (it) => {
  for (let part = 1; part <= parts; part++) {
    it.scoped(
      `arrivals, cancellations, releases, expiries and deaths in three stores, in any order (${part} of ${parts})`,
      () =>
        quietly(
          Effect.gen(function* () {
            const stores = yield* environments([strict, strict, strict])
            const runtime = yield* Effect.runtime<never>()
            let played = 0
            yield* Effect.promise(() =>
              fc.assert(
                fc.asyncProperty(stories(3, true), (commands) => {
                  played += commands.length
                  return Runtime.runPromise(runtime)(Effect.scoped(play(stores, commands)))
                }),
                // a story that fails waits 5 s for what does not come: it is not made shorter
                { numRuns: runs(20 / parts), endOnFailure: true, ...replay() }
              )
            )
            expect(played).toBeGreaterThan(replay().path === undefined ? 200 / parts / 2 : 0)
          })
        ),
      runs(60_000)
    )
  }

  it.scoped(
    "whatever crosses: one holder at a time, tokens grow, everybody is served, nothing is left",
    () =>
      quietly(
        Effect.gen(function* () {
          const stores = yield* environments([{}, {}, { localHandoff: 0 }])
          const runtime = yield* Effect.runtime<never>()
          const chaos = (seed: number) =>
            Effect.gen(function* () {
              const random = seeded(seed)
              const key = freshKey()
              const judge = Judge.referee()
              let served = 0
              const fibers = yield* Effect.forEach(Array.from({ length: 60 }), () => {
                const arriveIn = random() * 150
                const holdFor = random() < 0.5 ? 0 : random() * 4
                const leaveIn = random() < 0.4 ? random() * 100 : undefined
                const { use } = stores[Math.floor(random() * stores.length)]!
                const body = Lock.withLock(key, { ttl: random() < 0.5 ? 5_000 : 8_000 })((lease) =>
                  Effect.acquireUseRelease(
                    Effect.sync(() => judge.enter(lease.fencingToken)),
                    () => Effect.sleep(holdFor),
                    () => Effect.sync(() => judge.exit(lease.fencingToken))
                  )
                )
                const work = Effect.map(body, () => served++).pipe(
                  Effect.timeoutOption(leaveIn ?? 60_000),
                  use
                )
                return Effect.fork(Effect.zipRight(Effect.sleep(arriveIn), work))
              })
              yield* Fiber.joinAll(fibers)
              expect(judge.verdict()).toEqual([])
              expect(served).toBeGreaterThan(20)
              for (const { store } of stores) yield* idle(store)
              yield* nothingLeft(stores[0]!.server)
            })
          yield* Effect.promise(() =>
            fc.assert(
              fc.asyncProperty(fc.integer(), (seed) => Runtime.runPromise(runtime)(chaos(seed))),
              { numRuns: runs(12), endOnFailure: true, ...replay() }
            )
          )
        })
      ),
    runs(60_000)
  )
})

// -----------------------------------------------------------------------------
// first come, first served
// -----------------------------------------------------------------------------

layer(RedisServer.layer(), { excludeTestServices: true })("first come, first served", (it) => {
  it.scoped("between stores of one process, whatever their number", () =>
    Effect.gen(function* () {
      const stores = yield* environments(Array.from({ length: 6 }, () => strict))
      const { server } = stores[0]!
      const key = freshKey()
      const held = yield* caller(stores[0]!.use, key, { ttl })
      yield* held.lease
      const served: Array<number> = []
      const turn = (index: number) =>
        Lock.withLock(key, { ttl })(Effect.sync(() => served.push(index))).pipe(stores[index]!.use)
      const fibers = []
      for (const [position, index] of [3, 1, 5, 2, 4].entries()) {
        fibers.push(yield* Effect.fork(turn(index)))
        yield* awaitQueued(server, key, position + 1)
      }
      yield* held.release
      yield* Fiber.joinAll(fibers)
      expect(served).toEqual([3, 1, 5, 2, 4])
    })
  )

  for (const localHandoff of [0, 20, 60_000]) {
    it.scoped(`among the fibers of one store (localHandoff ${localHandoff} ms)`, () =>
      Effect.gen(function* () {
        const [{ use }] = yield* environments([{ localHandoff }])
        const key = freshKey()
        const held = yield* caller(use, key, { ttl })
        yield* held.lease
        const served: Array<number> = []
        const fences: Array<number> = []
        const fibers = yield* Effect.forEach(
          Array.from({ length: 40 }, (_, index) => index),
          (index) =>
            Lock.withLock(key, { ttl })((lease) =>
              Effect.sync(() => {
                served.push(index)
                fences.push(lease.fencingToken)
              })
            ).pipe(use, Effect.fork, Effect.zipLeft(Effect.yieldNow()))
        )
        yield* held.release
        yield* Fiber.joinAll(fibers)
        expect(served).toEqual(served.map((_, index) => index))
        expect(fences).toEqual([...new Set(fences)].sort((a, b) => a - b))
      })
    )

    it.scoped(
      `one that was interrupted leaves the others' order (localHandoff ${localHandoff})`,
      () =>
        Effect.gen(function* () {
          const [{ use }] = yield* environments([{ localHandoff }])
          const key = freshKey()
          const held = yield* caller(use, key, { ttl })
          yield* held.lease
          const served: Array<number> = []
          const fibers = yield* Effect.forEach([0, 1, 2, 3, 4, 5], (index) =>
            Lock.withLock(key, { ttl, ...(index === 4 ? { waitAtMost: 30 } : {}) })(
              Effect.sync(() => served.push(index))
            ).pipe(use, Effect.fork, Effect.zipLeft(Effect.yieldNow()))
          )
          yield* Fiber.interrupt(fibers[0]!)
          yield* Fiber.interrupt(fibers[2]!)
          expect(failure(yield* Fiber.await(fibers[4]!))).toMatchObject({ ahead: 2 })
          yield* held.release
          for (const index of [1, 3, 5]) yield* Fiber.join(fibers[index]!)
          expect(served).toEqual([1, 3, 5])
        })
    )
  }

  it.scoped("stores with many callers each take turns where localHandoff is 0", () =>
    Effect.gen(function* () {
      const stores = yield* pair()
      const [{ server }] = stores
      const key = freshKey()
      const held = yield* caller(stores[0]!.use, key, { ttl })
      yield* held.lease
      const served: Array<number> = []
      const callers = Array.from({ length: 20 }, (_, index) => index % 2)
      const fibers = yield* Effect.forEach(callers, (index) =>
        Effect.fork(
          Lock.withLock(key, { ttl })(
            // long enough for the other store to have queued again, as long as it has callers
            Effect.suspend(() =>
              served.push(index) < callers.length ? awaitQueued(server, key, 1) : Effect.void
            )
          ).pipe(stores[index]!.use)
        )
      )
      yield* awaitQueued(server, key, 1)
      yield* held.release
      yield* Fiber.joinAll(fibers)
      // store 1 stood in the queue while store 0 held the lock
      expect(served).toEqual(callers.map((index) => 1 - index))
    })
  )

  it.scoped("no newcomer steps in before those who queue: neither to wait, nor to try", () =>
    Effect.gen(function* () {
      const [a, b, c] = yield* environments([strict, strict, strict])
      const key = freshKey()
      const held = yield* caller(a.use, key, { ttl })
      yield* held.lease
      const waiting = yield* queuedCaller(b, key, 0, { ttl })
      // free, with somebody in the queue, as between an expiry and the first waiter's heartbeat
      yield* a.server.command("DEL", key)
      const exit = yield* Effect.exit(Effect.scoped(Lock.tryAcquire(key, { ttl })).pipe(c.use))
      expect(failure(exit)._tag).toBe("LockUnavailable")
      yield* waiting.lease
      yield* quietly(held.release)
    })
  )
})

// -----------------------------------------------------------------------------
// within one process
// -----------------------------------------------------------------------------

layer(RedisServer.layer(), { excludeTestServices: true })("a run within one process", (it) => {
  it.scoped("is bounded by localHandoff: another process's waiter gets its turn", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([{ localHandoff: 100 }, {}])
        const key = freshKey()
        let turns = 0
        const turn = Lock.withLock(key, { ttl })(
          Effect.zipRight(
            Effect.sleep(5),
            Effect.sync(() => turns++)
          )
        )
        yield* Effect.forEach([1, 2, 3, 4, 5, 6, 7, 8], () =>
          Effect.forkScoped(Effect.forever(turn).pipe(a.use, Effect.ignore))
        )
        for (let round = 0; round < 5; round++) {
          const before = turns
          yield* RedisServer.eventually(Effect.sync(() => turns > before + 3))
          const waiting = yield* queuedCaller(b, key, 0, { ttl })
          const atQueue = turns
          const queuedAt = performance.now()
          yield* waiting.lease
          // 100 ms of turns of 5 ms, and the one that was under way
          expect(turns - atQueue).toBeLessThanOrEqual(22)
          expect(performance.now() - queuedAt).toBeLessThan(600)
          yield* waiting.release
        }
        expect(turns).toBeGreaterThan(10)
      })
    )
  )

  it.scoped("a process that is handed the lock serves its callers, then asks who else waits", () =>
    Effect.gen(function* () {
      const stores = yield* environments([{ localHandoff: 60_000 }, {}])
      const [a, b] = stores
      const key = freshKey()
      // (a ttl that is longer than that of a grant by handoff)
      const first = yield* caller(b.use, key, { ttl })
      const lease = yield* first.lease
      const crowd = [yield* queuedCaller(a, key, 0, { ttl })]
      yield* subscribed(a)
      for (let i = 0; i < 4; i++) crowd.push(yield* caller(a.use, key, { ttl }))
      const last = yield* caller(b.use, key, { ttl })
      yield* Effect.replicateEffect(Effect.yieldNow(), 10)
      // (with which the last one is queued)
      yield* first.release
      const { token } = yield* crowd[0]!.lease
      const monitor = yield* a.server.monitor
      let number = lease.fencingToken
      for (const one of crowd) {
        const { fencingToken } = yield* one.lease
        expect(fencingToken).toBeGreaterThan(number)
        number = fencingToken
        expect(last.state()).toBe("waiting")
        yield* one.release
      }
      const after = yield* last.lease
      expect(after.fencingToken).toBeGreaterThan(number)
      const sent = (yield* monitor.commands).filter(({ args }) => /^eval/i.test(args[0]!))
      // the release of the last one alone
      expect(sent.filter(({ args }) => args.includes(token))).toHaveLength(1)
      yield* last.release
    })
  )

  it.scoped("by default: 30 callers here starve nobody there, nor the other way round", () =>
    quietly(
      undisturbed(
        100,
        Effect.gen(function* () {
          const stores = yield* pair({})
          const key = freshKey()
          const judge = Judge.referee()
          const counts = new Map<string, number>()
          const waits: Array<number> = []
          const worker = (store: number, fiber: number) =>
            Effect.suspend(() => {
              const askedAt = performance.now()
              return Lock.withLock(key, { ttl })((lease) =>
                Effect.gen(function* () {
                  judge.enter(lease.fencingToken)
                  waits.push(performance.now() - askedAt)
                  const name = `${store}.${fiber}`
                  counts.set(name, (counts.get(name) ?? 0) + 1)
                  yield* Effect.sleep(1)
                  judge.exit(lease.fencingToken)
                })
              )
            }).pipe(stores[store]!.use, Effect.forever)
          const names = [
            ...Array.from({ length: 30 }, (_, fiber) => [0, fiber] as const),
            [1, 0] as const,
            [1, 1] as const
          ]
          yield* Effect.forEach(names, ([store, fiber]) => worker(store, fiber), {
            concurrency: "unbounded",
            discard: true
          }).pipe(Effect.timeoutOption("3 seconds"))
          expect(judge.verdict()).toEqual([])
          const here = names.slice(0, 30).map(([s, f]) => counts.get(`${s}.${f}`) ?? 0)
          const there = names.slice(30).map(([s, f]) => counts.get(`${s}.${f}`) ?? 0)
          expect(Math.min(...here)).toBeGreaterThanOrEqual(2)
          // within one store the turns are dealt evenly
          expect(Math.max(...here) - Math.min(...here)).toBeLessThanOrEqual(2)
          expect(Math.min(...there)).toBeGreaterThanOrEqual(10)
          expect(Math.max(...waits)).toBeLessThan(1_500)
          for (const { store } of stores) yield* idle(store)
          yield* nothingLeft(stores[0].server)
        })
      )
    )
  )

  it.scoped("costs far less than a command for each turn, and each has a token of its own", () =>
    Effect.gen(function* () {
      const [{ proxy, server, store, use }] = yield* environments([{ localHandoff: 60_000 }])
      const key = freshKey()
      const judge = Judge.referee()
      const tokens = new Set<string>()
      // more than the fencing tokens that are reserved at a time
      yield* Effect.forEach(
        Array.from({ length: 600 }),
        () =>
          Lock.withLock(key, { ttl })((lease) =>
            Effect.sync(() => {
              judge.enter(lease.fencingToken)
              tokens.add(lease.token)
              judge.exit(lease.fencingToken)
            })
          ),
        { concurrency: "unbounded", discard: true }
      ).pipe(use)
      expect(judge.verdict()).toEqual([])
      expect(judge.entries().length).toBe(600)
      expect(sent(proxy, key)).toBeLessThan(20)
      // and whoever comes next, from elsewhere, has a greater one
      const next = yield* caller(use, key, { ttl })
      expect((yield* next.lease).fencingToken).toBeGreaterThan(Math.max(...judge.entries()))
      yield* next.release
      yield* idle(store)
      expect(yield* leftovers(server)).toEqual([])
    })
  )

  it.scoped("a waiter of another store comes after all tokens that were given out here", () =>
    Effect.gen(function* () {
      const [a, b] = yield* environments([{ localHandoff: 50 }, {}])
      const key = freshKey()
      const judge = Judge.referee()
      const turn = (use: Environment["use"]) =>
        Lock.withLock(key, { ttl })((lease) =>
          Effect.zipRight(
            Effect.sync(() => judge.enter(lease.fencingToken)),
            Effect.sync(() => judge.exit(lease.fencingToken))
          )
        ).pipe(use)
      yield* Effect.forEach(
        Array.from({ length: 400 }, (_, index) => index),
        (index) => turn(index % 10 === 0 ? b.use : a.use),
        { concurrency: 40, discard: true }
      )
      expect(judge.verdict()).toEqual([])
    })
  )

  it.scoped("a clock that is behind the last token: tokens grow all the same", () =>
    Effect.gen(function* () {
      const [{ server, use }] = yield* environments([{}])
      const key = freshKey()
      const ahead = (Date.now() + 3_600_000) * 1_000
      yield* server.command("SET", `{${key}}:lock-record`, `${ahead} somebody`)
      const judge = Judge.referee()
      yield* Effect.forEach(
        Array.from({ length: 300 }),
        () =>
          Lock.withLock(key, { ttl })((lease) =>
            Effect.sync(() => {
              judge.enter(lease.fencingToken)
              judge.exit(lease.fencingToken)
            })
          ),
        { concurrency: "unbounded", discard: true }
      ).pipe(use)
      expect(judge.verdict()).toEqual([])
      expect(judge.entries()[0]).toBe(ahead + 1)
    })
  )

  it.scoped("gives each holder its own ttl, and proves no more than the server does", () =>
    Effect.gen(function* () {
      const [{ proxy, server, use }] = yield* environments([{ localHandoff: 60_000 }])
      const key = freshKey()
      for (const [first, second] of [
        [60_000, 2_000],
        [2_000, 60_000],
        [60_000, 60_000]
      ] as const) {
        const held = yield* caller(use, key, { ttl: first })
        yield* held.lease
        const next = yield* caller(use, key, { ttl: second })
        yield* Effect.yieldNow()
        // late answers: what counts is when the command was sent
        proxy.delay({ toClient: 150 })
        yield* held.release
        const lease = yield* next.lease
        proxy.delay({})
        const left = Duration.toMillis(yield* lease.remaining)
        const onServer = yield* pttl(server, key)
        expect(onServer).toBeLessThanOrEqual(second)
        expect(onServer).toBeGreaterThan(second / 2)
        expect(left).toBeLessThanOrEqual(onServer + 5)
        yield* next.release
      }
    })
  )

  it.scoped("gives a waiter its own ttl, also if another one of its process began to queue", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair({})
      const key = freshKey()
      const held = yield* caller(a.use, key, { ttl })
      yield* held.lease
      const patient = yield* queuedCaller(b, key, 0, { ttl })
      const hasty = yield* caller(b.use, key, { ttl: 500 })
      yield* Effect.yieldNow()
      yield* patient.interrupt
      // the server knows of it before the release comes, on another connection
      yield* RedisServer.eventually(
        Effect.map(a.server.command("HVALS", keysOf(key)[3]), (known) =>
          / 500 lock\/1 500 /.test(String(known))
        )
      )
      yield* held.release
      const lease = yield* hasty.lease
      const left = Duration.toMillis(yield* lease.remaining)
      const onServer = yield* pttl(a.server, key)
      expect(onServer).toBeLessThanOrEqual(500)
      expect(left).toBeLessThanOrEqual(onServer + 5)
    })
  )

  it.scoped(
    "a key that is stolen during it: the holder is told at its renewal, the next ones wait",
    () =>
      quietly(
        Effect.gen(function* () {
          const [{ server, use }] = yield* environments([{ localHandoff: 60_000 }])
          const key = freshKey()
          const options = { ttl: 900 }
          const first = yield* caller(use, key, options)
          yield* first.lease
          const second = yield* caller(use, key, options)
          const third = yield* caller(use, key, options)
          yield* Effect.yieldNow()
          yield* first.release
          const lease = yield* second.lease
          yield* server.command("SET", key, "a thief", "PX", 60_000)
          expect(yield* Effect.flip(lease.awaitLost)).toMatchObject({ reason: "Taken" })
          expect(third.state()).toBe("waiting")
          yield* second.release
          yield* awaitQueued(server, key, 1)
          expect(third.state()).toBe("waiting")
          expect(yield* server.command("GET", key)).toBe("a thief")
          yield* server.command("DEL", key)
          expect((yield* third.lease).fencingToken).toBeGreaterThan(lease.fencingToken)
        })
      )
  )

  it.scoped("a holder that lost its lease and does not stop: those behind it move on", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* pair({})
        const key = freshKey()
        const stubborn = yield* Effect.makeLatch()
        const inside = yield* Effect.makeLatch()
        const held = yield* Effect.fork(
          Lock.withLock(key, { ttl })(
            Effect.uninterruptible(Effect.zipRight(inside.open, stubborn.await))
          ).pipe(a.use)
        )
        yield* inside.await
        const behind = yield* caller(a.use, key, { ttl })
        const other = yield* queuedOrNot(b, key)
        yield* a.server.command("DEL", key)
        const startedAt = performance.now()
        // the holder renews in half a minute; a heartbeat is a second
        const one = yield* Effect.race(
          Effect.as(behind.lease, behind),
          Effect.as(other.lease, other)
        )
        expect(performance.now() - startedAt).toBeLessThan(1_600)
        yield* one.release
        yield* behind.lease
        yield* behind.release
        yield* other.lease
        yield* stubborn.open
        const exit = yield* Fiber.await(held)
        expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toMatchObject({ _tag: "LockLost" })
        yield* other.release
        yield* nothingLeft(a.server)
      })
    )
  )

  for (const localHandoff of [0, 60_000]) {
    it.scoped(
      `a caller that leaves the moment its turn comes hands it on (${localHandoff} ms)`,
      () =>
        Effect.gen(function* () {
          const [{ server, store, use }] = yield* environments([{ localHandoff }])
          for (let round = 0; round < 20; round++) {
            const key = freshKey()
            const first = yield* caller(use, key, { ttl })
            yield* first.lease
            const others = yield* Effect.replicateEffect(caller(use, key, { ttl }), 4)
            yield* Effect.yieldNow()
            const [second, third, fourth, last] = others as [Caller, Caller, Caller, Caller]
            // in the same step of this fiber, so that its own has not run since: by way of Redis, and
            // without it
            yield* first.release
            yield* second.interrupt
            yield* second.release
            yield* third.lease
            yield* third.release
            yield* fourth.interrupt
            yield* fourth.release
            yield* last.lease
            yield* last.release
          }
          yield* idle(store)
          expect(internals(store).size()).toEqual(nothing)
          yield* nothingLeft(server)
        })
    )
  }

  it.scoped("a line that ended does not take the next one of its key with it", () =>
    Effect.gen(function* () {
      const [{ server, store, use }] = yield* environments([{ localHandoff: 60_000 }])
      const key = freshKey()
      const options = { ttl: 300 }
      const first = yield* caller(use, key, options)
      yield* first.lease
      // while it waits, the lease is looked after, every 100 ms
      const gone = yield* caller(use, key, options)
      yield* Effect.yieldNow()
      yield* gone.interrupt
      yield* first.release
      yield* idle(store)
      const second = yield* caller(use, key, options)
      yield* second.lease
      yield* Effect.sleep(250)
      expect(internals(store).size().lines).toBe(1)
      const third = yield* caller(use, key, options)
      yield* Effect.sleep(50)
      expect(yield* queueOf(server, key)).toEqual([])
      expect(internals(store).size().lines).toBe(1)
      yield* second.release
      yield* third.lease
      yield* third.release
      yield* idle(store)
    })
  )

  it.scoped("a caller that leaves the moment its grant comes from Redis hands it on", () =>
    Effect.gen(function* () {
      const [a, b, c] = yield* environments([strict, strict, strict])
      for (let round = 0; round < 5; round++) {
        const key = freshKey()
        const held = yield* caller(a.use, key, { ttl })
        yield* held.lease
        const leaving = yield* queuedCaller(b, key, 0, { ttl })
        const behind = yield* queuedCaller(c, key, 1, { ttl })
        yield* subscribed(b)
        let told = false
        onGrant(b.store, () => {
          told = true
          leaving.fiber.unsafeInterruptAsFork(FiberId.none)
        })
        yield* held.release
        const startedAt = performance.now()
        yield* behind.lease
        expect(performance.now() - startedAt).toBeLessThan(700)
        expect(told).toBe(true)
        expect(leaving.state()).toBe("cancelled")
        yield* behind.release
        yield* idle(b.store)
        yield* nothingLeft(a.server)
      }
    })
  )
})

const queuedOrNot = ({ server, use }: Environment, key: string) =>
  Effect.zipLeft(
    caller(use, key, { ttl }),
    RedisServer.eventually(Effect.map(queueOf(server, key), (tokens) => tokens.length > 0))
  )
