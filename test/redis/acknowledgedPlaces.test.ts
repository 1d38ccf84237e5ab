/** What replicas acknowledge behind Sentinels and in a Cluster: where a master dies, and where a slot moves. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Lock, type LockError, MultiLock, RedisLockStore } from "effect-redis-lock"
import { Cluster } from "ioredis"
import * as Failover from "../support/Failover.js"
import * as RedisCluster from "../support/RedisCluster.js"
import * as Replicas from "../support/Replicas.js"
import { ask } from "../support/stores.js"
import { failure, nothingLeft, quietly, RedisServer, storeOf } from "./support.js"

const terms = (within: number) => ({
  localHandoff: 0,
  commandTimeout: 4 * within,
  acknowledged: { replicas: 1, within }
})

const ttl = "1 minute"

const isTransient = (error: { readonly _tag: string; readonly transient?: boolean }): boolean =>
  error._tag === "LockStoreError" && error.transient === true

const unacknowledged = expect.objectContaining({
  _tag: "LockStoreError",
  transient: true,
  message: expect.stringContaining("0 of 1 replicas answered") as string
})

const groups = [
  ["behind Sentinels", Failover.sentinel],
  ["in a Cluster", Failover.cluster]
] as const

describe.each(groups)("%s", (_, make) => {
  it.scoped(
    "the next master has all that was granted, and none of what was not",
    () =>
      quietly(
        Effect.gen(function* () {
          const group = yield* make
          const key = group.keyOf("k")
          for (const store of [group.with(terms(1_500)).own, group.with(terms(1_500)).given]) {
            const { use } = yield* store
            const lease = yield* use(
              Effect.retry(Lock.acquire(key, { ttl }), { while: isTransient })
            )
            yield* lease.verify
            yield* lease.release
          }
          const { use } = yield* group.with(terms(1_500)).own
          const lease = yield* use(Effect.retry(Lock.acquire(key, { ttl }), { while: isTransient }))
          yield* group.cutOff
          const late = group.keyOf("late")
          expect(failure(yield* Effect.exit(use(Effect.scoped(Lock.tryAcquire(late)))))).toEqual(
            unacknowledged
          )
          yield* group.old.kill
          const next = yield* group.takeOver
          // (as soon as the store's connections are made)
          yield* Effect.retry(lease.verify, { while: isTransient })
          expect(yield* next.command("GET", key)).toBe(lease.token)
          expect(yield* next.command("GET", late)).toBeNull()
        })
      ),
    60_000
  )
})

describe("in a Cluster", () => {
  const clusterOf = Effect.gen(function* () {
    const cluster = yield* RedisCluster.make({ replicas: 1 })
    for (const master of cluster.masters) yield* Replicas.caughtUp(master, 1)
    return cluster
  })

  const own = ({ addresses }: RedisCluster.RedisCluster) =>
    storeOf(RedisLockStore.layerCluster({ nodes: [...addresses], ...terms(1_500) }))

  const given = ({ addresses }: RedisCluster.RedisCluster) =>
    Effect.flatMap(
      Effect.acquireRelease(
        Effect.sync(() => new Cluster([...addresses], { keyPrefix: "app:" })),
        (client) => Effect.sync(() => client.disconnect())
      ),
      (client) => storeOf(RedisLockStore.layerFromClient(client, terms(1_500)))
    )

  const stores = [
    ["a store's own connections", own, ""],
    ["a client of the user's", given, "app:"]
  ] as const

  it.scoped.each(stores)("each shard asks its own replicas: %s", ([, storeIn, prefix]) =>
    quietly(
      Effect.gen(function* () {
        const cluster = yield* clusterOf
        const { use } = yield* storeIn(cluster)
        const keys = Array.from({ length: 12 }, (_, index) => `k${index}`)
        yield* use(MultiLock.withLocks(keys, { ttl })(Effect.void))
        const master = yield* cluster.nodeOf(`${prefix}k0`)
        const infos = yield* Effect.forEach(cluster.replicas, ({ command }) =>
          Effect.map(command("INFO", "replication"), String)
        )
        const replica =
          cluster.replicas[
            infos.findIndex((info) => info.includes(`master_port:${master.port}\r`))
          ]!
        yield* Effect.acquireRelease(replica.stop, () => replica.cont)
        for (const key of keys) {
          const isHere = (yield* cluster.nodeOf(prefix + key)) === master
          const exit = yield* Effect.exit(use(Lock.withLock(key, { ttl })(Effect.void)))
          if (isHere) expect(failure(exit)).toEqual(unacknowledged)
          else expect(exit).toMatchObject({ _tag: "Success" })
        }
        yield* nothingLeft(master)
      })
    )
  )

  it.scoped.each(stores)(
    "what is held is renewed, and acknowledged, while its slot moves: %s",
    ([, storeIn, prefix]) =>
      quietly(
        Effect.gen(function* () {
          const cluster = yield* clusterOf
          const { use } = yield* storeIn(cluster)
          const claims = {
            lock: {},
            semaphore: { kind: "semaphore", limit: 3 }
          } as const
          const grants = yield* use(
            Effect.forEach(Object.entries(claims), ([name, claim]) =>
              Effect.retry(ask(`{tag}${name}`, { ...claim, ttlMillis: 60_000 }), {
                while: isTransient
              })
            )
          )
          const key = `${prefix}{tag}lock`
          const move = yield* cluster.beginMove(key, yield* cluster.otherThan(key))
          const renewed = Effect.forEach(grants, ({ renew }) =>
            Effect.retry(renew, { times: 20, while: isTransient })
          )
          expect((yield* renewed).map(({ _tag }) => _tag)).toEqual(["Renewed", "Renewed"])
          yield* move.migrate()
          expect((yield* renewed).map(({ _tag }) => _tag)).toEqual(["Renewed", "Renewed"])
          yield* move.finish
          expect((yield* renewed).map(({ _tag }) => _tag)).toEqual(["Renewed", "Renewed"])
          for (const { release } of grants) expect(yield* release).toBe("Ours")
          const again = yield* use(
            Effect.retry(ask("{tag}lock"), {
              while: (
                error: LockError.LockUnavailable | LockError.LockLost | LockError.LockStoreError
              ) => isTransient(error)
            })
          )
          yield* again.release
          yield* nothingLeft(move.to)
        })
      ),
    60_000
  )

  it.scoped(
    "renewals count while the slot's keys are in two places only where they are found",
    () =>
      quietly(
        Effect.gen(function* () {
          const cluster = yield* clusterOf
          const { use } = yield* own(cluster)
          const grant = yield* use(
            Effect.retry(ask("{tag}lock", { ttlMillis: 60_000 }), { while: isTransient })
          )
          const move = yield* cluster.beginMove("{tag}lock", yield* cluster.otherThan("{tag}lock"))
          yield* move.migrate(["{tag}lock"])
          // (by its first key alone, which is at the target by now)
          const renewed = yield* Effect.retry(grant.renew, { times: 20, while: isTransient })
          expect(renewed).toMatchObject({ _tag: "Renewed" })
          yield* move.migrate()
          yield* move.finish
          yield* grant.release
          yield* RedisServer.eventually(
            Effect.map(move.to.command("EXISTS", "{tag}lock"), (count) => count === 0)
          )
        })
      )
  )
})
