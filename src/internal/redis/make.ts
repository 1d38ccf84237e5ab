/** A store from options, or from a client. */
import { hostname } from "node:os"
import type { ClusterOptions, RedisOptions } from "ioredis"
import { type LockClock, type Store, StoreFailure } from "../engine.js"
import type { Address, Settings } from "../common/settings.js"
import { processClock } from "../common/timers.js"
import { maxDelay } from "../common/timing.js"
import { makeStoreId } from "../common/token.js"
import { Acknowledging } from "./acknowledging.js"
import { besideClient } from "./besideClient.js"
import type { RedisClient } from "./client.js"
import { clusterNetworkOf } from "./clusterNetwork.js"
import { Commands } from "./commands.js"
import { Connections } from "./connections.js"
import { GivenClient } from "./given.js"
import { Messages } from "./messages.js"
import { networkOf } from "./network.js"
import { messageOf } from "./replyErrors.js"
import { withoutSecrets } from "./secrets.js"
import { Shards } from "./shards.js"
import { RedisStore } from "./store.js"
import type { Transport } from "./transport.js"

type Warn = (message: string) => void

type NodeOptions = Omit<RedisOptions, "replyMapping">

/** A connection of its own, to a server that a URL names, or options, or Sentinels. */
export const makeRedisStore = (
  url: string | undefined,
  options: NodeOptions,
  settings: Settings,
  warn: Warn
): Store | StoreFailure =>
  ifTaken("redis", options, () => {
    const { commandTimeoutMillis } = settings
    const network = networkOf(url, options, commandTimeoutMillis)
    const connect = () =>
      new Connections(network, processClock, commandTimeoutMillis, scheduleAlive)
    return storeOn(connect(), connect, settings, warn)
  })

/** Connections of its own to the shards of a Cluster. */
export const makeClusterStore = (
  nodes: ReadonlyArray<Address>,
  options: NodeOptions,
  clusterOptions: Omit<ClusterOptions, "redisOptions">,
  settings: Settings,
  warn: Warn
): Store | StoreFailure =>
  ifTaken("redis or cluster", options, () => {
    const { commandTimeoutMillis } = settings
    const network = clusterNetworkOf(nodes, options, clusterOptions, commandTimeoutMillis)
    const connect = () => new Shards(network, processClock, commandTimeoutMillis, scheduleAlive)
    return storeOn(connect(), connect, settings, warn)
  })

/** ioredis throws at options that it does not take. */
const ifTaken = (name: string, options: NodeOptions, make: () => Store): Store | StoreFailure => {
  try {
    return make()
  } catch (error) {
    return new StoreFailure(
      "configure",
      undefined,
      `Impossible option ${name}: ioredis does not take it. ${messageOf(withoutSecrets(options, error))}`,
      false
    )
  }
}

/** While there is no connection, only this keeps alive a process that waits for a lock. */
const scheduleAlive: LockClock["unsafeSchedule"] = (at, callback) => {
  const timer = setTimeout(callback, Math.min(maxDelay, Math.max(0, at - processClock.unsafeNow())))
  return { cancel: () => clearTimeout(timer) }
}

/** A connection that somebody else opened, and will close. */
export const storeFromClient = (client: RedisClient, settings: Settings, warn: Warn): Store => {
  const { commandTimeoutMillis } = settings
  const connect = () => {
    const network = besideClient(client, commandTimeoutMillis)
    return new Connections(network, processClock, commandTimeoutMillis, scheduleAlive)
  }
  const given = new GivenClient(client, processClock, commandTimeoutMillis)
  return storeOn(given, connect, settings, warn)
}

const storeOn = (
  transport: Transport,
  /** Other connections to the same place. */
  connect: () => Transport,
  settings: Settings,
  warn: Warn
): Store => {
  const { acknowledged } = settings
  const acknowledging = acknowledged && new Acknowledging(connect(), acknowledged)
  const commands = new Commands(transport, settings, acknowledging)
  const storeId = makeStoreId()
  return new RedisStore(
    {
      commands,
      messages: new Messages(transport, storeId, warn),
      storeId,
      owner: settings.owner ?? `${hostname()}:${process.pid}`,
      heartbeatMillis: 1_000,
      foreignPollMillis: settings.foreignPollMillis,
      localHandoffMillis: settings.localHandoffMillis,
      warn
    },
    settings.prefix
  )
}
