/**
 * Servers on which locks cannot work: that run no scripts, or have no time for them. The first operation
 * says so in a sentence, whatever it is, and nothing is left on the server.
 */
import { assert, expect, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import {
  Lock,
  LockError,
  type LockStore,
  ReadWriteLock,
  RedisLockStore,
  Semaphore
} from "effect-redis-lock"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { createHash } from "node:crypto"
import { noScript } from "../../src/internal/redis/client.js"
import { explain } from "../../src/internal/redis/errors.js"
import { inside } from "../support/inside.js"
import * as LyingProxy from "../support/LyingProxy.js"
import { keysOf } from "../support/Queue.js"
import {
  connectedClient,
  environment,
  FaultProxy,
  nothingLeft,
  pttl,
  quietly,
  RedisServer,
  serverMicros,
  storeOf,
  untilTogether
} from "./support.js"

const ttl = "1 minute"
const key = "k"
const [lock, record] = keysOf(key)

/** Whatever a program may do first. */
const firsts: Readonly<Record<string, Effect.Effect<unknown, unknown, LockStore.LockStore>>> = {
  withLock: Lock.withLock(key, { ttl })(Effect.void),
  acquire: Effect.scoped(Lock.acquire(key, { ttl })),
  tryAcquire: Effect.scoped(Lock.tryAcquire(key, { ttl })),
  "with maxHold": Lock.withLock(key, { ttl, maxHold: ttl })(Effect.void),
  "a semaphore": Semaphore.withPermits(key, { limit: 2, ttl })(Effect.void),
  "a reader": ReadWriteLock.withReadLock(key, { ttl })(Effect.void),
  "a writer": ReadWriteLock.withWriteLock(key, { ttl })(Effect.void),
  inUse: Semaphore.inUse(key),
  forceRelease: Lock.forceRelease(key, 1_800_000_000_000_000)
}

/** Each of them on a store that has sent nothing before: its errors' messages. */
const refusedOn = (url: string) =>
  quietly(
    Effect.forEach(Object.entries(firsts), ([name, first]) =>
      Effect.scoped(
        Effect.gen(function* () {
          const { use } = yield* storeOf(RedisLockStore.layer({ url }))
          const error = yield* Effect.flip(first.pipe(use))
          assert(error instanceof LockError.LockStoreError, name)
          assert(!error.transient, name)
          return error.message
        })
      )
    )
  )

const expectSentence = (messages: ReadonlyArray<string>, ...parts: ReadonlyArray<RegExp>) => {
  expect(messages).toHaveLength(Object.keys(firsts).length)
  for (const message of messages) {
    for (const part of parts) expect(message).toMatch(part)
    // neither a script's text nor where in it the error was
    expect(message.length).toBeLessThan(450)
    expect(message).not.toMatch(/local |user_script|args beginning/)
  }
}

const noScripts = /Locks need Lua scripts, by EVAL and EVALSHA: this server, or a proxy before it/
const noTime = /Locks need the server's clock: its scripts must be able to ask TIME/
const acl = /The ACL gives this Redis user no permissions for a command or a key that locks need/

for (const [renamed, ...parts] of [
  ["EVAL", /unknown command 'eval'/i, noScripts],
  ["EVALSHA", /unknown command 'evalsha'/i, noScripts],
  ["TIME", /TIME is refused in scripts: .*nknown/, noTime]
] as const) {
  layer(RedisServer.layer({ args: ["--rename-command", renamed, ""] }), {
    excludeTestServices: true
  })(`a server without ${renamed}`, (it) => {
    it.scoped("is told from the first operation, and keeps nothing of it", () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        expectSentence(yield* refusedOn(server.url), ...parts)
        yield* nothingLeft(server)
        // (what is refused by its digest has been taken, and given back)
        if (renamed !== "EVALSHA") expect(yield* server.dump).toEqual([])
      })
    )
  })
}

layer(RedisServer.layer(), { excludeTestServices: true })("a user who may not", (it) => {
  for (const [rule, ...parts] of [
    ["-eval", /'eval'/, acl],
    ["-evalsha", /'evalsha'/, acl],
    ["-@scripting", /'eval(sha)?'/, acl],
    ["-time", /TIME is refused in scripts: .*(can't run|permissions)/, acl]
  ] as const) {
    it.scoped(`${rule} is told so by the first operation, and leaves nothing`, () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const user = `user${rule.replace(/\W/g, "")}`
        yield* server.command("ACL", "SETUSER", user, "on", "nopass", "~*", "&*", "+@all", rule)
        const url = `redis://${user}:any@127.0.0.1:${server.port}`
        expectSentence(yield* refusedOn(url), ...parts)
        yield* nothingLeft(server)
      })
    )
  }
})

it("what services say that run none, and what to do", () => {
  for (const said of [
    "ERR unknown command `EVAL`, with args beginning with: `local",
    "ERR unsupported command 'evalsha'",
    "ERR This instance has Lua scripting support disabled",
    "ERR command eval not support for normal user"
  ]) {
    expect(explain(new Error(said))).toMatch(noScripts)
  }
  const tair =
    "ERR bad lua script for redis cluster, all the keys that the script uses should be passed using the KEYS array, and KEYS should not be in expression"
  expect(explain(new Error(tair))).toMatch(/switch that off \(script_check_enable\)/)
  const serverless =
    "ERR NOTIME TIME is refused in scripts: ERR This Redis command is not allowed from script script: 0000000000000000000000000000000000000000, on @user_script:6."
  expect(explain(new Error(serverless))).toBe(
    "NOTIME TIME is refused in scripts: ERR This Redis command is not allowed from script. Locks need the server's clock: its scripts must be able to ask TIME. See docs/guarantees.md, Servers."
  )
})

/** Makes every script's TIME answer 0 0, as a server's that has none for them. */
const timeless = (): LyingProxy.Change & { isOn: boolean } => {
  const changed = new Map<string, string>()
  const sha = (lua: string) => createHash("sha1").update(lua).digest("hex")
  const change: LyingProxy.Change = ([name, text, ...rest]) => {
    if (!state.isOn || text === undefined || !/^eval(sha)?$/i.test(name!)) return undefined
    // (what was never sent through here is asked for in full)
    if (/^evalsha$/i.test(name!)) return [name!, changed.get(text) ?? sha(text), ...rest]
    const lua = text.replaceAll(/redis\.p?call\('TIME'\)/g, "{ '0', '0' }")
    changed.set(sha(text), sha(lua))
    return [name!, lua, ...rest]
  }
  const state = Object.assign(change, { isOn: true })
  return state
}

layer(RedisServer.layer(), { excludeTestServices: true })("TIME answers 0 0 in scripts", (it) => {
  const says = /TIME answers 0 0 in scripts\. Locks need the server's clock/

  it.scoped("the first operation says so, whatever it is, and nothing is written", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const { url } = yield* LyingProxy.make(server.port, timeless())
      expectSentence(yield* refusedOn(url), says, noTime)
      expect(yield* server.dump).toEqual([])
    })
  )

  it.scoped("no fencing token goes on from the last one, and none goes back", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      const fence = Effect.map(Effect.scoped(Lock.acquire(key, { ttl })), (it) => it.fencingToken)
      const before = yield* use(fence)
      const known = yield* server.command("GET", record)
      const { url } = yield* LyingProxy.make(server.port, timeless())
      expectSentence(yield* refusedOn(url), says)
      expect(yield* server.dump).toEqual([record])
      expect(yield* server.command("GET", record)).toBe(known)
      const asked = yield* serverMicros(server)
      const after = yield* use(fence)
      expect(after).toBeGreaterThan(before)
      expect(after).toBeGreaterThanOrEqual(asked)
    })
  )

  it.scoped("who holds a lock keeps it, and those behind such a server do not look queued", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      yield* Effect.gen(function* () {
        const lease = yield* Lock.acquire(key, { ttl })
        const { url } = yield* LyingProxy.make(server.port, timeless())
        const store = yield* storeOf(RedisLockStore.layer({ url }))
        const error = yield* Effect.flip(Effect.scoped(Lock.acquire(key, { ttl })).pipe(store.use))
        expect(error.message).toMatch(says)
        expect(yield* server.dump).toEqual([lock, record].sort())
        expect(yield* pttl(server, lock)).toBeGreaterThan(0)
        yield* lease.verify
      }).pipe(Effect.scoped, use)
    })
  )

  it.scoped(
    "locks that travel together are refused one by one, and taken again when it is back",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const change = timeless()
        change.isOn = false
        const { url } = yield* LyingProxy.make(server.port, change)
        const { store, use } = yield* storeOf(RedisLockStore.layer({ url }))
        yield* untilTogether({ store, use })
        const keys = Array.from({ length: 40 }, (_, index) => `k-${index}`)
        const all = Effect.forEach(
          keys,
          (key) => Effect.exit(Lock.withLock(key, { ttl })(Effect.void)),
          { concurrency: "unbounded" }
        ).pipe(use)
        yield* server.flush
        change.isOn = true
        const refused = yield* quietly(all)
        for (const exit of refused) expect(String(exit)).toMatch(says)
        expect(yield* server.dump).toEqual([])
        change.isOn = false
        for (const exit of yield* all) expect(exit._tag).toBe("Success")
      })
  )
})

interface Inside {
  readonly around: { readonly commands: { readonly transport: { readonly isReady: boolean } } }
}

layer(RedisServer.layer(), { excludeTestServices: true })("a look", (it) => {
  const cycle = Lock.withLock(key, { ttl })(Effect.void)
  const scripts = (proxy: FaultProxy.FaultProxy) =>
    proxy.commands
      .filter(([name]) => name!.toLowerCase().startsWith("eval"))
      .map(([name, script]) => (script === noScript ? "look" : name!.toLowerCase()))

  const stores = {
    own: (url: string) => Effect.succeed(RedisLockStore.layer({ url })),
    "on a client": (url: string) =>
      Effect.map(connectedClient(Number(new URL(url).port)), (client) =>
        RedisLockStore.layerFromClient(client)
      )
  }
  for (const [name, layerOf] of Object.entries(stores)) {
    it.scoped(`costs one question beside the first command, and no time: ${name}`, () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const proxy = yield* FaultProxy.make(server.port)
        const { store, use } = yield* storeOf(yield* layerOf(proxy.url))
        const { commands } = inside<Inside>(store).around
        yield* RedisServer.eventually(Effect.sync(() => commands.transport.isReady))
        // neither waits for the other's answer
        proxy.holdReplies()
        const first = yield* Effect.fork(cycle.pipe(use))
        yield* proxy.until(() => scripts(proxy).length === 2)
        expect(scripts(proxy)).toEqual(["look", "eval"])
        proxy.releaseReplies()
        yield* Fiber.join(first)
        expect(scripts(proxy)).toEqual(["look", "eval", "eval"])
        proxy.forget()
        yield* cycle.pipe(use)
        expect(scripts(proxy)).toEqual(["evalsha", "evalsha"])
      })
    )

    it.scoped(`that is refused fails what was sent beside it, and is repeated: ${name}`, () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const proxy = yield* LyingProxy.make(server.port)
        const { use } = yield* storeOf(yield* layerOf(proxy.url))
        proxy.lie(([name]) =>
          /^evalsha$/i.test(name!) ? "-ERR unknown command 'evalsha'\r\n" : undefined
        )
        const ends = yield* quietly(
          Effect.forEach(["a", "b", "c"], (key) => Effect.exit(Lock.withLock(key)(Effect.void)), {
            concurrency: "unbounded"
          }).pipe(use)
        )
        for (const exit of ends) expect(String(exit)).toMatch(noScripts)
        const again = yield* quietly(Effect.exit(Lock.withLock("a")(Effect.void).pipe(use)))
        expect(String(again)).toMatch(noScripts)
        yield* nothingLeft(server)
        proxy.relent()
        // (what was refused before may still be on its way)
        yield* RedisServer.eventually(
          Effect.map(quietly(Effect.exit(cycle.pipe(use))), Exit.isSuccess)
        )
      })
    )
  }
})
