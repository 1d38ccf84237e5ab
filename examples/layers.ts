/**
 * The store as a layer: it is made from Config, bound to one constant, and used by a service that
 * does not show it to its callers.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Config, Console, Effect, Layer, Option } from "effect"
import { Lock, LockStore, MemoryLockStore, RedisLockStore } from "effect-redis-lock"

const RedisLocks = RedisLockStore.layerConfig({
  url: Config.redacted("REDIS_URL"),
  prefix: Config.withDefault(Config.string("LOCK_PREFIX"), "examples:"),
  commandTimeout: Config.withDefault(Config.duration("LOCK_TIMEOUT"), "2 seconds")
})

// A constant: layers are shared by reference, and a function would make a connection for each call.
const LocksLive = Layer.unwrapEffect(
  Effect.map(
    Config.option(Config.nonEmptyString("REDIS_URL")),
    Option.match({ onNone: () => MemoryLockStore.layer, onSome: () => RedisLocks })
  )
)

/** Its methods do not require the store of their callers. */
class Invoices extends Effect.Service<Invoices>()("Invoices", {
  effect: Effect.gen(function* () {
    const locks = yield* LockStore.LockStore
    const settled = new Set<string>()

    const settle = (id: string) =>
      Effect.gen(function* () {
        if (settled.has(id)) return "was settled already"
        yield* Effect.sleep("50 millis")
        settled.add(id)
        return "settled"
      }).pipe(
        Lock.withLock(`invoice:${id}`, { name: "invoice", waitAtMost: "10 seconds" }),
        Effect.provideService(LockStore.LockStore, locks)
      )

    return { settle }
  }),
  dependencies: [LocksLive]
}) {}

const program = Effect.gen(function* () {
  const invoices = yield* Invoices
  const ids = ["42", "42", "43"]
  const outcomes = yield* Effect.forEach(ids, invoices.settle, { concurrency: "unbounded" })
  for (const [index, id] of ids.entries()) yield* Console.log(`invoice ${id}: ${outcomes[index]}`)
})

program.pipe(Effect.provide(Invoices.Default), NodeRuntime.runMain)
