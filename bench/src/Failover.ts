/** A master dies behind Sentinels: how long after that is a lock granted again? */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { Lock, LockStore, RedisLockStore } from "effect-redis-lock"
import { Redis } from "ioredis"
import * as RedisSentinel from "../../test/support/RedisSentinel.js"
import * as RedisServer from "../../test/support/RedisServer.js"
import type { Form } from "./Row.js"
import { spread, type Spread } from "./Stats.js"

export interface Recovery {
  readonly who: string
  /** For one that waited when the master died (and asked again, if that failed); undefined: it has no queue. */
  readonly waiterMillis: Spread | undefined
  /** For one that comes when it has happened, and tries again after errors that may pass. */
  readonly comerMillis: Spread
}

export interface FailoverResult {
  readonly rounds: number
  readonly downAfterMillis: number
  /** From the death to the Sentinels' +switch-master. */
  readonly switchMillis: Spread
  /** From +switch-master on: below zero, if the new master was found before that was told. */
  readonly results: ReadonlyArray<Recovery>
}

type Group = RedisSentinel.RedisSentinel
type Grants = Effect.Effect<
  { readonly waiter: Effect.Effect<number> | undefined; readonly comer: Effect.Effect<number> },
  unknown,
  Scope.Scope
>

/** Given when the master has died: what was held is given back from then on. */
type Contestant = (group: Group, died: Deferred.Deferred<void>) => Grants

const now = Effect.sync(() => performance.now())
const options = { ttl: "60 seconds" } as const

const client = ({ addresses, name }: Group) =>
  Effect.acquireRelease(
    Effect.async<Redis>((resume) => {
      const client = new Redis({ sentinels: [...addresses], name })
      client.on("error", () => {})
      client.once("ready", () => resume(Effect.succeed(client)))
    }),
    (client) => Effect.sync(() => client.disconnect())
  )

const library =
  (
    who: string,
    layerOf: (
      group: Group
    ) => Effect.Effect<Layer.Layer<LockStore.LockStore, unknown>, never, Scope.Scope>
  ): Contestant =>
  (group, died) =>
    Effect.gen(function* () {
      const store = Effect.flatMap(Effect.flatMap(layerOf(group), Layer.build), (context) =>
        Effect.succeed(Context.get(context, LockStore.LockStore))
      )
      const [holding, waiting] = [yield* store, yield* store]
      const key = `waited for, ${who}`
      const held = yield* Deferred.make<void>()
      yield* Lock.withLock(
        key,
        options
      )(Effect.zipRight(Deferred.succeed(held, undefined), Deferred.await(died))).pipe(
        Effect.provideService(LockStore.LockStore, holding),
        Effect.forkScoped
      )
      yield* Deferred.await(held)
      const waiter = yield* Lock.withLock(
        key,
        options
      )(now).pipe(
        Effect.retry({ schedule: Schedule.spaced("20 millis") }),
        Effect.provideService(LockStore.LockStore, waiting),
        Effect.forkScoped
      )
      yield* RedisServer.eventually(
        Effect.flatMap(group.master, ({ command }) =>
          Effect.map(command("ZCARD", `{${key}}:lock-queue`), (count) => count === 1)
        )
      )
      const comer = yield* Effect.zipRight(
        Deferred.await(died),
        Lock.withLock(`come for, ${who}`, options)(now)
      ).pipe(
        Effect.retry({ schedule: Schedule.spaced("20 millis") }),
        Effect.provideService(LockStore.LockStore, waiting),
        Effect.forkScoped
      )
      return { waiter: Effect.orDie(Fiber.join(waiter)), comer: Effect.orDie(Fiber.join(comer)) }
    })

/** A loop around SET NX, on ioredis's own defaults. */
const raw: Contestant = (group, died) =>
  Effect.gen(function* () {
    const redis = yield* client(group)
    const attempt = Effect.tryPromise(() => redis.set("come for, raw", "me", "PX", 60_000, "NX"))
    const comer = yield* Deferred.await(died).pipe(
      Effect.zipRight(attempt),
      Effect.retry({ schedule: Schedule.spaced("20 millis") }),
      Effect.zipRight(now),
      Effect.forkScoped
    )
    return { waiter: undefined, comer: Fiber.join(comer).pipe(Effect.orDie) }
  })

const own = (more: object) => (group: Group) =>
  Effect.succeed(
    RedisLockStore.layer({
      redis: { sentinels: [...group.addresses], name: group.name, ...more }
    })
  )

const contestants: Readonly<Record<string, Contestant>> = {
  raw,
  "effect-redis-lock": library("own", own({})),
  "the same, `failoverDetector: true`": library("detector", own({ failoverDetector: true })),
  "the same, on an ioredis client": library("client", (group) =>
    Effect.map(client(group), (client) => RedisLockStore.layerFromClient(client))
  )
}

/** The replica has what the master has. */
const replicated = (group: Group) =>
  RedisServer.eventually(
    Effect.flatMap(group.master, ({ command }) =>
      Effect.map(command("INFO", "replication"), (info) => {
        const [, replica] = /^slave0:.*offset=(\d+)/m.exec(String(info)) ?? []
        const [, master] = /^master_repl_offset:(\d+)/m.exec(String(info)) ?? []
        return replica !== undefined && replica === master
      })
    )
  )

/** When a Sentinel says that the master is another one. */
const switched = ({ addresses }: Group) =>
  Effect.gen(function* () {
    const told = yield* Deferred.make<number>()
    yield* Effect.acquireRelease(
      Effect.promise(async () => {
        const sentinel = new Redis({ ...addresses[0]!, enableReadyCheck: false })
        sentinel.on("message", () => Deferred.unsafeDone(told, Effect.succeed(performance.now())))
        await sentinel.subscribe("+switch-master")
        return sentinel
      }),
      (sentinel) => Effect.sync(() => sentinel.disconnect())
    )
    return Deferred.await(told)
  })

const round = (downAfterMillis: number) =>
  Effect.scoped(
    Effect.gen(function* () {
      const group = yield* RedisSentinel.make({ downAfter: downAfterMillis })
      const died = yield* Deferred.make<void>()
      const grants = yield* Effect.forEach(Object.values(contestants), (contestant) =>
        contestant(group, died)
      )
      const told = yield* switched(group)
      yield* replicated(group)
      const master = yield* group.master
      const diedAt = yield* now
      yield* master.kill
      yield* Deferred.succeed(died, undefined)
      const switchedAt = yield* told
      const results = yield* Effect.forEach(grants, ({ comer, waiter }) =>
        Effect.all({ waiter: waiter ?? Effect.succeed(undefined), comer })
      )
      return {
        switchMillis: switchedAt - diedAt,
        results: results.map(({ comer, waiter }) => ({
          waiter: waiter === undefined ? undefined : waiter - switchedAt,
          comer: comer - switchedAt
        }))
      }
    })
  ).pipe(Effect.timeout("1 minute"))

const downAfter: Readonly<Record<Form, number>> = { short: 1_000, full: 1_000, smoke: 500 }

export const measure = (
  form: Form,
  rounds: number,
  progress: (text: string) => void
): Effect.Effect<FailoverResult> =>
  Effect.gen(function* () {
    const all = yield* Effect.forEach(Array.from({ length: rounds }), (_, index) =>
      Effect.suspend(() => {
        progress(`failover: round ${index + 1} of ${rounds}`)
        return round(downAfter[form])
      })
    )
    return {
      rounds,
      downAfterMillis: downAfter[form],
      switchMillis: spread(all.map(({ switchMillis }) => switchMillis)),
      results: Object.keys(contestants).map((who, index) => {
        const waiters = all.flatMap(({ results }) => results[index]!.waiter ?? [])
        return {
          who,
          waiterMillis: waiters.length === 0 ? undefined : spread(waiters),
          comerMillis: spread(all.map(({ results }) => results[index]!.comer))
        }
      })
    }
  }).pipe(Logger.withMinimumLogLevel(LogLevel.None), Effect.orDie)
