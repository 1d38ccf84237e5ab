/** A quorum: what it refuses, and what it needs. */
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import {
  Lock,
  LockStore,
  MemoryLockStore,
  MultiLock,
  QuorumLockStore,
  ReadWriteLock,
  RedisLockStore,
  Semaphore
} from "effect-redis-lock"

const memory = MemoryLockStore.layer
const three = [memory, memory, memory]
const quorum = QuorumLockStore.layer({ nodes: three, longestTtl: "10 seconds" })

const defectOf = (exit: Exit.Exit<unknown, unknown>): string => {
  const [defect] = Exit.isFailure(exit) ? Cause.defects(exit.cause) : []
  return defect instanceof Cause.IllegalArgumentException ? defect.message : String(exit)
}

const impossible = (options: unknown) =>
  Effect.map(
    Effect.exit(Effect.scoped(QuorumLockStore.make(options as QuorumLockStore.Options))),
    defectOf
  )

describe("a quorum", () => {
  it.effect("needs an odd number of nodes, and at least three", () =>
    Effect.gen(function* () {
      expect(yield* impossible({ nodes: [] })).toContain("Impossible lock option nodes: 0.")
      expect(yield* impossible({ nodes: [memory] })).toContain("nodes: 1.")
      expect(yield* impossible({ nodes: [memory, memory] })).toContain("nodes: 2.")
      expect(yield* impossible({ nodes: [...three, memory] })).toContain(
        "nodes: 4. A quorum needs an odd number of nodes"
      )
      expect(yield* impossible({ nodes: "redis" })).toContain('nodes: "redis"')
      expect(yield* impossible({ nodes: three, longestTtl: 0 })).toContain("longestTtl: 0 ms")
      expect(yield* impossible({ nodes: three, nodeTimeout: Infinity })).toContain("nodeTimeout: ")
      expect(yield* impossible({ nodes: three, defaults: { ttl: 0 } })).toContain("ttl: 0 ms")
    })
  )

  it.effect("needs stores that can be nodes", () =>
    Effect.gen(function* () {
      const copy = Layer.map(memory, (context) =>
        Context.make(LockStore.LockStore, { ...Context.get(context, LockStore.LockStore) })
      )
      for (const node of [copy, quorum, RedisLockStore.layerCluster({ nodes: ["127.0.0.1:1"] })]) {
        expect(yield* impossible({ nodes: [memory, node, memory] })).toContain(
          "node 2 cannot be a node of a quorum"
        )
      }
    })
  )

  it.effect("is told a store that is named twice by its first operation", () =>
    Effect.gen(function* () {
      const store = yield* MemoryLockStore.make
      const same = Layer.succeed(LockStore.LockStore, store)
      const locks = QuorumLockStore.layer({ nodes: [same, memory, same] })
      const error = yield* Effect.flip(
        Effect.provide(Lock.withLock("key")(Effect.die("ran")), locks)
      )
      expect(error).toMatchObject({
        _tag: "LockStoreError",
        transient: false,
        detail: expect.stringContaining("nodes 1 and 3 are the same server")
      })
    })
  )

  it.effect("refuses what it cannot keep, and says why", () =>
    Effect.gen(function* () {
      const refusal = (detail: string) => ({
        _tag: "LockStoreError",
        operation: "acquire",
        transient: false,
        detail: expect.stringContaining(detail)
      })
      const permits = Semaphore.withPermits("key", { limit: 2 })(Effect.die("ran"))
      expect(yield* Effect.flip(permits)).toMatchObject(
        refusal("no semaphore: it is a quorum, whose nodes count holders each by itself")
      )
      expect(yield* Effect.flip(permits)).toMatchObject(
        refusal("Of three nodes that let two in, three callers can have two nodes each.")
      )
      const reader = ReadWriteLock.withReadLock("key")(Effect.die("ran"))
      expect(yield* Effect.flip(reader)).toMatchObject(refusal("no readWriteLock: it is a quorum"))
    }).pipe(Effect.provide(quorum))
  )

  it.effect("has no lock with a longer ttl than its longest", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(
        Lock.withLock("key", { ttl: "11 seconds" })(Effect.die("ran"))
      )
      expect(defectOf(exit)).toContain(
        "Impossible lock option ttl: 11000 ms. It must be at most longestTtl"
      )
      const held = yield* Effect.exit(
        Lock.withLock("key", { holdAtLeast: "1 minute" })(Effect.die("ran"))
      )
      expect(defectOf(held)).toContain("option holdAtLeast: 60000 ms.")
    }).pipe(Effect.provide(quorum))
  )

  it.effect("takes several keys at once, all or none", () =>
    Effect.gen(function* () {
      yield* MultiLock.withLocks(["b", "a"])((lease) =>
        Effect.gen(function* () {
          expect(lease.fencingToken("a")).toBeGreaterThan(0)
          const busy = yield* Effect.flip(Effect.scoped(Lock.tryAcquire("b")))
          expect(busy._tag).toBe("LockUnavailable")
        })
      )
      yield* Effect.scoped(Lock.tryAcquire("a"))
    }).pipe(Effect.provide(quorum))
  )
})
