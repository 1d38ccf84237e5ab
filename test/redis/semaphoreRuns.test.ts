/** Permits that a process passes on among its own callers: for how long, in which order, with which numbers. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { Lock, Semaphore } from "effect-redis-lock"
import { lockKeys } from "../../src/internal/redis/layout.js"
import {
  awaitQueued,
  environments,
  idle,
  internals,
  queueOf,
  subscribed
} from "../support/Queue.js"
import { freshKey } from "../support/stores.js"
import { type Environment, leftovers, quietly, RedisServer, serverMicros } from "./support.js"

const ttl = "1 minute"
const forAMinute = { localHandoff: 60_000 }

interface Permits {
  readonly lease: Effect.Effect<Semaphore.SemaphoreLease>
  readonly isIn: () => boolean
  readonly release: Effect.Effect<void>
  readonly leave: Effect.Effect<unknown>
}

/** Somebody who wants permits, and keeps them until told otherwise. */
const take = (
  { use }: Pick<Environment, "use">,
  key: string,
  options: Semaphore.WaitOptions
): Effect.Effect<Permits, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) =>
      Scope.close(scope, Exit.void)
    )
    const fiber = yield* Semaphore.acquire(key, { ttl, ...options }).pipe(
      Scope.extend(scope),
      use,
      Effect.interruptible,
      Effect.forkScoped
    )
    return {
      lease: Effect.orDie(Effect.timeout(Fiber.join(fiber), "10 seconds")),
      isIn: () => {
        const exit = fiber.unsafePoll()
        return exit !== null && Exit.isSuccess(exit)
      },
      release: Scope.close(scope, Exit.void),
      leave: Fiber.interrupt(fiber)
    }
  })

const yields = Effect.replicateEffect(Effect.yieldNow(), 10)

/** How many scripts were sent for that key, but for what keeps a lease or a place alive. */
const scriptsIn = (
  commands: ReadonlyArray<{ readonly args: ReadonlyArray<string> }>,
  token: string
) =>
  commands
    .filter(({ args }) => /^eval/i.test(args[0]!) && args.includes(token))
    .map(({ args }) => args)

layer(RedisServer.layer(), { excludeTestServices: true })("a run of permits", (it) => {
  /** One holder that is alone; and in the queue, in order: the first of a crowd, and whoever comes behind. */
  const crowded = (
    options: Semaphore.WaitOptions,
    count: number,
    stores: readonly [Environment, Environment, Environment]
  ) =>
    Effect.gen(function* () {
      const [a, b, c] = stores
      const key = freshKey()
      const first = yield* take(b, key, { ...options, permits: options.limit })
      yield* first.lease
      const crowd = [yield* take(a, key, options)]
      yield* awaitQueued(a.server, key, 1)
      yield* subscribed(a)
      const last = yield* take(c, key, { ...options, permits: options.limit })
      yield* awaitQueued(a.server, key, 2)
      for (let more = 1; more < count; more++) crowd.push(yield* take(a, key, options))
      yield* yields
      return { crowd, first, key, last }
    })

  it.scoped("goes to the callers of the process in order, then to whoever else waits", () =>
    Effect.gen(function* () {
      const stores = yield* environments([forAMinute, {}, {}])
      const [a] = stores
      const { crowd, first, last } = yield* crowded({ limit: 3, permits: 2 }, 5, stores)
      yield* first.release
      const { token } = yield* crowd[0]!.lease
      const monitor = yield* a.server.monitor
      let number = 0
      for (const [index, one] of crowd.entries()) {
        const lease = yield* one.lease
        expect(lease.token).toBe(token)
        expect(lease.fencingToken).toBeGreaterThan(number)
        number = lease.fencingToken
        expect(crowd.map(({ isIn }) => isIn())).toEqual(crowd.map((_, other) => other <= index))
        expect(last.isIn()).toBe(false)
        yield* one.release
      }
      expect((yield* last.lease).fencingToken).toBeGreaterThan(number)
      // it was given back once
      expect(scriptsIn(yield* monitor.commands, token)).toHaveLength(1)
    })
  )

  it.scoped("is bounded by localHandoff", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([{ localHandoff: 50 }, {}])
        const key = freshKey()
        let turns = 0
        const turn = Semaphore.withPermits(key, { limit: 3, ttl })(
          Effect.zipRight(
            Effect.sleep(5),
            Effect.sync(() => turns++)
          )
        )
        for (let caller = 0; caller < 12; caller++) {
          yield* Effect.forkScoped(Effect.forever(turn).pipe(a.use, Effect.ignore))
        }
        for (let round = 0; round < 4; round++) {
          const before = turns
          yield* RedisServer.eventually(Effect.sync(() => turns > before + 6))
          const waiting = yield* take(b, key, { limit: 3, permits: round === 3 ? 3 : 1 })
          yield* waiting.lease
          yield* waiting.release
        }
      })
    )
  )

  it.scoped(
    "leaves who wants other permits where they stand, and gives back what nobody wants",
    () =>
      Effect.gen(function* () {
        const stores = yield* environments([forAMinute, {}, {}])
        const { crowd, first, key, last } = yield* crowded({ limit: 3 }, 2, stores)
        yield* first.release
        const { token } = yield* crowd[0]!.lease
        const large = yield* take(stores[0], key, { limit: 3, permits: 2 })
        const other = yield* take(stores[0], key, { limit: 2 })
        yield* crowd[0]!.release
        expect((yield* crowd[1]!.lease).token).toBe(token)
        yield* crowd[1]!.release
        // who was in the queue before them is served before them
        yield* last.lease
        expect([large.isIn(), other.isIn()]).toEqual([false, false])
        yield* last.release
        expect((yield* large.lease).token).not.toBe(token)
        yield* large.release
        yield* other.lease
      })
  )

  it.scoped(
    "has numbers that no floor of another holder is above, and that all are different",
    () =>
      Effect.gen(function* () {
        const stores = yield* environments([forAMinute, {}, {}])
        const [a, b] = stores
        const key = freshKey()
        const all = yield* Effect.forEach([1, 2, 3], () => take(b, key, { limit: 3 }))
        for (const { lease } of all) yield* lease
        const crowd = [yield* take(a, key, { limit: 3 })]
        yield* awaitQueued(a.server, key, 1)
        yield* subscribed(a)
        for (let more = 0; more < 12; more++) crowd.push(yield* take(a, key, { limit: 3 }))
        yield* awaitQueued(a.server, key, 3)
        yield* all[0]!.release
        const { fencingToken: begun } = yield* crowd[0]!.lease
        // the numbers of this one are later than those of the run
        yield* all[1]!.release
        const later = yield* crowd[1]!.lease
        expect(later.fencingToken).toBeGreaterThan(begun)
        yield* all[2]!.release
        const seen = new Set([begun, later.fencingToken, (yield* crowd[2]!.lease).fencingToken])
        // (the first of those that are in has the smallest number)
        let current = crowd[0]!
        for (const next of crowd.slice(3)) {
          yield* current.release
          const lease = yield* next.lease
          expect(seen.has(lease.fencingToken)).toBe(false)
          seen.add(lease.fencingToken)
          const holders = yield* a.server.command("HVALS", `{${key}}:lock-holders`)
          const entries = (holders as ReadonlyArray<string>).map((entry) =>
            Number(entry.split(" ")[0])
          )
          expect(Math.min(...entries.filter((entry) => entry > 1_000))).toBeLessThanOrEqual(
            Math.min(lease.fencingToken, later.fencingToken)
          )
          expect(lease.fencingFloor).toBeLessThanOrEqual(Math.min(...seen))
          current = next
        }
      })
  )

  it.scoped("of all permits: the floor of each holder is its own number", () =>
    Effect.gen(function* () {
      const stores = yield* environments([forAMinute, {}, {}])
      const { crowd, first } = yield* crowded({ limit: 1 }, 4, stores)
      yield* first.release
      const token = (yield* crowd[0]!.lease).token
      for (const one of crowd) {
        const lease = yield* one.lease
        expect(lease.token).toBe(token)
        expect(lease.fencingFloor).toBe(lease.fencingToken)
        yield* one.release
      }
    })
  )

  for (const [more, isPassedOn] of [
    [1, true],
    [255, true],
    [256, false],
    [-1, false]
  ] as const) {
    it.scoped(`has at most the numbers that a server would give: ${more} more`, () =>
      quietly(
        Effect.gen(function* () {
          const [a, b] = yield* environments([forAMinute, {}])
          const key = freshKey()
          const holder = yield* take(b, key, { limit: 2, permits: 2 })
          yield* holder.lease
          const first = yield* take(a, key, { limit: 2 })
          yield* awaitQueued(a.server, key, 1)
          yield* subscribed(a)
          const second = yield* take(a, key, { limit: 2 })
          yield* awaitQueued(a.server, key, 2)
          const [token] = yield* queueOf(a.server, key)
          const number = (yield* serverMicros(a.server)) + 500_000
          const waiters = lockKeys("", "", key, true)[3]!
          const [beat] = String(yield* a.server.command("HGET", waiters, token!)).split(" ")
          const told = `${token} ${number}:${number}:2:${number + more} 3000:${beat} ${key}`
          yield* a.server.command("PUBLISH", internals(a.store).storeId, told)
          expect((yield* first.lease).fencingToken).toBe(number)
          yield* first.release
          yield* yields
          expect(second.isIn()).toBe(isPassedOn)
          if (isPassedOn) expect((yield* second.lease).fencingToken).toBe(number + 1)
          yield* holder.release
          yield* second.lease
        })
      )
    )
  }

  it.scoped(
    "keeps the places of callers that come again at once, and no longer than it lasts",
    () =>
      quietly(
        Effect.gen(function* () {
          const stores = yield* environments([{ localHandoff: 2_000 }, {}, {}])
          const [a] = stores
          const { crowd, first, key, last } = yield* crowded({ limit: 2 }, 3, stores)
          yield* first.release
          yield* crowd[0]!.lease
          yield* awaitQueued(a.server, key, 3)
          const before = yield* queueOf(a.server, key)
          // nobody waits here for the last of them
          yield* crowd[0]!.release
          yield* crowd[1]!.lease
          const again = yield* take(a, key, { limit: 2 })
          // (behind all that was sent before)
          yield* Lock.withLock(freshKey())(Effect.void).pipe(a.use)
          expect(yield* queueOf(a.server, key)).toEqual(before)
          // who leaves takes its place along
          yield* again.leave
          yield* awaitQueued(a.server, key, 2)
          yield* crowd[1]!.release
          yield* crowd[2]!.lease
          yield* awaitQueued(a.server, key, 1)
          yield* crowd[2]!.release
          yield* last.lease
        })
      )
  )

  it.scoped("whose store closes takes along the places that it had kept", () =>
    quietly(
      Effect.gen(function* () {
        const stores = yield* environments([forAMinute, {}, {}])
        const [a] = stores
        const { crowd, first, key, last } = yield* crowded({ limit: 2 }, 3, stores)
        yield* first.release
        for (const one of crowd) {
          yield* one.lease
          yield* one.release
        }
        yield* a.close
        yield* last.lease
        yield* awaitQueued(a.server, key, 0)
      })
    )
  )

  it.scoped(
    "leaves nothing, also where places were given up that were granted at that moment",
    () =>
      quietly(
        Effect.gen(function* () {
          const stores = yield* environments([{ localHandoff: 3 }, { localHandoff: 1 }, {}])
          const key = freshKey()
          let inside = 0
          const turn = (permits: number, millis: number) =>
            Semaphore.withPermits(key, { limit: 4, permits, ttl: 5_000 })(
              Effect.acquireUseRelease(
                Effect.sync(() => {
                  inside += permits
                  expect(inside).toBeLessThanOrEqual(4)
                }),
                () => (millis === 0 ? Effect.yieldNow() : Effect.sleep(millis)),
                () => Effect.sync(() => (inside -= permits))
              )
            )
          yield* Effect.forEach(
            Array.from({ length: 18 }, (_, index) => index),
            (index) =>
              Effect.repeatN(turn(index % 5 === 4 ? 2 : 1, index % 3), 20).pipe(
                stores[index % 3]!.use
              ),
            { concurrency: "unbounded", discard: true }
          )
          for (const { store } of stores) yield* idle(store)
          expect(
            (yield* leftovers(stores[0].server)).filter((name) => !name.endsWith(":lock-record"))
          ).toEqual([])
        })
      )
  )
})
