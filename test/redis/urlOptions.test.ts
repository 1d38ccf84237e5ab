/** Options in the query of a URL: what the store decides is not decided there. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { Lock, type LockStore, RedisLockStore } from "effect-redis-lock"
import { environment, RedisServer, storeOf } from "./support.js"
import { inside } from "../support/inside.js"

/** The options of the connections that a store makes. */
const clientOptions = (store: LockStore.LockStore): Readonly<Record<string, unknown>> =>
  inside<{
    readonly around: {
      readonly commands: { readonly transport: { readonly options: Record<string, unknown> } }
    }
  }>(store).around.commands.transport.options

const decided = {
  maxRetriesPerRequest: null,
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false
}

layer(RedisServer.layer(), { excludeTestServices: true })("the query of a URL", (it) => {
  for (const query of [
    "maxRetriesPerRequest=0",
    "commandTimeout=1",
    "enableOfflineQueue=",
    "autoResendUnfulfilledCommands=",
    "commandTimeout=1&commandTimeout=2&enableOfflineQueue=false&maxRetriesPerRequest=1"
  ]) {
    it.scoped(`does not decide how commands are retried: ${query}`, () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        const url = `${server.url}/?${query}`
        for (const input of [url, Redacted.make(url)]) {
          const { store } = yield* storeOf(RedisLockStore.layer({ url: input }))
          const options = clientOptions(store)
          expect(options).toMatchObject(decided)
          expect(options["commandTimeout"]).toBeUndefined()
        }
      })
    )
  }

  it.scoped("neither makes a command fail that finds no connection, nor one on its way", () =>
    Effect.gen(function* () {
      const { proxy } = yield* environment()
      const { use } = yield* storeOf(
        RedisLockStore.layer({
          url: `${proxy.url}?enableOfflineQueue=&autoResendUnfulfilledCommands=&commandTimeout=1`
        })
      )
      proxy.delay({ toClient: 30 })
      const lease = yield* Lock.acquire("k", { ttl: "1 minute" }).pipe(use)
      const trap = proxy.resetAfterApply((args) => args.includes("k"))
      yield* lease.verify
      expect(trap.count).toBe(1)
      proxy.cutAll()
      yield* lease.verify
      yield* lease.release
    })
  )

  it.scoped("decides what is the user's: a database, a keyPrefix, beside a password", () =>
    Effect.gen(function* () {
      const { server } = yield* environment()
      const url = `redis://127.0.0.1:${server.port}/3?commandTimeout=1&keyPrefix=mine%3A%26&connectionName=me`
      const { store, use } = yield* storeOf(RedisLockStore.layer({ url }))
      yield* Lock.withLock("k")(
        Effect.gen(function* () {
          yield* server.command("SELECT", 3)
          const keys = yield* Effect.ensuring(
            server.command("KEYS", "mine:&*"),
            server.command("SELECT", 0)
          )
          expect(keys).toContain("mine:&k")
        })
      ).pipe(use)
      expect(clientOptions(store)).toMatchObject({ ...decided, connectionName: "me" })
    })
  )

  it.scoped("keeps a password as it was, with characters that a URL encodes", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      const password = "p@ss:w/o?r&d=é#"
      yield* server.command("ACL", "SETUSER", "odd", "on", `>${password}`, "~*", "&*", "+@all")
      const { use } = yield* storeOf(
        RedisLockStore.layer({
          url: `redis://odd:${encodeURIComponent(password)}@127.0.0.1:${server.port}/0?commandTimeout=1`
        })
      )
      yield* Lock.withLock("k")(Effect.void).pipe(use)
    })
  )
})
