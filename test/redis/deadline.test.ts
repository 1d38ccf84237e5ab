/** Rule 6: a loss reaches the code before anyone else can own the lock. */
import { expect, layer } from "@effect/vitest"
import { atOnce } from "../support/atOnce.js"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { Lock } from "effect-redis-lock"
import {
  answered,
  blockEventLoop,
  environment,
  failure,
  failures,
  leftovers,
  pttl,
  quietly,
  RedisServer,
  timed,
  undisturbed
} from "./support.js"

/** What the server says of the key, asked at one moment: how long it will stay, by its own clock. */
const expiry = (server: RedisServer.RedisProcess) =>
  Effect.map(server.command("PEXPIRETIME", "k"), Number)

atOnce(RedisServer.layer())("a silent network", (it) => {
  for (const [ttl, margin] of [
    [2_500, undefined],
    [2_000, 500],
    [3_000, 0]
  ] as const) {
    it.scoped(`interrupts the body in time (ttl ${ttl} ms, margin ${margin ?? "by default"})`, () =>
      quietly(
        undisturbed(
          40,
          Effect.gen(function* () {
            const { proxy, server, use } = yield* environment()
            let interruptedAt = 0
            let atInterruption: unknown
            let leftThere = 0
            let token = ""
            let held = false
            const acquiredFrom = performance.now()
            const { exit } = yield* timed(
              Lock.withLock("k", { ttl, margin })((lease) =>
                Effect.gen(function* () {
                  token = lease.token
                  proxy.blackHole()
                  return yield* Effect.never
                }).pipe(
                  Effect.onInterrupt(() =>
                    Effect.gen(function* () {
                      interruptedAt = performance.now()
                      held = yield* lease.isHeld
                      // straight from the server, at the moment of the interruption
                      atInterruption = yield* server.command("GET", "k")
                      leftThere = yield* pttl(server, "k")
                      proxy.heal()
                    })
                  )
                )
              ).pipe(use)
            )
            const error = failure(exit)
            expect(error).toMatchObject({ _tag: "LockLost", key: "k", reason: "Unreachable" })
            // the finalizer ran under the lock
            expect(atInterruption).toBe(token)
            expect(leftThere).toBeGreaterThan(0)
            if (margin !== 0) expect(held).toBe(true)
            // and not before it had to, either
            const validity = ttl - ttl * 0.01 - 2
            const givenUp = validity - (margin ?? ttl / 10)
            expect(interruptedAt - acquiredFrom).toBeGreaterThan(givenUp - 30)
          })
        )
      )
    )
  }

  it.scoped("interrupts a body that a renewal had given more time, counted from that renewal", () =>
    quietly(
      undisturbed(
        40,
        Effect.gen(function* () {
          const { proxy, server, use } = yield* environment({ commandTimeout: 500 })
          let left = 0
          const { exit } = yield* timed(
            Lock.withLock("k", { ttl: 1_000, renewEvery: 100 })(
              Effect.gen(function* () {
                yield* proxy.until(() => answered(proxy, "k") >= 4)
                proxy.blackHole({ drop: true })
                return yield* Effect.never
              }).pipe(
                Effect.onInterrupt(() => Effect.map(pttl(server, "k"), (ms) => void (left = ms)))
              )
            ).pipe(use)
          )
          proxy.heal()
          expect(failure(exit)).toMatchObject({ reason: "Unreachable" })
          expect(left).toBeGreaterThan(0)
          expect(left).toBeLessThanOrEqual(300)
        })
      )
    )
  )

  it.scoped("a second holder enters only after the first one's finalizers", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, use } = yield* environment({ commandTimeout: 500 })
        const { use: useOther } = yield* environment()
        const events: Array<string> = []
        const note = (event: string) => Effect.sync(() => void events.push(event))
        const first = yield* Effect.fork(
          Effect.exit(
            Lock.withLock("k", { ttl: 1_000 })(
              Effect.gen(function* () {
                yield* note("first in")
                proxy.blackHole({ drop: true })
                return yield* Effect.never
              }).pipe(
                // a finalizer that takes its time
                Effect.onInterrupt(() => Effect.zipRight(Effect.sleep(20), note("first out")))
              )
            ).pipe(use)
          )
        )
        yield* RedisServer.eventually(Effect.sync(() => events.length > 0))
        yield* Lock.withLock("k", { ttl: 1_000 })(note("second in")).pipe(useOther)
        expect(events).toEqual(["first in", "first out", "second in"])
        proxy.heal()
        expect(Exit.isFailure(yield* Fiber.join(first))).toBe(true)
      })
    )
  )

  it.scoped("aborts the signal, ends awaitLost and guard, with the same error", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment()
        const lease = yield* Lock.acquire("k", { ttl: 2_000 }).pipe(use)
        const { signal } = lease
        let left = 0
        signal.addEventListener("abort", () => {
          left = 1
        })
        const guarded = yield* Effect.fork(Effect.exit(lease.guard(Effect.never)))
        const lost = yield* Effect.fork(Effect.flip(lease.awaitLost))
        proxy.holdRequests()
        const error = yield* Fiber.join(lost)
        expect(yield* server.command("GET", "k")).toBe(lease.token)
        expect(failures(yield* Fiber.join(guarded))).toEqual([error])
        expect(signal.reason).toBe(error)
        expect(left).toBe(1)
        proxy.releaseRequests()
      })
    )
  )

  it.scoped("does not cut an uninterruptible body, whose loss is told at its end", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, use } = yield* environment({ commandTimeout: 300 })
        const seen: Array<boolean> = []
        const { exit } = yield* timed(
          Lock.withLock("k", { ttl: 300 })((lease) =>
            Effect.gen(function* () {
              proxy.blackHole()
              seen.push(yield* lease.isHeld)
              yield* Effect.flip(lease.awaitLost)
              yield* Effect.sleep(100)
              seen.push(yield* lease.isHeld, lease.signal.aborted)
              return "finished"
            }).pipe(Effect.uninterruptible)
          ).pipe(use)
        )
        proxy.heal()
        expect(seen).toEqual([true, false, true])
        expect(failure(exit)).toMatchObject({ _tag: "LockLost", reason: "Unreachable" })
      })
    )
  )
})

layer(RedisServer.layer(), { excludeTestServices: true })(
  "an event loop that does not turn",
  (it) => {
    for (const margin of [undefined, 0] as const) {
      const options = { ttl: 400, margin }
      const name = margin === 0 ? " (margin 0)" : ""

      it.scoped(`for longer than the ttl: isHeld is false the moment it runs again${name}`, () =>
        quietly(
          Effect.gen(function* () {
            const { server, use } = yield* environment()
            const lease = yield* Lock.acquire("k", options).pipe(use)
            expect(yield* lease.isHeld).toBe(true)
            const { signal } = lease
            const [held, remaining] = yield* Effect.suspend(() => {
              blockEventLoop(450)
              // nothing has run in between: neither a timer nor a reply
              return Effect.all([lease.isHeld, lease.remaining])
            })
            expect(held).toBe(false)
            expect(Duration.toMillis(remaining)).toBe(0)
            expect(yield* Effect.flip(lease.guard(Effect.succeed("must not run")))).toMatchObject({
              _tag: "LockLost",
              reason: "Unreachable"
            })
            expect(signal.aborted).toBe(true)
            expect(yield* server.command("EXISTS", "k")).toBe(0)
          })
        )
      )

      it.scoped(`under withLock: it fails, though the body succeeded${name}`, () =>
        quietly(
          Effect.gen(function* () {
            const { server, use } = yield* environment()
            const bodies = [
              Effect.sync(() => blockEventLoop(450)),
              Effect.zipRight(
                Effect.yieldNow(),
                Effect.sync(() => blockEventLoop(450))
              ),
              Effect.zipRight(
                Effect.sleep(20),
                Effect.sync(() => blockEventLoop(450))
              )
            ]
            for (const body of bodies) {
              const { exit } = yield* timed(Lock.withLock("k", options)(body).pipe(use))
              expect(failure(exit)).toMatchObject({ _tag: "LockLost", reason: "Unreachable" })
              expect(yield* leftovers(server)).toEqual([])
            }
          })
        )
      )

      it.scoped(`the body's own error comes first, then the loss${name}`, () =>
        quietly(
          Effect.gen(function* () {
            const { use } = yield* environment()
            const { exit } = yield* timed(
              Lock.withLock(
                "k",
                options
              )(
                Effect.suspend(() => {
                  blockEventLoop(450)
                  return Effect.fail("own")
                })
              ).pipe(use)
            )
            const [own, loss, ...others] = failures(exit)
            expect(own).toBe("own")
            expect(loss).toMatchObject({ _tag: "LockLost", reason: "Unreachable" })
            expect(others).toEqual([])
          })
        )
      )
    }

    it.scoped("before the body begins: nothing of it runs without the lock", () =>
      quietly(
        Effect.gen(function* () {
          const { use } = yield* environment()
          const lease = yield* Lock.acquire("k", { ttl: 300 }).pipe(use)
          let ran = false
          const guarded = lease.guard(
            Effect.sync(() => {
              ran = true
            })
          )
          blockEventLoop(350)
          expect(failure(yield* Effect.exit(guarded))).toMatchObject({ reason: "Unreachable" })
          expect(ran).toBe(false)
        })
      )
    )

    it.scoped(
      "for longer than a renewal's time, but not the validity: renewed at once after it",
      () =>
        Effect.gen(function* () {
          const { proxy, server, use } = yield* environment()
          yield* Effect.scoped(Lock.acquire("k")).pipe(use)
          for (const before of [Effect.void, Effect.yieldNow(), Effect.sleep(30)]) {
            proxy.forget()
            const result = yield* Lock.withLock("k", { ttl: 1_500, renewEvery: 150 })((lease) =>
              Effect.gen(function* () {
                yield* before
                blockEventLoop(700)
                expect(yield* lease.isHeld).toBe(true)
                // the acquire, and a renewal, and the next
                yield* proxy.until(() => answered(proxy, "k") >= 3)
                expect(yield* pttl(server, "k")).toBeGreaterThan(1_000)
                return yield* lease.isHeld
              })
            ).pipe(use)
            expect(result).toBe(true)
          }
        })
    )

    it.scoped(
      "a key that somebody took meanwhile is not touched by the stalled one's release",
      () =>
        quietly(
          Effect.gen(function* () {
            const { server, use } = yield* environment()
            const { exit } = yield* timed(
              Lock.withLock("k", { ttl: 300 })(
                Effect.gen(function* () {
                  blockEventLoop(350)
                  yield* server.command("SET", "k", "thief", "NX", "PX", 60_000)
                }).pipe(Effect.uninterruptible)
              ).pipe(use)
            )
            expect(failure(exit)).toMatchObject({ _tag: "LockLost" })
            expect(yield* server.command("GET", "k")).toBe("thief")
            expect(yield* expiry(server)).toBeGreaterThan(Date.now() + 50_000)
          })
        )
    )
  }
)
