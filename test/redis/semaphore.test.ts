/** Semaphores in Redis: several holders of one key, over several processes' stores. */
import { expect, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { Lock, type LockError, type LockStore, Semaphore } from "effect-redis-lock"
import { environments, idle, keysOf, strangeToken, strict, subscribed } from "../support/Queue.js"
import { freshKey } from "../support/stores.js"
import { type Environment, leftovers, quietly, RedisServer, seeded } from "./support.js"

const soon = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.timeout(effect, "10 seconds")

/** How many messages the server was told to publish. */
const published = (server: RedisServer.RedisProcess) =>
  Effect.map(server.command("INFO", "commandstats"), (stats) =>
    Number(/cmdstat_publish:calls=(\d+)/.exec(String(stats))?.[1] ?? 0)
  )

/** Permits, until told otherwise. */
const take = ({ use }: Pick<Environment, "use">, key: string, options: Semaphore.WaitOptions) =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) =>
      Scope.close(scope, Exit.void)
    )
    const fiber = yield* Semaphore.acquire(key, options).pipe(
      Scope.extend(scope),
      use,
      Effect.interruptible,
      Effect.forkScoped
    )
    return {
      fiber,
      lease: soon(Fiber.join(fiber)),
      isIn: () => {
        const exit = fiber.unsafePoll()
        return exit !== null && Exit.isSuccess(exit)
      },
      release: Scope.close(scope, Exit.void)
    }
  })

const records = (server: RedisServer.RedisProcess) =>
  Effect.map(leftovers(server), (keys) => keys.filter((key) => !key.endsWith(":lock-record")))

layer(RedisServer.layer(), { excludeTestServices: true })("a semaphore in Redis", (it) => {
  it.scoped("has its holders at the key, and nothing is left", () =>
    Effect.gen(function* () {
      const [a] = yield* environments([strict])
      const key = freshKey()
      const one = yield* take(a, key, { limit: 3, permits: 2, ttl: 60_000, owner: "one" })
      const lease = yield* one.lease
      const two = yield* take(a, key, { limit: 3, ttl: 30_000, owner: "two" })
      const second = yield* two.lease
      expect(yield* a.server.command("ZRANGE", key, 0, -1)).toEqual([second.token, lease.token])
      expect(second.fencingToken).toBeGreaterThan(lease.fencingToken)
      expect(second.fencingFloor).toBe(lease.fencingToken)
      expect(Number(yield* a.server.command("PTTL", key))).toBeGreaterThan(50_000)
      // a program without this library is excluded
      expect(yield* a.server.command("SET", key, "foreign", "NX", "PX", 1_000)).toBeNull()
      expect(yield* Semaphore.inUse(key).pipe(a.use)).toBe(3)
      const busy = yield* Effect.flip(
        Effect.scoped(Semaphore.tryAcquire(key, { limit: 3 })).pipe(a.use)
      )
      expect(busy).toMatchObject({ _tag: "LockUnavailable", holder: { owner: "two" } })
      yield* one.release
      // the key's own ttl is that of the last holder
      expect(Number(yield* a.server.command("PTTL", key))).toBeLessThan(31_000)
      yield* two.release
      yield* idle(a.store)
      expect(yield* records(a.server)).toEqual([])
    })
  )

  it.scoped("several are granted in one step, and one message", () =>
    Effect.gen(function* () {
      const [a, b] = yield* environments([strict, strict])
      const key = freshKey()
      const all = yield* take(a, key, { limit: 4, permits: 4 })
      yield* all.lease
      const waiting = yield* Effect.forEach(Array.from({ length: 6 }), () =>
        take(b, key, { limit: 4 })
      )
      yield* RedisServer.eventually(
        Effect.map(a.server.command("ZCARD", keysOf(key)[2]), (count) => count === 4)
      )
      yield* subscribed(b)
      const before = yield* published(a.server)
      yield* all.release
      for (const { lease } of waiting.slice(0, 4)) yield* lease
      expect(waiting.map(({ isIn }) => isIn())).toEqual([true, true, true, true, false, false])
      expect((yield* published(a.server)) - before).toBe(1)
      for (const { release } of waiting.slice(0, 4)) yield* release
      for (const { lease } of waiting.slice(4)) yield* lease
    })
  )

  it.scoped("is served in order: what is large is not overtaken, and blocks those behind it", () =>
    Effect.gen(function* () {
      const [a, b, c] = yield* environments([strict, strict, strict])
      const key = freshKey()
      const first = yield* take(a, key, { limit: 4, permits: 3 })
      yield* first.lease
      const large = yield* take(b, key, { limit: 4, permits: 4 })
      yield* RedisServer.eventually(
        Effect.map(a.server.command("ZCARD", keysOf(key)[2]), (count) => count === 1)
      )
      const small = yield* take(c, key, { limit: 4, permits: 1 })
      yield* Effect.sleep(100)
      expect([large.isIn(), small.isIn()]).toEqual([false, false])
      yield* first.release
      yield* large.lease
      yield* Effect.sleep(50)
      expect(small.isIn()).toBe(false)
      yield* large.release
      yield* small.lease
    })
  )

  it.scoped("a place that goes away lets those behind it in, where there is room", () =>
    Effect.gen(function* () {
      const [a, b, c] = yield* environments([strict, strict, strict])
      const key = freshKey()
      const first = yield* take(a, key, { limit: 4, permits: 3 })
      yield* first.lease
      const large = yield* take(b, key, { limit: 4, permits: 4 })
      yield* RedisServer.eventually(
        Effect.map(a.server.command("ZCARD", keysOf(key)[2]), (count) => count === 1)
      )
      const small = yield* take(c, key, { limit: 4, permits: 1 })
      yield* RedisServer.eventually(
        Effect.map(a.server.command("ZCARD", keysOf(key)[2]), (count) => count === 2)
      )
      yield* Fiber.interrupt(large.fiber)
      yield* small.lease
      expect(yield* Semaphore.inUse(key).pipe(a.use)).toBe(4)
    })
  )

  it.scoped("nobody's limit is exceeded while it holds", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([strict, strict])
        const key = freshKey()
        const held = yield* Effect.forEach([1, 2, 3], () => take(a, key, { limit: 3 }))
        for (const { lease } of held) yield* lease
        const more = yield* take(b, key, { limit: 5 })
        yield* Effect.sleep(50)
        expect(more.isIn()).toBe(false)
        yield* held[0]!.release
        yield* more.lease
        // one of the limit 3 is still held: three are the most
        const another = yield* take(b, key, { limit: 5 })
        yield* Effect.sleep(50)
        expect(another.isIn()).toBe(false)
        yield* held[1]!.release
        yield* another.lease
        yield* held[2]!.release
        const rest = yield* Effect.forEach([1, 2, 3], () => take(b, key, { limit: 5 }))
        for (const { lease } of rest) yield* lease
        // and back: a holder of the limit 3 does not enter beside five
        const back = yield* take(a, key, { limit: 3 })
        yield* rest[0]!.release
        yield* rest[1]!.release
        yield* Effect.sleep(50)
        expect(back.isIn()).toBe(false)
        yield* rest[2]!.release
        yield* back.lease
      })
    )
  )

  it.scoped("a holder that dies costs its permits for its ttl, and nobody else anything", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b, c] = yield* environments([strict, strict, strict])
        const key = freshKey()
        const dead = yield* take(a, key, { limit: 2, ttl: 1_000 })
        yield* dead.lease
        const other = yield* take(b, key, { limit: 2, ttl: 60_000 })
        const lease = yield* other.lease
        a.proxy.blackHole({ drop: true })
        const next = yield* take(c, key, { limit: 2 })
        yield* next.lease
        expect(yield* lease.isHeld).toBe(true)
        yield* lease.verify
        expect(yield* Semaphore.inUse(key).pipe(b.use)).toBe(2)
        a.proxy.heal()
        expect(yield* Effect.flip(soon((yield* dead.lease).awaitLost))).toMatchObject({
          _tag: "LockLost"
        })
      })
    )
  )

  it.scoped("a permit that is taken away interrupts its holder, and no other", () =>
    quietly(
      Effect.gen(function* () {
        const [a] = yield* environments([strict])
        const key = freshKey()
        const started = yield* Deferred.make<string>()
        const body = (lease: Semaphore.SemaphoreLease) =>
          Effect.zipRight(Deferred.succeed(started, lease.token), Effect.never)
        const losing = yield* Semaphore.withPermits(key, { limit: 2, ttl: 2_000 })(body).pipe(
          a.use,
          Effect.exit,
          Effect.fork
        )
        const token = yield* Deferred.await(started)
        const other = yield* take(a, key, { limit: 2, ttl: 2_000 })
        const lease = yield* other.lease
        yield* a.server.command("ZREM", key, token)
        const exit = yield* soon(Fiber.join(losing))
        expect(Exit.isFailure(exit) && JSON.stringify(exit)).toContain("Missing")
        yield* lease.verify
      })
    )
  )

  it.scoped("kinds exclude each other, held and queued for, and nothing stays locked", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([strict, strict])
        const key = freshKey()
        const refused = (error: LockError.LockError) =>
          expect(error).toMatchObject({
            _tag: "LockStoreError",
            transient: false,
            message: expect.stringMatching(/semaphore.*lock|lock.*semaphore/) as string
          })
        const asLock = Effect.flip(Effect.scoped(Lock.acquire(key)).pipe(b.use))
        const asSemaphore = Effect.flip(
          Effect.scoped(Semaphore.acquire(key, { limit: 2 })).pipe(b.use)
        )
        const permit = yield* take(a, key, { limit: 1 })
        yield* permit.lease
        refused(yield* asLock)
        refused(yield* Effect.flip(Effect.scoped(Lock.tryAcquire(key)).pipe(b.use)))
        yield* permit.release
        const lock = yield* Lock.acquire(key).pipe(a.use)
        refused(yield* asSemaphore)
        yield* lock.release
        // only queued for: a foreign program has it
        yield* a.server.command("SET", key, "foreign", "PX", 60_000)
        const queued = yield* take(a, key, { limit: 2 })
        yield* RedisServer.eventually(
          Effect.map(a.server.command("ZCARD", keysOf(key)[2]), (count) => count === 1)
        )
        refused(yield* asLock)
        yield* a.server.command("DEL", key)
        yield* queued.lease
        yield* queued.release
        yield* idle(a.store)
        yield* idle(b.store)
        expect(yield* records(a.server)).toEqual([])
      })
    )
  )

  it.scoped("a foreign program's key is waited for", () =>
    Effect.gen(function* () {
      const [a] = yield* environments([strict])
      const key = freshKey()
      yield* a.server.command("SET", key, "foreign", "PX", 300)
      const permit = yield* take(a, key, { limit: 2 })
      const lease = yield* permit.lease
      yield* lease.verify
    })
  )

  it.scoped(
    "who was deleted with the key holds nothing, and what stood beside it is not counted",
    () =>
      quietly(
        Effect.gen(function* () {
          const [a, b] = yield* environments([strict, strict])
          const key = freshKey()
          const old = yield* take(a, key, { limit: 2, permits: 2 })
          const lease = yield* old.lease
          yield* a.server.command("DEL", key)
          const fresh = yield* take(b, key, { limit: 2, permits: 2 })
          yield* fresh.lease
          expect(yield* Effect.flip(lease.verify)).toMatchObject({ reason: "Missing" })
          expect(yield* Semaphore.inUse(key).pipe(a.use)).toBe(2)
        })
      )
  )

  it.scoped("no floor shuts out a holder of another process that passes its permits on", () =>
    Effect.gen(function* () {
      const [a, b] = yield* environments([{ localHandoff: 20 }, strict])
      const key = freshKey()
      const held = yield* Effect.forEach([1, 2, 3], () => take(a, key, { limit: 3 }))
      for (const { lease } of held) yield* lease
      const last = yield* take(a, key, { limit: 3 })
      yield* Effect.sleep(20)
      yield* held[0]!.release
      const { fencingToken, token } = yield* last.lease
      // it was passed on within the process
      expect(token).toBe((yield* held[0]!.lease).token)
      yield* held[1]!.release
      yield* held[2]!.release
      const other = yield* take(b, key, { limit: 3 })
      const { fencingFloor } = yield* other.lease
      expect(fencingFloor).toBeLessThanOrEqual(fencingToken)
      yield* last.release
      const alone = yield* take(b, key, { limit: 3 })
      expect((yield* alone.lease).fencingFloor).toBeGreaterThan(fencingToken)
    })
  )

  for (const localHandoff of [0, 20]) {
    it.scoped(
      `random callers in three stores: never more than the limit, and nothing left (${localHandoff} ms)`,
      () =>
        quietly(
          Effect.gen(function* () {
            const stores = yield* environments([
              { localHandoff },
              { localHandoff },
              { localHandoff }
            ])
            const { server } = stores[0]
            const random = seeded(7)
            const pick = <A>(...of: ReadonlyArray<A>): A => of[Math.floor(random() * of.length)]!
            const inside = new Map<string, number>()
            const fences = new Set<string>()
            const holding = { a: new Set<number>(), b: new Set<number>() }
            let most = 0
            let granted = 0
            const one = Effect.suspend(() => {
              const store = pick(...stores)
              const key = pick("a" as const, "b" as const)
              const limit = 5
              const permits = pick(1, 1, 1, 2, 5)
              const body = (lease: Semaphore.SemaphoreLease) =>
                Effect.acquireUseRelease(
                  Effect.sync(() => {
                    granted++
                    const now = (inside.get(key) ?? 0) + permits
                    inside.set(key, now)
                    most = Math.max(most, now)
                    expect(now).toBeLessThanOrEqual(limit)
                    const fence = `${key} ${lease.fencingToken}`
                    expect(fences.has(fence)).toBe(false)
                    fences.add(fence)
                    holding[key].add(lease.fencingToken)
                    expect(lease.fencingFloor).toBeLessThanOrEqual(Math.min(...holding[key]))
                  }),
                  () => pick(Effect.void, Effect.yieldNow(), Effect.sleep(pick(1, 3))),
                  () =>
                    Effect.sync(() => {
                      inside.set(key, inside.get(key)! - permits)
                      holding[key].delete(lease.fencingToken)
                    })
                )
              const options = { limit, permits, ttl: 5_000 }
              const what = random()
              const held =
                what < 0.2
                  ? Semaphore.withPermitsIfAvailable(key, options)(body)
                  : what < 0.4
                    ? Semaphore.withPermits(key, { ...options, waitAtMost: pick(1, 5, 20) })(body)
                    : Semaphore.withPermits(key, options)(body)
              const cut = what > 0.7 ? Effect.timeoutOption(held, pick(0, 1, 3, 10)) : held
              return Effect.exit<unknown, unknown, LockStore.LockStore>(cut).pipe(store.use)
            })
            yield* Effect.forEach(Array.from({ length: 40 }), () => Effect.repeatN(one, 24), {
              concurrency: "unbounded",
              discard: true
            })
            expect(most).toBe(5)
            expect(granted).toBeGreaterThan(300)
            for (const { store } of stores) yield* idle(store)
            yield* RedisServer.eventually(Effect.map(records(server), (keys) => keys.length === 0))
          })
        ),
      60_000
    )
  }

  it.scoped("a waiter that died is passed over after its window", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([strict, strict])
        const key = freshKey()
        const all = yield* take(a, key, { limit: 2, permits: 2 })
        yield* all.lease
        const [, , queue, waiters] = keysOf(key)
        const dead = strangeToken()
        const now = Date.now() * 1_000
        yield* a.server.command("ZADD", queue, now, dead)
        yield* a.server.command(
          "HSET",
          waiters,
          dead,
          `${Date.now() - 5_000} 3000 3000 semaphore/1 5000 2 2 dead`
        )
        const alive = yield* take(b, key, { limit: 2 })
        yield* RedisServer.eventually(
          Effect.map(a.server.command("ZCARD", queue), (count) => Number(count) >= 1)
        )
        yield* all.release
        yield* alive.lease
      })
    )
  )
})
