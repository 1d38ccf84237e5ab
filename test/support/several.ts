/** Several keys, those who have some of them, and those who wait. */
import { expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { Lock, LockStore } from "effect-redis-lock"
import * as RedisServer from "./RedisServer.js"
import { freshKey, StoreControls } from "./stores.js"

/** So many keys that no other test uses, in the order in which they are taken. */
export const freshKeys = (count: number): ReadonlyArray<string> => {
  const key = freshKey()
  return Array.from({ length: count }, (_, index) => `${key}-${String(index).padStart(2, "0")}`)
}

export const unavailable = (key: string) =>
  expect.objectContaining({ _tag: "LockUnavailable", key })

/** Somebody who has a lock until told otherwise. */
export const holder = (key: string, options?: Lock.WaitOptions) =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) =>
      Scope.close(scope, Exit.void)
    )
    const lease = yield* Scope.extend(Lock.acquire(key, options), scope)
    return { lease, release: Scope.close(scope, Exit.void) }
  })

export const lookAt = (key: string) =>
  Effect.flatMap(LockStore.LockStore, ({ look }) => Effect.orDie(look!(key, 100)))

/** Waits until something is so; a test that waits in vain runs into its timeout. */
export const until = (condition: () => boolean) =>
  Effect.asVoid(Effect.repeat(Effect.sleep(1), { until: () => condition() }))

/** Somebody who waits, and whose warnings say what for. */
export const waiter = <A, E, R>(wait: (options: Lock.WaitOptions) => Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const { layer, lines } = warnings()
    const fiber = yield* Effect.fork(
      Effect.provide(wait({ warnAfter: 5, ttl: "20 seconds" }), layer)
    )
    const waitsFor = (key: string) =>
      until(() => lines.at(-1)?.includes(JSON.stringify(key)) === true)
    return { fiber, waitsFor }
  })

export const untilFree = (key: string) =>
  Effect.asVoid(
    Effect.repeat(Effect.zipLeft(lookAt(key), Effect.sleep(2)), {
      until: ({ heldCount, pendingCount }) => heldCount + pendingCount === 0
    })
  )

export const isPending = (fiber: Fiber.Fiber<unknown, unknown>) =>
  Effect.map(Fiber.poll(fiber), Option.isNone)

export const warnings = () => {
  const lines: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => {
    if (logLevel.label === "WARN") lines.push([message].flat().map(String).join(" "))
  })
  return { lines, layer: Logger.replace(Logger.defaultLogger, logger) }
}

/** Behind the holder's back: the key is gone. */
export const takeAwayOf = (store: LockStore.LockStore, key: string, fencingToken: number) =>
  Effect.gen(function* () {
    const controls = yield* Effect.serviceOption(StoreControls)
    if (Option.isSome(controls)) {
      return yield* controls.value.takeAway({ key, fencingToken } as never)
    }
    if (store.revoke !== undefined) return yield* Effect.orDie(store.revoke(key, fencingToken))
    const server = yield* Effect.serviceOption(RedisServer.RedisServer)
    yield* Option.getOrThrow(server).command("DEL", key)
  })
