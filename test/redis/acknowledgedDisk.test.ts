/**
 * Grants that must be on a disk: what a server says that cannot do that (before 7.2, or without an append-only
 * file), and what one does that can. Which the server of the tests is, it says itself: `npm run test:servers`
 * runs them on Valkey.
 */
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Lock, type LockStore, RedisLockStore } from "effect-redis-lock"
import * as Replicas from "../support/Replicas.js"
import { ask } from "../support/stores.js"
import { failure, nothingLeft, RedisServer, storeOf } from "./support.js"

const withFile = RedisServer.flags({ appendonly: "yes", appendfsync: "always" })

const storeAt = (url: string, acknowledged: RedisLockStore.Acknowledged, commandTimeout = 10_000) =>
  storeOf(RedisLockStore.layer({ url, commandTimeout, acknowledged }))

/** Whether the server has WAITAOF, which came with 7.2. */
const knowsDisks = ({ command }: RedisServer.RedisProcess) =>
  Effect.map(
    command("COMMAND", "INFO", "WAITAOF"),
    (found) => (found as ReadonlyArray<unknown>)[0] !== null
  )

const refused = (why: string) =>
  expect.objectContaining({
    _tag: "LockStoreError",
    transient: false,
    detail: expect.stringContaining(
      `It was not acknowledged, so it does not count. The option acknowledged.disk is true, and the server says: ${why}`
    ) as string
  })

it.scoped("without an append-only file, or before 7.2, that is said, and nothing is locked", () =>
  Effect.gen(function* () {
    const server = yield* RedisServer.make()
    const { use } = yield* storeAt(server.url, { disk: true })
    const exit = yield* Effect.exit(use(Lock.withLock("k")(Effect.die("is in"))))
    expect(failure(exit)).toEqual(
      (yield* knowsDisks(server))
        ? refused(
            "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled. Start the server with appendonly yes."
          )
        : refused("ERR unknown command 'WAITAOF'. Servers from 7.2 on know WAITAOF.")
    )
    yield* nothingLeft(server)
  })
)

const claims: ReadonlyArray<Partial<LockStore.Claim>> = [
  { ttlMillis: 60_000 },
  { ttlMillis: 60_000, waitMillis: 1_000 },
  { ttlMillis: 60_000, kind: "semaphore", limit: 3 }
]

it.scoped("what is granted and renewed is there after a crash of the server", () =>
  Effect.gen(function* () {
    const server = yield* RedisServer.make({ args: withFile })
    const can = yield* knowsDisks(server)
    const { use } = yield* storeAt(server.url, { disk: true })
    for (const [index, claim] of claims.entries()) {
      const asked = use(ask(`k${index}`, claim))
      if (!can) {
        expect(yield* Effect.flip(asked)).toEqual(refused("ERR unknown command 'WAITAOF'"))
        continue
      }
      const grant = yield* asked
      expect(yield* grant.renew).toMatchObject({ _tag: "Renewed" })
      yield* server.restart
      yield* RedisServer.eventually(
        Effect.orElseSucceed(
          Effect.map(grant.verify, (found) => found === "Ours"),
          () => false
        )
      )
      expect(yield* grant.release).toBe("Ours")
    }
    yield* nothingLeft(server)
  })
)

it.scoped("what is not on the disk in time does not count", () =>
  Effect.gen(function* () {
    const args = RedisServer.flags({ appendonly: "yes", appendfsync: "no" })
    const server = yield* RedisServer.make({ args })
    const can = yield* knowsDisks(server)
    const { use } = yield* storeAt(server.url, { disk: true, within: 200 })
    const exit = yield* Effect.exit(use(Lock.withLock("k")(Effect.die("is in"))))
    if (can) {
      expect(failure(exit)).toMatchObject({
        transient: true,
        detail: expect.stringContaining("It was not on the server's disk within 200 ms.") as string
      })
    } else {
      expect(failure(exit)).toEqual(refused("ERR unknown command 'WAITAOF'"))
    }
    yield* nothingLeft(server)
  })
)

it.scoped("with replicas, it is on so many of their disks as well", () =>
  Effect.gen(function* () {
    const { master, replicas } = yield* Replicas.make(1, { args: withFile })
    const can = yield* knowsDisks(master)
    const { use } = yield* storeAt(master.url, { disk: true, replicas: 1, within: 2_000 })
    const lockOnce = use(Lock.withLock("k")(Effect.succeed("in")))
    if (!can) {
      expect(yield* Effect.flip(lockOnce)).toEqual(refused("ERR unknown command 'WAITAOF'"))
      return
    }
    expect(yield* lockOnce).toBe("in")
    yield* replicas[0]!.command("CONFIG", "SET", "appendonly", "no")
    expect(yield* Effect.flip(lockOnce)).toMatchObject({
      transient: true,
      detail: expect.stringContaining("0 of 1 replicas answered within 2000 ms.") as string
    })
    yield* nothingLeft(master)
  })
)
