/** The options of a store in Redis, checked, with durations decoded and secrets revealed. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { ClusterOptions as ClientOptions, RedisOptions } from "ioredis"
import type { DurationInput } from "../../Lease.js"
import { LockStoreError } from "../../LockError.js"
import type { Defaults } from "./lockStore.js"
import { maxOwnerLength, show } from "../common/options.js"
import type { Address, Settings } from "../common/settings.js"
import { checkDefaults } from "./decodeOptions.js"
import { toMillis } from "./millis.js"

type Decoded<A> = Effect.Effect<A, LockStoreError>

/** As the public module documents them; of what types do not say for sure, nothing is assumed. */
interface StoreOptions {
  readonly prefix?: unknown
  readonly owner?: unknown
  readonly batch?: unknown
  readonly commandTimeout?: DurationInput | undefined
  readonly foreignPollEvery?: DurationInput | undefined
  readonly localHandoff?: DurationInput | undefined
  readonly acknowledged?: unknown
  readonly defaults?: Defaults | undefined
}

type NodeOptions = Omit<RedisOptions, "replyMapping">

interface ServerOptions {
  readonly url?: string | Redacted.Redacted | undefined
  readonly redis?: NodeOptions | undefined
  readonly sentinels?: unknown
  readonly name?: unknown
  readonly sentinelUsername?: string | undefined
  readonly sentinelPassword?: string | Redacted.Redacted | undefined
}

interface ClusterOptions {
  readonly nodes: unknown
  readonly redis?: NodeOptions | undefined
  readonly cluster?: Omit<ClientOptions, "redisOptions"> | undefined
}

export const impossible = (option: string, value: unknown, why: string): LockStoreError =>
  new LockStoreError({
    operation: "configure",
    detail: `Impossible option ${option}: ${shown(value)}. ${why}`,
    transient: false
  })

const refuse = (option: string, value: unknown, why: string) =>
  Effect.fail(impossible(option, value, why))

export const isObject = (value: unknown): value is object =>
  typeof value === "object" && value !== null

export const objectExpected = "It must be an object, with options for ioredis."

const objectOr = <A extends object>(
  option: string,
  value: A | undefined
): Decoded<A | undefined> =>
  isObject(value ?? {}) ? Effect.succeed(value) : refuse(option, value, objectExpected)

export const reveal = (secret: string | Redacted.Redacted): string =>
  Redacted.isRedacted(secret) ? Redacted.value(secret) : secret

/** What all stores in Redis can be told. */
export const decodeSettings = (options: StoreOptions): Decoded<Settings> =>
  Effect.gen(function* () {
    const commandTimeoutMillis = yield* millis(options, "commandTimeout", 2_000, 1, "2 seconds")
    const foreignPollMillis = yield* millis(options, "foreignPollEvery", 50, 1, "50 millis")
    const localHandoffMillis = yield* millis(options, "localHandoff", 20, 0, "20 millis")
    const prefix: unknown = options.prefix ?? ""
    if (typeof prefix !== "string") {
      return yield* refuse("prefix", prefix, "It must be a string.")
    }
    const batch: unknown = options.batch ?? true
    if (typeof batch !== "boolean") {
      return yield* refuse("batch", batch, "It must be true or false.")
    }
    const badDefault = checkDefaults(options.defaults)
    if (badDefault !== undefined) {
      return yield* Effect.fail(
        new LockStoreError({ operation: "configure", detail: badDefault, transient: false })
      )
    }
    const owner: unknown = options.owner
    if (owner !== undefined && (typeof owner !== "string" || owner.length > maxOwnerLength)) {
      return yield* refuse(
        "owner",
        "…",
        `It must be a string of at most ${maxOwnerLength} characters.`
      )
    }
    const acknowledged = yield* decodeAcknowledged(options.acknowledged, commandTimeoutMillis)
    return {
      batch,
      prefix,
      owner,
      commandTimeoutMillis,
      foreignPollMillis,
      localHandoffMillis,
      acknowledged
    }
  })

/** Who must have a grant before it counts. */
const decodeAcknowledged = (
  given: unknown,
  commandTimeoutMillis: number
): Decoded<Settings["acknowledged"]> => {
  if (given === undefined) return Effect.succeed(undefined)
  if (!isObject(given)) {
    return refuse("acknowledged", given, "It must be an object: { replicas, disk, within }.")
  }
  const { disk = false, replicas = 0, within } = given as Record<string, unknown>
  if (typeof disk !== "boolean") {
    return refuse("acknowledged.disk", disk, "It must be true or false.")
  }
  const isGiven = "replicas" in given && given.replicas !== undefined
  if (!Number.isSafeInteger(replicas) || (replicas as number) < (isGiven ? 1 : 0)) {
    return refuse("acknowledged.replicas", replicas, "It must be a whole number from 1 on.")
  }
  if (!isGiven && !disk) {
    return refuse("acknowledged", given, "It must say how many replicas, or disk: true.")
  }
  // (one question can stand behind another one, within the time of the command)
  const most = commandTimeoutMillis / 2
  const withinMillis =
    within === undefined
      ? commandTimeoutMillis / 4
      : (toMillis(within as DurationInput) ?? Number.NaN)
  if (!(withinMillis >= 1 && withinMillis <= most) && within !== undefined) {
    return refuse(
      "acknowledged.within",
      within,
      `It must be a duration from 1 ms to half of commandTimeout, which is ${most} ms.`
    )
  }
  return Effect.succeed({
    replicas: replicas as number,
    disk,
    withinMillis: Math.max(1, Math.floor(withinMillis))
  })
}

const millis = (
  options: StoreOptions,
  option: "commandTimeout" | "foreignPollEvery" | "localHandoff",
  ifNone: number,
  atLeast: number,
  example: string
): Decoded<number> => {
  const input = options[option]
  const value = input === undefined ? ifNone : (toMillis(input) ?? Number.NaN)
  return Number.isFinite(value) && value >= atLeast
    ? Effect.succeed(value)
    : refuse(
        option,
        input,
        `It must be a duration of ${atLeast} ms or more, for example "${example}".`
      )
}

/** Where a server is: by a URL, by options, or by Sentinels, which are asked for it. */
export const decodeServer = (
  options: ServerOptions
): Decoded<{ readonly url: string | undefined; readonly redis: NodeOptions }> =>
  Effect.gen(function* () {
    const url = yield* decodeUrl(options.url)
    const redis = (yield* objectOr("redis", options.redis)) ?? {}
    const given = options.sentinels ?? redis.sentinels
    const name: unknown = options.name ?? redis.name
    if (given === undefined) {
      if (name === undefined) return { url, redis }
      return yield* refuse(
        "name",
        name,
        "It is that of a master which Sentinels know: sentinels must say where these are."
      )
    }
    if (url !== undefined) {
      return yield* refuse(
        "url",
        "<redacted>",
        "The master is where the sentinels say: leave url out. Its password, TLS and the number of its database go into redis."
      )
    }
    const sentinels = yield* decodeAddresses("sentinels", given)
    if (name === undefined || name === "" || (options.name !== undefined && !isString(name))) {
      return yield* refuse(
        "name",
        name,
        'It must be the name by which the Sentinels know the master, for example "mymaster".'
      )
    }
    if (redis.role !== undefined && redis.role !== "master") {
      return yield* refuse("redis.role", redis.role, "Locks are kept by the master.")
    }
    const { sentinelPassword, sentinelUsername } = options
    return {
      url,
      redis: {
        ...redis,
        sentinels: options.sentinels === undefined ? redis.sentinels : [...sentinels],
        name: name as string,
        ...(sentinelUsername === undefined ? {} : { sentinelUsername }),
        ...(sentinelPassword === undefined ? {} : { sentinelPassword: reveal(sentinelPassword) })
      }
    }
  })

/** Where a Cluster's nodes are, and how it is connected to. */
export const decodeCluster = (
  options: ClusterOptions
): Decoded<{
  readonly nodes: ReadonlyArray<Address>
  readonly redis: NodeOptions
  readonly cluster: Omit<ClientOptions, "redisOptions">
}> =>
  Effect.gen(function* () {
    const nodes = yield* decodeAddresses("nodes", options.nodes)
    const redis = (yield* objectOr("redis", options.redis)) ?? {}
    const cluster = (yield* objectOr("cluster", options.cluster)) ?? {}
    if (redis.sentinels !== undefined) {
      return yield* refuse("redis.sentinels", redis.sentinels, "A Cluster has no Sentinels.")
    }
    if ((redis.db ?? 0) !== 0) {
      return yield* refuse("redis.db", redis.db, "A Cluster has only the database 0.")
    }
    return { nodes, redis, cluster }
  })

const addressExpected =
  'It must be { host, port }, or a string, for example "127.0.0.1:6379". Passwords and TLS go into redis.'

const decodeAddresses = (option: string, given: unknown): Decoded<ReadonlyArray<Address>> =>
  Array.isArray(given) && given.length > 0
    ? Effect.all(given.map((one, index) => decodeAddress(`${option}[${index}]`, one)))
    : refuse(
        option,
        given,
        "It must be a list with at least one address: { host, port }, or a string with both."
      )

const decodeAddress = (option: string, given: unknown): Decoded<Address> => {
  if (typeof given === "string") {
    const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:/@\s]+)):(\d+)$/.exec(given) ?? []
    const host = bracketed ?? plain
    return host !== undefined && isPort(Number(digits))
      ? Effect.succeed({ host, port: Number(digits) })
      : refuse(option, given, addressExpected)
  }
  if (!isObject(given)) return refuse(option, given, addressExpected)
  const { host, port } = given as Partial<Address>
  if (!isString(host) || host === "") return refuse(`${option}.host`, host, addressExpected)
  return isPort(port)
    ? Effect.succeed({ ...given, host, port })
    : refuse(`${option}.port`, port, addressExpected)
}

const isString = (value: unknown): value is string => typeof value === "string"

const isPort = (value: unknown): value is number =>
  Number.isInteger(value) && (value as number) > 0 && (value as number) < 65_536

const decodeUrl = (given: ServerOptions["url"]): Decoded<string | undefined> => {
  const url = given === undefined ? undefined : reveal(given)
  return url === undefined || (isString(url) && isRedisUrl(url))
    ? Effect.succeed(url)
    : refuse(
        "url",
        Redacted.isRedacted(given) ? "<redacted>" : url,
        "It must be redis://host:port, or rediss://host:port for TLS. A user and a password go before the host, with @ behind them; the number of the database goes after the port, with / before it."
      )
}

const isRedisUrl = (url: string): boolean =>
  /^rediss?:\/\//.test(url) &&
  URL.canParse(url) &&
  new URL(url).hostname !== "" &&
  /^\/?\d*$/.test(new URL(url).pathname)

const shown = (value: unknown): string =>
  typeof value === "string"
    ? withoutPassword(value)
    : Duration.isDuration(value)
      ? String(value)
      : show(value)

/** Everything before the last `@` can be a password, also in a URL that is wrong there. */
const withoutPassword = (url: string): string => url.replace(/^([a-z+.-]*:?\/*).*@/is, "$1***@")
