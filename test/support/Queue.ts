/**
 * The queue of a key, seen from outside (what the server has) and from inside (what a store keeps),
 * and the callers that stand in it.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { Lock, RedisLockStore, type Lease, type LockError, type LockStore } from "effect-redis-lock"
import type { Redis } from "ioredis"
import { type LockKeys, lockKeys, revokedKey } from "../../src/internal/redis/layout.js"
import type { Script } from "../../src/internal/redis/scripts.js"
import * as scripts from "../../src/internal/redis/scripts.js"
import * as FaultProxy from "./FaultProxy.js"
import * as RedisServer from "./RedisServer.js"
import { storeOf, type Environment } from "../redis/support.js"
import { inside } from "./inside.js"

// -----------------------------------------------------------------------------
// stores
// -----------------------------------------------------------------------------

/** As many stores on one empty server, each behind a proxy of its own. */
export const environments = <const Options extends ReadonlyArray<RedisLockStore.Options>>(
  options: Options
) =>
  Effect.gen(function* () {
    const server = yield* RedisServer.RedisServer
    yield* server.flush
    const made: ReadonlyArray<Environment> = yield* Effect.forEach(options, (own) =>
      Effect.gen(function* () {
        const proxy = yield* FaultProxy.make(server.port)
        const store = yield* storeOf(RedisLockStore.layer({ url: proxy.url, ...own }))
        return { server, proxy, ...store }
      })
    )
    return made as { readonly [Index in keyof Options]: Environment }
  }).pipe(Effect.orDie)

/** Every lease goes through Redis. */
export const strict: RedisLockStore.Options = { localHandoff: 0 }

/** Two stores of the same kind. */
export const pair = (options = strict) => environments([options, options])

/** A store on a client of the user's, whose connections go to that port, beside an environment. */
export const onClient = (
  { server }: Pick<Environment, "server">,
  client: Redis,
  options: RedisLockStore.StoreOptions = strict
) =>
  Effect.map(storeOf(RedisLockStore.layerFromClient(client, options)), (store) => ({
    server,
    ...store
  }))

/** What is sent on the present connection for commands is held, and delivered behind its successor's. */
export const holdCommands = (proxy: FaultProxy.FaultProxy): void => {
  const commands = proxy.connections.find(({ subscriber }) => !subscriber)!.id
  proxy.holdRequests({ where: ({ id }) => id === commands, afterClose: "deliver" })
}

interface Internals {
  readonly lines: ReadonlyArray<unknown>
  readonly attempts: { readonly size: number }
  readonly around: {
    readonly storeId: string
    readonly messages: {
      readonly recipient: { onGrant: (message: unknown) => void }
      readonly foreignKeys: { readonly size: number }
    }
  }
}

/** The only place where tests look into a store in Redis. */
export const internals = (store: LockStore.LockStore) => {
  const { around, attempts, lines } = inside<Internals>(store)
  return {
    /** Also the channel on which the store is told of grants. */
    storeId: around.storeId,
    /** Everything that a store keeps for a key: nothing, where nobody holds it or waits for it. */
    size: () => ({
      lines: lines.length,
      attempts: attempts.size,
      foreignKeys: around.messages.foreignKeys.size
    })
  }
}

/** Calls back in the very tick in which a waiter of the store is told of its grant. */
export const onGrant = (store: LockStore.LockStore, callback: () => void): void => {
  const { recipient } = inside<Internals>(store).around.messages
  const { onGrant } = recipient
  recipient.onGrant = (message) => {
    onGrant(message)
    callback()
  }
}

/** Waits until a store's subscriber is there: from then on, grants are told. */
export const subscribed = ({
  server,
  store
}: Pick<Environment, "server" | "store">): Effect.Effect<void> =>
  RedisServer.eventually(
    Effect.map(server.command("PUBSUB", "NUMSUB", internals(store).storeId), (reply) =>
      (reply as ReadonlyArray<unknown>).some((count) => Number(count) === 1)
    )
  )

export const nothing = { lines: 0, attempts: 0, foreignKeys: 0 }

/** Waits until a store keeps nothing; a test that waits in vain runs into its timeout. */
export const idle = (store: LockStore.LockStore): Effect.Effect<void> =>
  RedisServer.eventually(
    Effect.sync(() => JSON.stringify(internals(store).size()) === JSON.stringify(nothing))
  )

// -----------------------------------------------------------------------------
// callers
// -----------------------------------------------------------------------------

type LeaseExit = Exit.Exit<Lease.Lease, LockError.LockUnavailable | LockError.LockStoreError>

/** Somebody who wants the lock, and keeps it until told otherwise. */
export interface Caller {
  readonly fiber: Fiber.RuntimeFiber<
    Lease.Lease,
    LockError.LockUnavailable | LockError.LockStoreError
  >
  /** The lease; dies if it cannot be had. */
  readonly lease: Effect.Effect<Lease.Lease>
  readonly state: () => "waiting" | "granted" | "cancelled" | "failed"
  readonly release: Effect.Effect<void>
  readonly interrupt: Effect.Effect<LeaseExit>
}

export const caller = (
  use: Environment["use"],
  key: string,
  options?: Lock.WaitOptions
): Effect.Effect<Caller, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) =>
      Scope.close(scope, Exit.void)
    )
    const fiber = yield* Lock.acquire(key, options).pipe(
      Scope.extend(scope),
      use,
      Effect.interruptible,
      Effect.forkScoped
    )
    return {
      fiber,
      lease: Effect.orDie(Fiber.join(fiber)),
      state: () => {
        const exit = fiber.unsafePoll()
        if (exit === null) return "waiting"
        if (Exit.isSuccess(exit)) return "granted"
        return Exit.isInterrupted(exit) ? "cancelled" : "failed"
      },
      release: Scope.close(scope, Exit.void),
      interrupt: Fiber.interrupt(fiber)
    }
  })

/** A caller that stands in the queue in Redis, behind so many others. */
export const queuedCaller = (
  { server, use }: Pick<Environment, "server" | "use">,
  key: string,
  behind: number,
  options?: Lock.WaitOptions
): Effect.Effect<Caller, never, Scope.Scope> =>
  Effect.zipLeft(caller(use, key, options), awaitQueued(server, key, behind + 1))

// -----------------------------------------------------------------------------
// the server's side
// -----------------------------------------------------------------------------

/** The four keys of a lock that is stored under exactly this key. */
export const keysOf = (key: string): LockKeys => {
  const keys = lockKeys("", "", key)
  if (typeof keys === "string") throw new Error(keys)
  return keys
}

/** The tokens in the queue, in order. */
export const queueOf = (
  server: RedisServer.RedisProcess,
  key: string
): Effect.Effect<ReadonlyArray<string>> =>
  Effect.map(
    server.command("ZRANGE", keysOf(key)[2], 0, -1),
    (tokens) => tokens as ReadonlyArray<string>
  )

export const awaitQueued = (
  server: RedisServer.RedisProcess,
  key: string,
  count: number
): Effect.Effect<void> =>
  RedisServer.eventually(Effect.map(queueOf(server, key), (tokens) => tokens.length === count))

/** A script, sent by hand. */
export const send = (
  server: RedisServer.RedisProcess,
  script: Script,
  key: string,
  ...args: ReadonlyArray<string | number>
): Effect.Effect<unknown> => {
  const keys = keysOf(key)
  return server.command("EVAL", script.lua, keys.length, ...keys, ...args)
}

/** All keys of a claim with bounds. */
export const boundKeysOf = (kind: "lock" | "semaphore", key: string): LockKeys => {
  const keys = lockKeys("", "", key, kind === "semaphore", kind === "lock")
  if (typeof keys === "string") throw new Error(keys)
  return keys
}

/** A script of a claim with bounds, sent by hand. */
export const sendBound = (
  server: RedisServer.RedisProcess,
  script: Script,
  kind: "lock" | "semaphore",
  key: string,
  ...args: ReadonlyArray<string | number>
): Effect.Effect<unknown> => {
  const all = boundKeysOf(kind, key)
  // (a renewal takes some of the keys, and the one that tells whether it was revoked)
  const some = [...all.slice(0, kind === "lock" ? 2 : 6), revokedKey("", "", key)]
  const keys = script.name === "renew" ? some : all
  return server.command("EVAL", script.lua, keys.length, ...keys, ...args)
}

let tokens = 0

/** A token as another process of ours would make it. */
export const strangeToken = (): string =>
  `erl1:stranger${++tokens}.${String(tokens).padStart(22, "0")}`

/** What a process that died in the queue leaves there: a place that nobody keeps alive. */
export const deadWaiter = (
  server: RedisServer.RedisProcess,
  key: string,
  { windowMillis, grantMillis }: { readonly windowMillis: number; readonly grantMillis: number }
): Effect.Effect<string> => {
  const token = strangeToken()
  return send(
    server,
    scripts.acquire,
    key,
    token,
    grantMillis,
    "dead",
    windowMillis,
    grantMillis
  ).pipe(
    // a heartbeat that is to be stale is so when this ends, however fast what follows may be
    Effect.zipRight(windowMillis <= 1 ? Effect.sleep(windowMillis + 3) : Effect.void),
    Effect.as(token)
  )
}

/** What a process that died with the lock leaves there. */
export const deadHolder = (
  server: RedisServer.RedisProcess,
  key: string,
  ttlMillis: number
): Effect.Effect<string> => {
  const token = strangeToken()
  return Effect.as(send(server, scripts.acquire, key, token, ttlMillis, "dead"), token)
}

// -----------------------------------------------------------------------------
// what is asserted
// -----------------------------------------------------------------------------

/** Milliseconds from the event to the end of the effect. */
export const since = <A, E, R>(
  event: Effect.Effect<unknown, E, R>,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<number, E, R> =>
  Effect.gen(function* () {
    const startedAt = performance.now()
    yield* event
    yield* effect
    return performance.now() - startedAt
  })
