/** A store from options, or from a client: the connection's life is the scope's. */
import { hostname } from "node:os"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { RedisOptions } from "ioredis"
import type { LockStore } from "../../LockStore.js"
import { processClock } from "../timers.js"
import { connect, type RedisClient } from "./client.js"
import { Commands } from "./commands.js"
import { RedisStore } from "./store.js"

export interface Settings {
  readonly prefix: string
  readonly owner: string | undefined
  readonly commandTimeoutMillis: number
  readonly foreignPollMillis: number
}

/** A connection of its own. */
export const makeRedisStore = (
  url: string | undefined,
  options: Omit<RedisOptions, "replyMapping">,
  settings: Settings
): Effect.Effect<LockStore, never, Scope.Scope> =>
  scopedStore(() => connect(url, options, settings.commandTimeoutMillis), settings, true)

/** A connection that somebody else opened, and will close. */
export const storeFromClient = (
  client: RedisClient,
  settings: Settings
): Effect.Effect<LockStore, never, Scope.Scope> => scopedStore(() => client, settings, false)

const scopedStore = (
  client: () => RedisClient,
  settings: Settings,
  owned: boolean
): Effect.Effect<LockStore, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => new Commands(client(), processClock, settings.commandTimeoutMillis, owned)),
      (commands) => commands.close
    ),
    (commands) =>
      new RedisStore(commands, {
        clientPrefix: commands.client.options?.keyPrefix ?? "",
        prefix: settings.prefix,
        owner: settings.owner ?? `${hostname()}:${process.pid}`,
        heartbeatMillis: 1_000,
        foreignPollMillis: settings.foreignPollMillis
      })
  )
