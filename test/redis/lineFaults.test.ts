/** A line of one process, while nothing is answered, or where its own lease is dead: who waits for how long. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { Lock, type LockStore } from "effect-redis-lock"
import { caller, environments, queuedCaller, strict } from "../support/Queue.js"
import {
  environment,
  failure,
  pttl,
  quietly,
  RedisServer,
  sent,
  timed,
  undisturbed
} from "./support.js"
import { inside } from "../support/inside.js"

const key = "k"

/** In place of a heartbeat of a second: the claim window of a long ttl is three of these. */
const heartbeatMillis = 400
const window = 3 * heartbeatMillis

const withHeartbeat = <A extends { readonly store: LockStore.LockStore }>(environment: A): A => {
  const { around } = inside<{ readonly around: object }>(environment.store)
  Object.assign(around, { heartbeatMillis })
  return environment
}

const commandTimeout = 700

/** A first caller with a short ttl, and one with a long ttl behind it, wait for the lock of another store. */
const line = Effect.gen(function* () {
  const [a, b] = yield* environments([strict, { ...strict, commandTimeout }])
  withHeartbeat(b)
  const holder = yield* caller(a.use, key, { ttl: "1 minute" })
  yield* holder.lease
  const head = yield* queuedCaller(b, key, 0, { ttl: 100 })
  const behind = yield* caller(b.use, key, { ttl: 30_000 })
  yield* Effect.sleep(10)
  return { b, head, behind, holder, server: a.server }
})

const refuse = (server: RedisServer.RedisProcess) =>
  Effect.acquireRelease(server.command("CONFIG", "SET", "min-replicas-to-write", 1), () =>
    server.command("CONFIG", "SET", "min-replicas-to-write", 0)
  )

layer(RedisServer.layer(), { excludeTestServices: true })("heartbeats that fail", (it) => {
  it.scoped("are no reason to give up before the command deadline, however short a ttl is", () =>
    Effect.gen(function* () {
      const { b, behind, head, holder, server } = yield* line
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* refuse(server)
          b.proxy.forget()
          yield* Effect.sleep(400)
          // four claim windows of the first caller, each with questions that were refused
          expect(sent(b.proxy, key)).toBeGreaterThan(4)
        })
      )
      expect([head.state(), behind.state()]).toEqual(["waiting", "waiting"])
      yield* holder.release
      yield* head.lease
      yield* head.release
      yield* behind.lease
    })
  )

  const faults = {
    "with errors": ({ server }: Effect.Effect.Success<typeof line>) =>
      Effect.asVoid(refuse(server)),
    "with silence": ({ b }: Effect.Effect.Success<typeof line>) =>
      Effect.acquireRelease(
        Effect.sync(() => b.proxy.blackHole({ drop: true })),
        () => Effect.sync(() => b.proxy.heal())
      )
  }
  for (const [name, fault] of Object.entries(faults)) {
    it.scoped(`fail each caller after its own time, ${name}`, () =>
      quietly(
        Effect.gen(function* () {
          const setting = yield* line
          const from = performance.now()
          yield* fault(setting)
          const after = (fiber: Fiber.RuntimeFiber<unknown, unknown>) =>
            Effect.map(Fiber.await(fiber), (exit) => {
              expect(failure(exit)).toMatchObject({ _tag: "LockStoreError", operation: "acquire" })
              return performance.now() - from
            })
          const [head, behind] = yield* Effect.all(
            [after(setting.head.fiber), after(setting.behind.fiber)],
            { concurrency: 2 }
          )
          // (an answer that was lost can be to a question from before)
          expect(head).toBeGreaterThan(commandTimeout - 100)
          expect(head).toBeLessThan(window)
          expect(behind).toBeGreaterThan(window - 100)
          expect(behind).toBeLessThan(window + 3 * heartbeatMillis)
        })
      )
    )
  }
})

layer(RedisServer.layer(), { excludeTestServices: true })(
  "a lease of this process whose validity is over",
  (it) => {
    /** A lease that was lost in an outage, which is over; its scope is still open. */
    const lost = (options: Lock.Options) =>
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment({ commandTimeout: 200 })
        const scope = yield* Effect.acquireRelease(Scope.make(), (scope) =>
          Scope.close(scope, Exit.void)
        )
        const lease = yield* Lock.acquire(key, options).pipe(use, Scope.extend(scope))
        proxy.blackHole({ drop: true })
        expect(yield* Effect.flip(lease.awaitLost)).toMatchObject({ reason: "Unreachable" })
        proxy.heal()
        yield* Effect.retry(Effect.scoped(Lock.tryAcquire("other")), { times: 100 }).pipe(use)
        return { server, use }
      })

    it.scoped("is not in the way of a caller that comes after that", () =>
      quietly(
        undisturbed(
          20,
          Effect.gen(function* () {
            const { server, use } = yield* lost({ ttl: 600 })
            yield* RedisServer.eventually(Effect.map(pttl(server, key), (left) => left < 0))
            const { exit, millis } = yield* timed(
              Lock.withLock(key, { waitAtMost: 150 })(Effect.succeed("in")).pipe(use)
            )
            expect(exit).toEqual(Exit.succeed("in"))
            expect(millis).toBeLessThan(150)
          })
        )
      )
    )

    it.scoped("is not in the way of one that waits for it, for longer than it lasts", () =>
      quietly(
        Effect.gen(function* () {
          const { server, use } = yield* lost({ ttl: 2_400, margin: 1_000 })
          yield* RedisServer.eventually(
            Effect.map(pttl(server, key), (left) => {
              if (left < 50) throw new Error("too late for this test")
              return left < 200
            })
          )
          // it would be looked at after a third of its ttl
          const { exit, millis } = yield* timed(
            Lock.withLock(key, { waitAtMost: 1_500 })(Effect.succeed("in")).pipe(use)
          )
          expect(exit).toEqual(Exit.succeed("in"))
          expect(millis).toBeLessThan(600)
        })
      )
    )

    it.scoped("is noticed also where it ends earlier than it did when the wait began", () =>
      Effect.gen(function* () {
        const { store, use } = yield* environment()
        const first = yield* caller(use, key, { ttl: 60_000 })
        yield* first.lease
        const second = yield* caller(use, key, { ttl: 300 })
        yield* caller(use, key, { ttl: 60_000 })
        yield* Effect.sleep(10)
        // kept for the second one, with a shorter ttl
        yield* first.release
        yield* second.lease
        const { lines } = inside<{
          readonly lines: ReadonlyArray<{
            readonly key: string
            readonly tenures: ReadonlyArray<{ readonly watch: { readonly at: number } }>
          }>
        }>(store)
        const [tenure] = lines.find((line) => line.key === key)!.tenures
        // a renewal in an outage would find it out by itself: so this looks into the line
        expect(tenure!.watch.at).toBeLessThan(performance.now() + 300)
      })
    )
  }
)
