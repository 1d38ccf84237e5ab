/**
 * A store's own connections to a Cluster: for each shard that is asked for anything the same as to a
 * single server (`connections.ts`), so that a shard that is slow, or dead, is no trouble of the others.
 * Each connection is a Cluster client. What is sent on it finds its node, wherever the slot has moved
 * to: which shard a call is counted to matters for that alone which it shares its fate with.
 *
 * | event                                      | what follows                                      |
 * | ------------------------------------------ | ------------------------------------------------- |
 * | a call, and it is not known who has slots  | it goes by the first connections, which are of no shard yet |
 * | a call of a shard that has no connections  | it gets the first ones, or some are made          |
 * | it becomes known who has slots             | the same, of each call that waits for the first   |
 * | a slot has another master                  | calls about it that wait for a connection go to that one's |
 * | connections of several shards end          | the same, of the calls that they leave            |
 * | a master has no slots any more             | its connections are ended when nothing waits there |
 */
import type { LockClock } from "../engine.js"
import type { ClientOptions, SubscriberClient } from "./client.js"
import type { Network } from "./connection.js"
import { Connections } from "./connections.js"
import { slotOf } from "./layout.js"
import { alone } from "./parcel.js"
import type { Route, Transport } from "./transport.js"

/** Which master has the slots that a connection is for; `undefined` where that is not known yet. */
export interface Shard {
  master: string | undefined
}

export interface ClusterNetwork extends Omit<Network, "dial" | "pause" | "isCluster" | "byName"> {
  /** Connections for that shard. */
  networkOf(shard: Shard): Network
  /** The master that has the slot, as far as is known. */
  masterOf(slot: number): string | undefined
  /** Whether it has any slots. */
  hasSlots(master: string): boolean
  /** The listener is told each time that it was learnt who has which slots. */
  whenLearnt(listener: () => void): void
}

export class Shards implements Transport {
  readonly isCluster = true
  together = false
  ended = false

  private readonly shards = new Map<string, Connections>()
  /** Made before anything was known of the Cluster. */
  private first: { readonly shard: Shard; readonly connections: Connections } | undefined
  /** Whether masters may have lost their slots, of which there still are connections. */
  private leaving = false

  constructor(
    private readonly network: ClusterNetwork,
    readonly clock: LockClock,
    readonly timeoutMillis: number,
    private readonly schedule: LockClock["unsafeSchedule"] = clock.unsafeSchedule
  ) {
    const shard: Shard = { master: undefined }
    this.first = { shard, connections: this.connectionsOf(shard) }
    network.whenLearnt(() => {
      this.leaving = true
      for (const connections of this.shards.values()) this.sort(connections)
      this.prepare()
    })
  }

  get options(): ClientOptions {
    return this.network.options
  }

  get lastAnswerAt(): number {
    return Math.max(...this.all.map(({ lastAnswerAt }) => lastAnswerAt))
  }

  get answeredAt(): number {
    const owing = this.all.filter(({ isIdle }) => !isIdle)
    if (owing.length === 0) return this.lastAnswerAt
    return Math.min(...owing.map(({ lastAnswerAt }) => lastAnswerAt))
  }

  get connectedAt(): number {
    return Math.max(...this.all.map(({ connectedAt }) => connectedAt))
  }

  get replacedAt(): number {
    return Math.max(...this.all.map(({ replacedAt }) => replacedAt))
  }

  routeOf(key: string): Route {
    const master = this.network.masterOf(slotOf((this.options.keyPrefix ?? "") + key))
    if (this.ended || master === undefined) {
      const { all } = this
      return all.find(({ isReady }) => isReady) ?? all[0]!
    }
    const known = this.shards.get(master)
    if (this.leaving) this.dismiss()
    if (known !== undefined) return known
    const connections = this.takeFirst(master) ?? this.connectionsOf({ master })
    this.shards.set(master, connections)
    return connections
  }

  /**
   * What waits since before anything was known goes by the first connections, wherever it belongs. Its lock is
   * asked about again (a lease is renewed), so its shard gets connections now, and not when an answer is urgent.
   */
  private prepare(): void {
    for (const call of this.first?.connections.kept ?? []) this.routeOf(call.keys[0]!)
  }

  private takeFirst(master: string): Connections | undefined {
    const { first } = this
    if (first === undefined) return undefined
    this.first = undefined
    first.shard.master = master
    return first.connections
  }

  private connectionsOf(shard: Shard): Connections {
    const connections: Connections = new Connections(
      this.network.networkOf(shard),
      this.clock,
      this.timeoutMillis,
      this.schedule,
      () => this.sort(connections)
    )
    return connections
  }

  /** Calls that wait there for a connection, and belong to another shard by now, go on by that one's. */
  private sort(from: Connections): void {
    if (this.ended) return
    for (const call of from.kept) {
      const to = this.routeOf(call.keys[0]!)
      if (to === from) continue
      from.settled(call)
      call.moveTo(to)
      if (to.isReady) to.send(alone(call))
      else to.keep(call)
    }
  }

  private get all(): ReadonlyArray<Connections> {
    const shards = [...this.shards.values()]
    return this.first === undefined ? shards : [this.first.connections, ...shards]
  }

  /** Ends those of masters that have no slots any more. */
  private dismiss(): void {
    this.leaving = false
    for (const [master, connections] of this.shards) {
      if (this.network.hasSlots(master)) continue
      if (!connections.isIdle) {
        this.leaving = true
        continue
      }
      this.shards.delete(master)
      connections.end()
    }
  }

  subscriber(attempt: number): SubscriberClient {
    return this.network.subscriber(attempt)
  }

  shown(error: unknown): unknown {
    return this.network.shown(error)
  }

  end(): void {
    this.ended = true
    for (const connections of this.all) connections.end()
  }
}
