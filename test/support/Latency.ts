/**
 * What a lease and a waiter get through on a bad way to Redis: one question of a table, asked of real
 * stores through a proxy. Only the public API is used, so that any connection can be asked.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as Scope from "effect/Scope"
import { Lock, LockStore, RedisLockStore } from "effect-redis-lock"
import { Redis } from "ioredis"
import * as FaultProxy from "./FaultProxy.js"

/** A store with a connection of its own, or on a client of the user's, with ioredis's defaults. */
export type Connection = "own" | "client"

/** What happens to the way. Times in milliseconds. */
export type Trouble =
  /** So long there and back, from the connection's first byte on. */
  | { readonly _tag: "Slow"; readonly millis: number }
  /** So long there and back from one moment on, in the middle of it. */
  | { readonly _tag: "Jump"; readonly millis: number }
  /** Everything is held for so long, and then let go. */
  | { readonly _tag: "Silence"; readonly millis: number }
  /** The connection leads nowhere, and a new one works. */
  | { readonly _tag: "Dead" }

/** A holder keeps its lease; a waiter has its turn; somebody asks for a lock that is free. */
export type Subject = "lease" | "waiter" | "acquire"

export interface Question {
  readonly connection: Connection
  readonly ttlMillis: number
  readonly commandTimeoutMillis: number
  readonly trouble: Trouble
  readonly subject: Subject
}

export interface Answer {
  readonly ok: boolean
  /** Why not. */
  readonly why: string
  /** Of an `acquire`: how long it took. */
  readonly millis: number
}

/** Where to ask. */
export interface Place {
  readonly serverPort: number
  /** Without a proxy: who holds what others wait for. */
  readonly holder: LockStore.LockStore
}

export const makePlace = (serverPort: number): Effect.Effect<Place, never, Scope.Scope> =>
  Effect.map(
    Effect.orDie(Layer.build(RedisLockStore.layer({ url: `redis://127.0.0.1:${serverPort}` }))),
    (context) => ({ serverPort, holder: Context.get(context, LockStore.LockStore) })
  )

let keys = 0

export const ask = (place: Place, question: Question): Effect.Effect<Answer> =>
  Effect.gen(function* () {
    const { subject, trouble } = question
    const proxy = yield* FaultProxy.make(place.serverPort)
    if (trouble._tag === "Slow") proxy.link(bothWays(trouble.millis))
    const store = yield* storeOf(proxy, question)
    // the connection is there, and the scripts are known
    yield* Effect.ignore(
      Effect.retry(Lock.withLock(`${++keys}:warm`)(Effect.void), { times: 2 }).pipe(
        Effect.provideService(LockStore.LockStore, store)
      )
    )
    const begins = Effect.sync(() => begin(proxy, trouble))
    const asked =
      subject === "lease"
        ? holding(question, begins)
        : subject === "waiter"
          ? waiting(place, question, begins)
          : asking(question, begins)
    return yield* Effect.provideService(asked, LockStore.LockStore, store)
  }).pipe(Effect.scoped, Effect.provide(Logger.remove(Logger.defaultLogger)))

const bothWays = (millis: number) => ({ toServer: millis / 2, toClient: millis / 2 })

const begin = (proxy: FaultProxy.FaultProxy, trouble: Trouble): void => {
  switch (trouble._tag) {
    case "Slow":
      return
    case "Jump":
      return proxy.link(bothWays(trouble.millis))
    case "Silence":
      proxy.blackHole()
      setTimeout(proxy.heal, trouble.millis)
      return
    case "Dead":
      return proxy.abandon()
  }
}

const storeOf = (proxy: FaultProxy.FaultProxy, question: Question) =>
  Effect.gen(function* () {
    const commandTimeout = question.commandTimeoutMillis
    if (question.connection === "own") {
      return yield* stored(RedisLockStore.layer({ url: proxy.url, commandTimeout }))
    }
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const client = new Redis(proxy.port, proxy.host)
        client.on("error", () => {})
        return client
      }),
      (client) => Effect.sync(() => client.disconnect())
    )
    return yield* stored(RedisLockStore.layerFromClient(client, { commandTimeout }))
  })

const stored = <E>(layer: Layer.Layer<LockStore.LockStore, E>) =>
  Effect.map(Effect.orDie(Layer.build(layer)), (context) =>
    Context.get(context, LockStore.LockStore)
  )

const yes: Answer = { ok: true, why: "", millis: 0 }
const no = (why: string): Answer => ({ ok: false, why, millis: 0 })
const because = (error: { readonly message: string }): Answer => no(error.message)

/** For a connection that is made, and for what is on its way. */
const patience = ({ trouble }: Question): number =>
  15_000 + ("millis" in trouble ? 8 * trouble.millis : 0)

/** Through two renewals after the trouble began. */
const holding = ({ trouble, ttlMillis }: Question, begins: Effect.Effect<void>) =>
  Effect.gen(function* () {
    const lease = yield* Effect.retry(Lock.acquire(`${++keys}:held`, { ttl: ttlMillis }), {
      times: 2
    })
    // a silence that has begun when the renewal is sent is the one that a lease survives least of
    const before = trouble._tag === "Silence" ? 0.45 : 0.1
    const after = ttlMillis * 2.1 + ("millis" in trouble ? 2 * trouble.millis : 0)
    const lost = lease.awaitLost
    const kept = Effect.sleep(ttlMillis * before).pipe(
      Effect.zipRight(begins),
      Effect.zipRight(Effect.sleep(after))
    )
    yield* Effect.raceFirst(lost, kept)
    return yes
  }).pipe(
    Effect.scoped,
    Effect.catchAll((error) => Effect.succeed(because(error)))
  )

/** Another process has the lock, which is given back some heartbeats after the trouble began. */
const waiting = (place: Place, question: Question, begins: Effect.Effect<void>) =>
  Effect.gen(function* () {
    const { trouble, ttlMillis } = question
    const key = `${++keys}:waited for`
    const holderIsThrough = "millis" in trouble && trouble._tag === "Silence" ? trouble.millis : 0
    const held = yield* Effect.fork(
      Lock.withLock(key)(Effect.sleep(1_000 + holderIsThrough + 5_000)).pipe(
        Effect.provideService(LockStore.LockStore, place.holder),
        Effect.orDie
      )
    )
    yield* Effect.sleep(200)
    const turn = yield* Effect.fork(Lock.withLock(key, { ttl: ttlMillis })(Effect.succeed(yes)))
    yield* Effect.sleep(800)
    yield* begins
    const had = Effect.matchEffect(Fiber.join(turn), {
      onFailure: (error) => Effect.succeed(because(error)),
      onSuccess: Effect.succeed
    })
    const afterHolder = Effect.zipRight(Fiber.join(held), Effect.sleep(patience(question)))
    const answer = yield* Effect.raceFirst(had, Effect.as(afterHolder, no("it waits still")))
    yield* Effect.fork(Fiber.interrupt(turn))
    return answer
  })

/** On a connection that nobody has used for a while. */
const asking = (question: Question, begins: Effect.Effect<void>) =>
  Effect.gen(function* () {
    yield* Effect.sleep(300)
    yield* begins
    const from = yield* Clock.currentTimeMillis
    const exit = yield* Effect.exit(
      Lock.withLock(`${++keys}:free`, { ttl: question.ttlMillis, waitAtMost: 10_000 })(Effect.void)
    )
    const millis = (yield* Clock.currentTimeMillis) - from
    return { ...(Exit.isSuccess(exit) ? yes : no(String(exit.cause))), millis }
  })
