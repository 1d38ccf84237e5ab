import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Option from "effect/Option"
import { DistributedSemaphore, RedisBacking } from "effect-distributed-lock"
import { Redis } from "ioredis5"
import type { Contender } from "../Contender.js"
import { callers, criticalSection, hold } from "./effect.js"

export const effectDistributedLock: Contender = {
  id: "effect-distributed-lock",
  package: "effect-distributed-lock",
  setUp: "a semaphore with one permit per turn, on ioredis 5, which it needs; waits on pub/sub",
  leavesOut: "no queue, no fencing token, no deadline per command",
  open: async ({ ttlMillis, url }) => {
    const client = new Redis(url)
    const runtime = ManagedRuntime.make(RedisBacking.layer(client as never))
    await runtime.runtime()
    const configOf = (limit: number) => ({ limit, ttl: Duration.millis(ttlMillis) })
    return {
      run: (load, meter) =>
        runtime.runPromise(
          callers(load, meter, (caller) => {
            const work = criticalSection(caller, meter)
            const config = configOf(load.limit ?? 1)
            return (key) =>
              Effect.flatMap(DistributedSemaphore.make(key, config), (semaphore) =>
                load.shape === "withLock"
                  ? semaphore.withPermits(1)(work)
                  : Effect.scoped(Effect.zipRight(semaphore.take(1), work))
              )
          })
        ),
      hold: (keys) =>
        hold(
          runtime,
          keys,
          (key) =>
            Effect.flatMap(DistributedSemaphore.make(key, configOf(1)), (semaphore) =>
              semaphore.take(1)
            ),
          // the fiber that renews ends when the lease is lost
          (renewing) => Effect.map(Fiber.poll(renewing), Option.isSome)
        ),
      close: async () => {
        await runtime.dispose()
        client.disconnect()
      }
    }
  }
}
