/**
 * The master dies, and its replica takes over: behind Sentinels, and in a Cluster. Of each kind, leases that the
 * new master has go on, those that it lacks are lost, and waiters get in.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import {
  Leader,
  type Lease,
  Lock,
  type LockError,
  type LockStore,
  MultiLock,
  ReadWriteLock,
  Semaphore
} from "effect-redis-lock"
import * as Failover from "../support/Failover.js"
import { awaitQueued, subscribed } from "../support/Queue.js"
import { type Environment, failure, nothingLeft, pttl, quietly, RedisServer } from "./support.js"

/** What leases of all kinds can be asked. */
interface AnyLease {
  readonly remaining: Effect.Effect<Duration.Duration>
  readonly verify: Effect.Effect<void, LockError.LockLost | LockError.LockStoreError>
}

interface Options {
  readonly ttl: Duration.DurationInput
  readonly renewEvery: Duration.DurationInput
}

/** Long enough for a failover on a busy machine; what is lost is told of sooner. */
const lasting: Options = { ttl: "30 seconds", renewEvery: "700 millis" }

type Run = (
  key: string,
  options: Options,
  body: (lease: AnyLease) => Effect.Effect<void>
) => Effect.Effect<
  unknown,
  LockError.LockLost | LockError.LockUnavailable | LockError.LockStoreError,
  LockStore.LockStore
>

interface Kind {
  readonly name: string
  readonly hold: Run
  /** So many hold the key together. */
  readonly holders: number
  /** What cannot be had before they have left. */
  readonly wait: Run
}

const alone = (name: string, run: Run): Kind => ({ name, hold: run, holders: 1, wait: run })

const kinds: ReadonlyArray<Kind> = [
  alone("mutex", (key, options, body) => Lock.withLock(key, options)(body)),
  {
    name: "semaphore",
    hold: (key, options, body) => Semaphore.withPermits(key, { ...options, limit: 2 })(body),
    holders: 2,
    wait: (key, options, body) =>
      Semaphore.withPermits(key, { ...options, limit: 2, permits: 2 })(body)
  },
  {
    name: "read-write lock",
    hold: (key, options, body) => ReadWriteLock.withReadLock(key, options)(body),
    holders: 2,
    wait: (key, options, body) => ReadWriteLock.withWriteLock(key, options)(body)
  },
  // (in a Cluster, the others, which are taken behind it, may be of masters that live)
  alone("several", (key, options, body) => {
    const untagged = key.replace(/\W/g, " ")
    return MultiLock.withLocks([`~1${untagged}`, key, `~2${untagged}`], options)(body)
  }),
  // (it would stand again)
  alone("leader", (key, options, body) =>
    Effect.flatMap(Deferred.make<Lease.Lease>(), (led) =>
      Effect.raceFirst(
        Leader.run(
          key,
          options
        )((lease) => Effect.zipRight(Deferred.succeed(led, lease), body(lease))),
        Effect.flatMap(Deferred.await(led), ({ awaitLost }) => awaitLost)
      )
    )
  )
]

type Use = Pick<Environment, "use">

const mayPass = (error: { readonly _tag: string; readonly transient?: boolean }): boolean =>
  error._tag === "LockStoreError" && error.transient === true

/** Somebody who is in, stays until told to leave, and takes down how it was interrupted. */
const visit = (run: Run, key: string, { use }: Use, options: Options = lasting) =>
  Effect.gen(function* () {
    const entered = yield* Deferred.make<AnyLease>()
    const leave = yield* Deferred.make<void>()
    const interrupted = yield* Deferred.make<{ readonly at: number; readonly left: number }>()
    const fiber = yield* run(key, options, (lease) =>
      Effect.zipRight(Deferred.succeed(entered, lease), Deferred.await(leave)).pipe(
        Effect.onInterrupt(() =>
          Effect.flatMap(lease.remaining, (left) =>
            Deferred.succeed(interrupted, { at: performance.now(), left: Duration.toMillis(left) })
          )
        )
      )
    ).pipe(
      // (if it takes for longer than four seconds, those who wait fail, and ask again)
      Effect.retry({ while: mayPass }),
      use,
      Effect.forkScoped
    )
    return {
      key,
      entered: Deferred.await(entered),
      isIn: Deferred.isDone(entered),
      leave: Effect.zipRight(Deferred.succeed(leave, undefined), Fiber.join(fiber)),
      interrupted: Deferred.await(interrupted),
      fiber
    }
  })

/** The holders of a key are in, and somebody of the other store waits behind them. */
const standing = (
  kind: Kind,
  key: string,
  [here, there]: readonly [Use, Use],
  old: Server,
  options: Options = lasting
) =>
  Effect.gen(function* () {
    const hold = visit(kind.hold, key, here, options)
    const holders = yield* Effect.replicateEffect(hold, kind.holders)
    const leases = yield* Effect.forEach(holders, ({ entered }) => entered)
    const waiter = yield* visit(kind.wait, key, there, options)
    yield* awaitQueued(old, key, 1)
    return { kind, holders, leases, waiter }
  })

type Server = RedisServer.RedisProcess

const nobodyIsIn = ({ waiter }: { readonly waiter: { readonly isIn: Effect.Effect<boolean> } }) =>
  Effect.map(waiter.isIn, (isIn) => expect(isIn).toBe(false))

const nothingLeftOn = (servers: ReadonlyArray<Server>) =>
  Effect.forEach(servers, nothingLeft, { discard: true })

/** One of them tells the store of grants. */
const somewhere = (servers: ReadonlyArray<Server>, store: Failover.Store) =>
  Effect.raceAll(servers.map((server) => subscribed({ ...store, server })))

for (const [topology, make] of [
  ["Sentinel", Failover.sentinel],
  ["a Cluster", Failover.cluster]
] as const) {
  describe(`${topology}: the master dies`, () => {
    it.scopedLive(
      "leases that the new master has go on, others are lost, and waiters get in, of each kind",
      () =>
        quietly(
          Effect.gen(function* () {
            const group = yield* make
            const [one, other] = [yield* group.own, yield* group.given]
            const pairs = [
              [one, other],
              [other, one]
            ] as const
            const everywhere = (what: string) =>
              Effect.forEach(
                kinds.flatMap((kind) => pairs.map((stores, index) => ({ index, kind, stores }))),
                ({ index, kind, stores }) =>
                  standing(kind, group.keyOf(`${kind.name}, ${what} ${index}`), stores, group.old),
                { concurrency: "unbounded" }
              )
            const kept = yield* everywhere("kept")
            const left = yield* everywhere("left")
            yield* group.cutOff
            const lost = yield* everywhere("lost")

            const provenUntil = yield* Effect.forEach(lost, ({ leases }) =>
              Effect.map(
                leases[0]!.remaining,
                (remaining) => performance.now() + Duration.toMillis(remaining)
              )
            )
            yield* group.old.kill
            const served = yield* Effect.fork(
              Effect.forEach(
                [...left, ...lost],
                ({ waiter }) => Effect.zipRight(waiter.entered, waiter.leave),
                { concurrency: "unbounded" }
              )
            )
            const leaving = yield* Effect.fork(
              Effect.forEach(
                left.flatMap(({ holders }) => holders),
                ({ leave }) => leave,
                { concurrency: "unbounded" }
              )
            )
            // who comes now fails, and tries again
            const comers = yield* Effect.forEach(pairs, ([{ use }], index) =>
              Effect.fork(
                Lock.withLock(
                  group.keyOf(`comer ${index}`),
                  lasting
                )(Effect.void).pipe(
                  Effect.retry({ while: mayPass, schedule: Schedule.spaced("50 millis") }),
                  use
                )
              )
            )
            yield* group.takeOver

            yield* Fiber.joinAll(comers)
            yield* Fiber.join(leaving)
            yield* Fiber.join(served)
            for (const [index, { holders }] of lost.entries()) {
              for (const { fiber, interrupted } of holders) {
                expect((yield* interrupted).at).toBeLessThan(provenUntil[index]!)
                expect(failure(yield* Fiber.await(fiber))).toMatchObject({ _tag: "LockLost" })
              }
            }
            for (const standing of kept) {
              for (const { verify } of standing.leases) yield* verify
              yield* nobodyIsIn(standing)
              yield* Effect.forEach(standing.holders, ({ leave }) => leave)
              yield* standing.waiter.entered
              yield* standing.waiter.leave
            }
            yield* nothingLeftOn(group.servers)
          })
        ),
      60_000
    )
  })

  describe(`${topology}: the master is stopped, and goes on as one that has not heard of the next`, () => {
    it.scopedLive(
      "stores of their own have left it, messages and all; who has not loses its lease in time",
      () =>
        quietly(
          Effect.gen(function* () {
            const group = yield* make
            const { old } = group
            const [here, there, given] = [yield* group.own, yield* group.own, yield* group.given]
            // (a connection that is silent is doubted after a sixth of the ttl)
            const options: Options = { ttl: "12 seconds", renewEvery: "500 millis" }
            const kept = yield* Effect.forEach(
              kinds,
              (kind) => standing(kind, group.keyOf(kind.name), [here, there], old, options),
              { concurrency: "unbounded" }
            )
            yield* somewhere([old, ...group.servers], there)
            const silent = yield* visit(kinds[0]!.hold, group.keyOf("silent"), given, {
              ttl: "3 seconds",
              renewEvery: "500 millis"
            })
            yield* silent.entered

            yield* group.caughtUp
            yield* old.stop
            const next = yield* group.takeOver
            // they are renewed there, and the waiters listen elsewhere
            for (const { waiter } of kept) {
              yield* RedisServer.eventually(
                Effect.map(pttl(next, waiter.key), (left) => left > 11_000)
              )
            }
            yield* somewhere(group.servers, there)
            // by the clock alone: its client waits for the old master
            expect((yield* silent.interrupted).left).toBeGreaterThan(0)
            expect(failure(yield* Fiber.await(silent.fiber))).toMatchObject({
              reason: "Unreachable"
            })

            yield* old.cont
            if (group.astray !== undefined) {
              // all leases run out there, and somebody who has not heard, either, finds waiters in the queues
              for (const { waiter } of kept) yield* old.command("DEL", waiter.key)
              const { use } = yield* group.astray
              yield* Effect.forEach(
                kept,
                ({ kind, waiter }) =>
                  Effect.timeoutOption(
                    Effect.ignore(kind.wait(waiter.key, lasting, () => Effect.void).pipe(use)),
                    "200 millis"
                  ),
                { concurrency: "unbounded" }
              )
            }
            for (const standing of kept) {
              for (const { verify } of standing.leases) yield* verify
              yield* nobodyIsIn(standing)
              yield* Effect.forEach(standing.holders, ({ leave }) => leave)
              yield* standing.waiter.entered
              yield* standing.waiter.leave
            }
            yield* nothingLeftOn(group.servers)
          })
        ),
      60_000
    )
  })
}
