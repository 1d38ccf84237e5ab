/** A store from options, or from a client: the connection's life is the scope's. */
import { hostname } from "node:os"
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import type { RedisOptions } from "ioredis"
import type { LockStore } from "../../LockStore.js"
import { processClock } from "../timers.js"
import { makeStoreId } from "../token.js"
import { connect, type RedisClient } from "./client.js"
import { Commands } from "./commands.js"
import { Messages } from "./messages.js"
import { RedisStore } from "./store.js"

export interface Settings {
  readonly prefix: string
  readonly owner: string | undefined
  readonly commandTimeoutMillis: number
  readonly foreignPollMillis: number
  readonly localHandoffMillis: number
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
  Effect.acquireRelease(
    Effect.map(Effect.runtime<never>(), (runtime) => {
      const log = Runtime.runFork(runtime)
      const warn = (message: string) => void log(Effect.logWarning(message))
      const commands = new Commands(client(), processClock, settings.commandTimeoutMillis, owned)
      const storeId = makeStoreId()
      const messages = new Messages(commands.client, storeId, processClock, warn)
      const store = new RedisStore(
        {
          commands,
          messages,
          storeId,
          owner: settings.owner ?? `${hostname()}:${process.pid}`,
          heartbeatMillis: 1_000,
          foreignPollMillis: settings.foreignPollMillis,
          localHandoffMillis: settings.localHandoffMillis,
          warn
        },
        settings.prefix
      )
      return { commands, messages, store }
    }),
    ({ commands, messages, store }) =>
      Effect.suspend(() => {
        store.close()
        messages.close()
        return commands.close
      })
  ).pipe(Effect.map(({ store }) => store))
