/**
 * Connections of a store's own beside a client that the user made: to the same place, with the same options,
 * but for those that say how commands are retried.
 */
import type { Cluster, Redis, RedisOptions } from "ioredis"
import { once, type RedisClient, subscriberOf } from "./client.js"
import { besideCluster } from "./clusterNetwork.js"
import type { Network } from "./connection.js"
import { connectionOf, pauseOf, withOurs } from "./network.js"
import { withoutSecrets } from "./secrets.js"

export const besideClient = (client: RedisClient, commandTimeoutMillis: number): Network => {
  const options = client.options ?? {}
  const isCluster = client.isCluster === true
  const node = (isCluster ? options.redisOptions : options) as
    Omit<RedisOptions, "replyMapping"> | undefined
  const ours = { ...withOurs(node ?? {}, commandTimeoutMillis), ...once }
  return {
    options,
    isCluster,
    byName: (node?.sentinels ?? []).length > 0,
    // (a client that is not used connects to nothing)
    isLazy: true,
    dial: (events) =>
      isCluster
        ? besideCluster(client as unknown as Cluster, ours, events)
        : connectionOf(client.duplicate(ours) as unknown as Redis, new Set(), events),
    subscriber: (attempt) => subscriberOf(client, attempt),
    pause: (times) =>
      pauseOf(node?.sentinels === undefined ? {} : { sentinels: node.sentinels }, times),
    shown: (error) => withoutSecrets(options, error)
  }
}
