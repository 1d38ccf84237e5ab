/** The options of a store in Redis, checked. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import { LockStoreError } from "../../LockError.js"
import type { Options } from "../../RedisLockStore.js"
import { maxOwnerLength, show } from "../common/options.js"
import type { Settings } from "../redis/make.js"
import { checkDefaults } from "./decodeOptions.js"
import { toMillis } from "./millis.js"

export const impossible = (option: string, value: unknown, why: string): LockStoreError =>
  new LockStoreError({
    operation: "configure",
    detail: `Impossible option ${option}: ${shown(value)}. ${why}`,
    transient: false
  })

export const isObject = (value: unknown): boolean => typeof value === "object" && value !== null

export const objectExpected = "It must be an object, with options for ioredis."

export const decodeRedisOptions = (
  options: Options
): Effect.Effect<
  { readonly url: string | undefined; readonly settings: Settings },
  LockStoreError
> =>
  Effect.suspend(() => {
    const millis = (
      option: string,
      input: Duration.DurationInput | undefined,
      ifNone: number,
      atLeast: number,
      example: string
    ) => {
      const value = input === undefined ? ifNone : (toMillis(input) ?? Number.NaN)
      return Number.isFinite(value) && value >= atLeast
        ? Either.right(value)
        : Either.left(
            impossible(
              option,
              input,
              `It must be a duration of ${atLeast} ms or more, for example "${example}".`
            )
          )
    }
    return Either.gen(function* () {
      const commandTimeoutMillis = yield* millis(
        "commandTimeout",
        options.commandTimeout,
        2_000,
        1,
        "2 seconds"
      )
      const foreignPollMillis = yield* millis(
        "foreignPollEvery",
        options.foreignPollEvery,
        50,
        1,
        "50 millis"
      )
      const localHandoffMillis = yield* millis(
        "localHandoff",
        options.localHandoff,
        20,
        0,
        "20 millis"
      )
      const url = Redacted.isRedacted(options.url) ? Redacted.value(options.url) : options.url
      if (url !== undefined && (typeof url !== "string" || !isRedisUrl(url))) {
        return yield* Either.left(
          impossible(
            "url",
            Redacted.isRedacted(options.url) ? "<redacted>" : url,
            "It must be redis://host:port, or rediss://host:port for TLS. A user and a password go before the host, with @ behind them; the number of the database goes after the port, with / before it."
          )
        )
      }
      if (!isObject(options.redis ?? {})) {
        return yield* Either.left(impossible("redis", options.redis, objectExpected))
      }
      const prefix: unknown = options.prefix ?? ""
      if (typeof prefix !== "string") {
        return yield* Either.left(impossible("prefix", prefix, "It must be a string."))
      }
      const batch: unknown = options.batch ?? true
      if (typeof batch !== "boolean") {
        return yield* Either.left(impossible("batch", batch, "It must be true or false."))
      }
      const badDefault = checkDefaults(options.defaults)
      if (badDefault !== undefined) {
        return yield* Either.left(
          new LockStoreError({ operation: "configure", detail: badDefault, transient: false })
        )
      }
      const owner: unknown = options.owner
      if (owner !== undefined && (typeof owner !== "string" || owner.length > maxOwnerLength)) {
        return yield* Either.left(
          impossible("owner", "…", `It must be a string of at most ${maxOwnerLength} characters.`)
        )
      }
      return {
        url,
        settings: {
          batch,
          prefix,
          owner: options.owner,
          commandTimeoutMillis,
          foreignPollMillis,
          localHandoffMillis
        }
      }
    })
  })

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
