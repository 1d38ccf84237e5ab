/** A master that is one no more, and Sentinels that do not say which one is: the own client goes on. */
import { expect, layer } from "@effect/vitest"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { Lock, RedisLockStore } from "effect-redis-lock"
import * as LyingProxy from "../support/LyingProxy.js"
import { movable } from "../support/movable.js"
import * as RedisSentinel from "../support/RedisSentinel.js"
import {
  environment,
  failure,
  FaultProxy,
  nothingLeft,
  quietly,
  RedisServer,
  storeOf,
  timed,
  undisturbed
} from "./support.js"

const ttl = "1 minute"

const lockOnce = Lock.withLock("k", { ttl })(Effect.succeed("done"))

/** How many connections there have been. */
const connectionsMade = (proxy: FaultProxy.FaultProxy): number =>
  Math.max(0, ...proxy.connections.map(({ id }) => id))

layer(RedisServer.layer(), { excludeTestServices: true })("a master that was demoted", (it) => {
  it.scoped("is left for the new one, to which its address leads", () =>
    quietly(
      Effect.gen(function* () {
        const [old, next] = [yield* RedisServer.make(), yield* RedisServer.RedisServer]
        yield* next.flush
        const address = yield* movable(old.port)
        const { use } = yield* storeOf(
          RedisLockStore.layer({ url: `redis://127.0.0.1:${address.port}` })
        )
        expect(yield* lockOnce.pipe(use)).toBe("done")
        address.leadTo(next.port)
        yield* old.command("REPLICAOF", "127.0.0.1", next.port)
        // it keeps its connections, and refuses
        const { exit } = yield* timed(lockOnce.pipe(use))
        expect(String(exit)).toContain("The server is a read-only replica")
        yield* RedisServer.eventually(Effect.map(Effect.exit(lockOnce.pipe(use)), Exit.isSuccess))
        const lease = yield* Lock.acquire("k", { ttl }).pipe(use)
        expect(yield* next.command("GET", "k")).toBe(lease.token)
      })
    )
  )

  it.scoped("is connected to again once in a command deadline where it is all that there is", () =>
    quietly(
      undisturbed(
        20,
        Effect.gen(function* () {
          const { proxy, server, use } = yield* environment({ commandTimeout: 500 })
          yield* Effect.addFinalizer(() => server.command("REPLICAOF", "NO", "ONE"))
          yield* lockOnce.pipe(use)
          const before = connectionsMade(proxy)
          yield* server.command("REPLICAOF", "127.0.0.1", 1)
          const { millis } = yield* timed(
            RedisServer.eventually(
              Effect.map(
                Effect.exit(lockOnce.pipe(use)),
                () => connectionsMade(proxy) >= before + 3
              )
            )
          )
          // the first at once, the others a deadline after the one before, however long that took
          expect(connectionsMade(proxy) - before).toBeLessThanOrEqual(1 + Math.ceil(millis / 500))
          expect(millis).toBeGreaterThan(1_000)
          yield* server.command("REPLICAOF", "NO", "ONE")
          expect(yield* lockOnce.pipe(use)).toBe("done")
          yield* nothingLeft(server)
        })
      )
    )
  )

  it.scoped("is known by the words of a Redis before 7, too", () =>
    quietly(
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const proxy = yield* FaultProxy.make(server.port)
        const liar = yield* LyingProxy.make(proxy.port)
        const { use } = yield* storeOf(RedisLockStore.layer({ url: liar.url }))
        yield* lockOnce.pipe(use)
        const said = "READONLY You can't write against a read only replica."
        liar.lie(([name = ""]) =>
          /^eval/i.test(name)
            ? `-ERR Error running script (call to f_4f2c): @user_script:9: @user_script: 9: -${said}\r\n`
            : undefined
        )
        const { exit } = yield* timed(lockOnce.pipe(use))
        expect(failure(exit)).toMatchObject({
          _tag: "LockStoreError",
          detail: `${said} The server is a read-only replica: connect to the master, or through Sentinel.`
        })
        yield* proxy.until(() => connectionsMade(proxy) === 2)
        liar.relent()
        yield* nothingLeft(server)
        expect(yield* lockOnce.pipe(use)).toBe("done")
      })
    )
  )
})

layer(RedisServer.layer(), { excludeTestServices: true })("a Sentinel that says nothing", (it) => {
  it.scoped("is passed over for the next one", () =>
    quietly(
      Effect.gen(function* () {
        const group = yield* RedisSentinel.make({ replicas: 0, sentinels: 1 })
        const silent = { host: "127.0.0.1", port: yield* LyingProxy.stranger({}) }
        const { use } = yield* storeOf(
          RedisLockStore.layerConfig({
            redis: {
              name: Config.succeed<string>(group.name),
              sentinels: Config.succeed([silent, ...group.addresses])
            },
            commandTimeout: Config.succeed("1 second")
          })
        )
        yield* RedisServer.eventually(
          Effect.map(Effect.exit(lockOnce.pipe(use)), Exit.isSuccess)
        ).pipe(Effect.timeout("15 seconds"))
      })
    )
  )

  it.scoped("is let go of, though it is all that there is, when the store closes", () =>
    quietly(
      Effect.gen(function* () {
        const sentinel = yield* FaultProxy.make(yield* LyingProxy.stranger({}))
        const { close, use } = yield* storeOf(
          RedisLockStore.layer({
            redis: { name: "m", sentinels: [{ host: sentinel.host, port: sentinel.port }] },
            commandTimeout: "500 millis"
          })
        )
        const { exit, millis } = yield* timed(lockOnce.pipe(use))
        expect(failure(exit)).toMatchObject({ _tag: "LockStoreError", operation: "acquire" })
        expect(millis).toBeLessThan(2_000)
        const closed = yield* timed(close)
        expect(closed.millis).toBeLessThan(2_000)
        yield* sentinel.until(() => sentinel.connections.length === 0)
      })
    )
  )
})
