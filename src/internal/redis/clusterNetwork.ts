/** A Cluster, for connections of a store's own: each of them is a Cluster client, for one shard. */
import { Cluster, type ClusterOptions, Redis, type RedisOptions } from "ioredis"
import type { Address } from "../common/settings.js"
import {
  type ClientOptions,
  listenToAsking,
  type RedisClient,
  resetStream,
  type SubscriberClient,
  subscriberOf,
  whenEnded,
  wireOf
} from "./client.js"
import type { Connection, ConnectionEvents } from "./connection.js"
import { messageOf } from "./replyErrors.js"
import { pauseOf, withOurs } from "./network.js"
import { withoutSecrets } from "./secrets.js"
import type { ClusterNetwork, Shard } from "./shards.js"

type NodeOptions = Omit<RedisOptions, "replyMapping">

/** What is for the store to do is not done by the client as well: to connect again, and to send again. */
const ours = {
  clusterRetryStrategy: () => null,
  clusterNodeRetryStrategy: null,
  retryDelayOnFailover: 0,
  // (commands for a node that is being connected to)
  enableOfflineQueue: true,
  enableAutoPipelining: false,
  // of one node at random: what the shard's own node says is what matters
  enableReadyCheck: false,
  // (that nobody serves a slot is said at once, and what waits asks again)
  retryDelayOnClusterDown: 0,
  // (while a slot moves, what cannot wait for that is asked of one key)
  retryDelayOnTryAgain: 10,
  scaleReads: "master",
  shardedSubscribers: false
} as const

/** What comes before a key is the Cluster client's affair. */
const ofNode = { lazyConnect: true, keyPrefix: "" } as const

/** A pause before the next node, where one has failed: some end every connection as soon as it is there. */
const nextNodeMillis = 50

/** How often a client that is not connected to its node asks whether that is still the master. */
const askAgainMillis = 1_000

export const clusterNetworkOf = (
  nodes: ReadonlyArray<Address>,
  nodeOptions: NodeOptions,
  options: Omit<ClusterOptions, "redisOptions">,
  commandTimeoutMillis: number
): ClusterNetwork => {
  const redisOptions = { ...withOurs(nodeOptions, commandTimeoutMillis), ...ofNode }
  // never connected: all others are made after it
  const template = new Cluster([...nodes], {
    // a node that is slow, or silent, has another client beside it
    slotsRefreshTimeout: Math.max(5_000, commandTimeoutMillis),
    ...options,
    ...ours,
    redisOptions,
    lazyConnect: true
  })
  const clientOptions: ClientOptions = template.options
  const shown = (error: unknown) => withoutSecrets(clientOptions, error)
  // all stores would begin with the same one
  let begin = Math.floor(Math.random() * nodes.length)
  let known: ReadonlyArray<NodeOptions> = []
  let masters: ReadonlyArray<string | undefined> = []
  let withSlots: ReadonlySet<string | undefined> = new Set()
  let whenLearnt = (): void => {}

  /** Those that were given, and those that are known. */
  const allNodes = (): Map<string, Address> => {
    const all = new Map<string, Address>()
    for (const node of nodes) all.set(keyOf(node), node)
    for (const node of known) if (!all.has(keyOf(node))) all.set(keyOf(node), node as Address)
    return all
  }
  /** One node to begin with, each time another one. */
  const nodeAt = (turn: number, except?: string): Address => {
    const all = allNodes()
    if (except !== undefined && all.size > 1) all.delete(except)
    return [...all.values()][turn % all.size]!
  }
  const learn = (client: Cluster) => {
    // (a slot that nobody has for the moment: whoever had it is asked first)
    masters = Array.from({ length: 16_384 }, (_, slot) => client.slots[slot]?.[0] ?? masters[slot])
    withSlots = new Set(masters)
    known = client.nodes("master").map((node) => {
      const { host, password, port, tls, username } = node.options
      return { ...redisOptions, host, password, port, tls, username } as NodeOptions
    })
    whenLearnt()
  }
  return {
    options: clientOptions,
    isLazy: options.lazyConnect === true,
    whenLearnt: (listener) => {
      whenLearnt = listener
    },
    masterOf: (slot) => masters[slot],
    hasSlots: (master) => withSlots.has(master),
    networkOf: (shard) => {
      // (in turns with another shard, each could come to the same node again and again)
      let turn = begin++
      return {
        options: clientOptions,
        isCluster: true,
        // (it asks by itself while it is not connected)
        byName: false,
        isLazy: options.lazyConnect === true,
        dial: (events) => {
          const node = nodeAt(turn++, shard.master)
          const client = template.duplicate([node], { lazyConnect: false })
          return connectionOf(client as Cluster, shard, events, learn)
        },
        subscriber,
        pause: (times) => {
          // (one may be dead: as a Cluster client does, each is tried before there is a long pause)
          const others = allNodes().size - 1
          if (times <= others) return nextNodeMillis
          return pauseOf(
            "clusterRetryStrategy" in options
              ? { retryStrategy: options.clusterRetryStrategy }
              : {},
            times - others
          )
        },
        shown
      }
    },
    subscriber,
    shown
  }

  /** To one node: if it goes, the store is told, and takes another one. */
  function subscriber(attempt: number): SubscriberClient {
    const node = known[(begin + attempt) % known.length] ?? {
      ...redisOptions,
      ...nodeAt(begin + attempt)
    }
    return subscriberOf(new Redis({ ...node, lazyConnect: true }) as RedisClient, attempt)
  }
}

/** One connection to all of a Cluster that a client of the user's is connected to, by the nodes of now. */
export const besideCluster = (
  client: Cluster,
  redisOptions: NodeOptions,
  events: ConnectionEvents
): Connection => {
  // (one that it began with can have a password of its own)
  const nodes = client.nodes("all").map(({ options }) => {
    const { host, password, port, tls, username } = options
    return { ...redisOptions, host, password, port, tls, username } as NodeOptions
  })
  const options = { ...ours, redisOptions: { ...redisOptions, ...ofNode }, lazyConnect: false }
  return connectionOf(client.duplicate(nodes, options), { master: undefined }, events, () => {})
}

const keyOf = ({ host, port }: NodeOptions): string => `${host}:${port}`

const connectionOf = (
  client: Cluster,
  shard: Shard,
  events: ConnectionEvents,
  learn: (client: Cluster) => void
): Connection => {
  let over = false
  let greeted = false
  let trouble: unknown = undefined
  /** Connections that the client makes to ask who has which slots. */
  const asking = new Set<Redis>()
  const nodeOf = (master: string | undefined): Redis | undefined =>
    client.nodes("master").find((node) => keyOf(node.options) === master)

  const greet = () => {
    if (over || greeted) return
    greeted = true
    clearInterval(again)
    events.greeted()
  }
  const close = () => {
    clearInterval(again)
    if (over) return
    over = true
    letGo()
    events.closed(trouble)
  }
  const letGo = () => {
    clearInterval(again)
    for (const one of [...client.nodes("all"), ...asking]) resetStream(one)
    client.disconnect()
    for (const one of asking) one.disconnect()
  }
  const fails = (error: unknown) => {
    if (over) return
    trouble = error
    events.trouble(error)
  }
  // until it is connected to the shard's node, which may be down, and another one its master soon
  const again = setInterval(() => client.refreshSlotsCache(), askAgainMillis)
  again.unref()

  client.on("+node", (node: Redis) => {
    const duplicate = node.duplicate.bind(node)
    node.duplicate = (override) => {
      const one = duplicate(override) as Redis
      asking.add(one)
      one.on("error", fails)
      one.once("end", () => asking.delete(one))
      return one
    }
    listenToAsking(node)
  })
  client.on("refresh", () => {
    if (over) return
    // it was a member, perhaps, and was removed, or has lost its configuration
    if (client.slots.every((keys) => keys?.[0] === undefined)) {
      fails(new Error("The node that was asked knows of no slots: it is in no Cluster."))
      return close()
    }
    learn(client)
    if (client.status === "ready" && nodeOf(shard.master) === undefined) greet()
  })
  client.on("ready", () => {
    const node = nodeOf(shard.master)
    if (node === undefined) return greet()
    node.once("ready", greet)
    node.once("end", close)
    if (node.status === "wait") node.connect().catch(() => {})
  })
  client.on("error", (error: { readonly lastNodeError?: unknown }) => {
    const why = error.lastNodeError ?? error
    // (that it was closed says less than why)
    if (trouble === undefined || messageOf(why) !== "Connection is closed.") fails(why)
  })
  client.on("node error", (error: unknown, key: string) => {
    if (shard.master === undefined || key === shard.master) fails(error)
  })
  whenEnded(client as RedisClient, close)
  return {
    ...wireOf(client as RedisClient),
    ping: (onReply) => {
      // an error of the server is an answer as well
      const asked = nodeOf(shard.master) ?? client
      asked.ping().then(onReply, (error: unknown) => {
        if (error instanceof Error && error.name === "ReplyError") onReply()
      })
    },
    reset: () => {
      over = true
      letGo()
    }
  }
}
