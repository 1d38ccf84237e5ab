/** Where Redis is, from the options that all commands have. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { type LockStore, RedisLockStore } from "effect-redis-lock"
import * as Fs from "node:fs"
import { CliFailure, ExitCode, usage } from "./exitCode.js"
import { shown } from "./output.js"

/** As the options of the command line give it. */
export interface Connection {
  readonly url: Option.Option<string>
  readonly prefix: string
  readonly sentinels: ReadonlyArray<string>
  readonly sentinelName: string
  readonly cluster: ReadonlyArray<string>
  readonly tlsCa: Option.Option<string>
  readonly tlsCert: Option.Option<string>
  readonly tlsKey: Option.Option<string>
}

type Redis = NonNullable<RedisLockStore.Options["redis"]>
type Address = { readonly host: string; readonly port: number }

/** One of the three is where Redis is. */
export interface Target {
  readonly url: string | undefined
  readonly sentinels: ReadonlyArray<Address>
  readonly nodes: ReadonlyArray<Address>
  readonly name: string
  readonly redis: Pick<Redis, "connectionName" | "username" | "password" | "tls">
}

/** What ioredis needs to know, or what is wrong with the options. */
export const targetOf = (connection: Connection): Effect.Effect<Target, CliFailure> =>
  Effect.gen(function* () {
    const sentinels = yield* Effect.forEach(connection.sentinels, addressOf("--sentinel", 26_379))
    const nodes = yield* Effect.forEach(connection.cluster, addressOf("--cluster", 6_379))
    if (sentinels.length > 0 && nodes.length > 0) {
      return yield* usage("--sentinel and --cluster exclude each other.")
    }
    const several = sentinels.length > 0 || nodes.length > 0
    if (several && Option.isSome(connection.url)) {
      return yield* usage(
        "--url does not go with --sentinel or --cluster. User, password and TLS are taken from REDIS_URL there."
      )
    }
    const url = Option.getOrElse(connection.url, () => process.env["REDIS_URL"] || undefined)
    const tls = yield* tlsOf(connection)
    return {
      url: several ? undefined : (url ?? "redis://127.0.0.1:6379"),
      sentinels,
      nodes,
      name: connection.sentinelName,
      redis: {
        connectionName: "effect-redis-lock-cli",
        ...(several && url !== undefined ? yield* credentialsOf(url) : {}),
        ...(tls === undefined ? {} : { tls })
      }
    }
  })

/** Longer than a program's: a process that has just been started on a busy machine is slow. */
const commandTimeout = "5 seconds" as const

/** The store of the locks. */
export const storeOf = (connection: Connection): Layer.Layer<LockStore.LockStore, CliFailure> =>
  Layer.unwrapEffect(
    Effect.map(targetOf(connection), ({ name, nodes, redis, sentinels, url }) => {
      const all = { redis, prefix: connection.prefix, commandTimeout }
      if (nodes.length > 0) return RedisLockStore.layerCluster({ ...all, nodes })
      const where = sentinels.length > 0 ? { sentinels, name } : { url }
      return RedisLockStore.layer({ ...all, ...where })
    })
  ).pipe(
    Layer.catchAll((error) =>
      Layer.fail(error._tag === "CliFailure" ? error : usage(shown(error.detail)))
    )
  )

const tlsOf = ({ tlsCa, tlsCert, tlsKey }: Connection) =>
  Effect.gen(function* () {
    if (Option.isSome(tlsCert) !== Option.isSome(tlsKey)) {
      return yield* usage("--tls-cert and --tls-key go together.")
    }
    const files = Object.entries({ ca: tlsCa, cert: tlsCert, key: tlsKey })
    const given = yield* Effect.forEach(files, ([name, path]) =>
      Option.match(path, {
        onNone: () => Effect.succeed([]),
        onSome: (path) => Effect.map(contentsOf(path), (text) => [[name, text] as const])
      })
    )
    const tls = Object.fromEntries(given.flat())
    return Object.keys(tls).length === 0 ? undefined : tls
  })

const contentsOf = (path: string) =>
  Effect.try({
    try: () => Fs.readFileSync(path, "utf8"),
    catch: (error) => usage(`${shown(path)} cannot be read: ${(error as Error).message}`)
  })

const addressOf =
  (option: string, ifNone: number) =>
  (text: string): Effect.Effect<{ readonly host: string; readonly port: number }, CliFailure> => {
    const found = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d+))?$/.exec(text)
    const port = Number(found?.[3] ?? ifNone)
    return found === null || port < 1 || port > 65_535
      ? usage(`${option} ${shown(text)}: it must be host:port.`)
      : Effect.succeed({ host: found[1] ?? found[2]!, port })
  }

/** Of a URL whose host is not used. */
const credentialsOf = (url: string) =>
  Effect.suspend(() => {
    if (!URL.canParse(url)) return usage("REDIS_URL is not a URL: redis://user:password@host:port.")
    const { password, protocol, username } = new URL(url)
    return Effect.try({
      try: () => ({
        ...(username === "" ? {} : { username: decodeURIComponent(username) }),
        ...(password === "" ? {} : { password: decodeURIComponent(password) }),
        ...(protocol === "rediss:" ? { tls: {} } : {})
      }),
      catch: () => usage("REDIS_URL: its user or its password has a % that is none of a URL: %25.")
    })
  })

/** A store's error, as the end of the command line. */
export const unavailable = ({ detail }: { readonly detail: string }): CliFailure =>
  new CliFailure({ exitCode: ExitCode.unavailable, message: shown(detail) })
