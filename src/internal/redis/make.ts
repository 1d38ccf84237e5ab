/** A store from options, or from a client: the connection's life is the scope's. */
import { hostname } from "node:os"
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import type { RedisOptions } from "ioredis"
import { LockStoreError } from "../../LockError.js"
import type { Defaults, LockClock, LockStore } from "../../LockStore.js"
import { processClock } from "../timers.js"
import { maxDelay } from "../timing.js"
import { makeStoreId } from "../token.js"
import type { RedisClient } from "./client.js"
import { Commands } from "./commands.js"
import { Connections } from "./connections.js"
import { GivenClient } from "./given.js"
import { Messages } from "./messages.js"
import { networkOf } from "./network.js"
import { messageOf } from "./replyErrors.js"
import { withoutSecrets } from "./secrets.js"
import { RedisStore } from "./store.js"
import type { Transport } from "./transport.js"

export interface Settings {
  readonly batch: boolean
  readonly prefix: string
  readonly defaults: Defaults | undefined
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
): Effect.Effect<LockStore, LockStoreError, Scope.Scope> => {
  const { commandTimeoutMillis } = settings
  return Effect.flatMap(
    Effect.try({
      try: () => networkOf(url, options, commandTimeoutMillis),
      catch: (error) =>
        new LockStoreError({
          operation: "configure",
          detail: `Impossible option redis: ioredis does not take it. ${messageOf(withoutSecrets(options, error))}`,
          transient: false
        })
    }),
    (network) =>
      scopedStore(
        () => new Connections(network, processClock, commandTimeoutMillis, scheduleAlive),
        settings
      )
  )
}

/** While there is no connection, only this keeps alive a process that waits for a lock. */
const scheduleAlive: LockClock["unsafeSchedule"] = (at, callback) => {
  const timer = setTimeout(callback, Math.min(maxDelay, Math.max(0, at - processClock.unsafeNow())))
  return { cancel: () => clearTimeout(timer) }
}

/** A connection that somebody else opened, and will close. */
export const storeFromClient = (
  client: RedisClient,
  settings: Settings
): Effect.Effect<LockStore, never, Scope.Scope> =>
  scopedStore(() => new GivenClient(client, processClock, settings.commandTimeoutMillis), settings)

const scopedStore = (
  transport: () => Transport,
  settings: Settings
): Effect.Effect<LockStore, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.map(Effect.runtime<never>(), (runtime) => {
      const log = Runtime.runFork(runtime)
      const warn = (message: string) => void log(Effect.logWarning(message))
      const commands = new Commands(transport(), settings)
      const storeId = makeStoreId()
      const messages = new Messages(commands.transport, storeId, warn)
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
        settings.prefix,
        settings.defaults
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
