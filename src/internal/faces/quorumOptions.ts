/** Options of a store that is made of stores, for both faces. */
import { checkNodes, checkQuorumTime } from "../common/options.js"
import type { DurationInput } from "../../Lease.js"
import { checkDefaults } from "./decodeOptions.js"
import type { Defaults } from "./lockStore.js"
import { toMillis } from "./millis.js"

/** See `QuorumLockStore.Options`. */
export interface QuorumOptions<Node> {
  /**
   * The stores that it is made of: an odd number, 3 at least. Each is the layer of a store of this package
   * (`RedisLockStore.layer` and its relatives, but not a Cluster; `MemoryLockStore.layer`), and is built for
   * itself. Each must be a server of its own, which fails independently of the others, and is no replica of
   * one of them. All processes must name the same servers, in the same order.
   */
  readonly nodes: ReadonlyArray<Node>
  /**
   * The longest ttl that a lock may have. A node that was started or emptied a short time ago may have
   * forgotten leases, and does not count before that time is over: also when all nodes are used for the
   * first time. A lock with a longer `ttl` (or `holdAtLeast`) is a defect. All processes must have the same.
   * Default: 30 seconds.
   */
  readonly longestTtl?: DurationInput | undefined
  /**
   * How long the answer of a node is waited for where it is needed for a majority. (A quarter of the
   * lock's ttl, if that is less.) Default: 500 milliseconds.
   */
  readonly nodeTimeout?: DurationInput | undefined
  /** Options of locks for callers that give none. */
  readonly defaults?: Defaults | undefined
}

export interface QuorumSettings {
  readonly longestTtlMillis: number
  readonly nodeTimeoutMillis: number
}

const millisOf = (input: DurationInput | undefined, ifNone: number): number =>
  input === undefined ? ifNone : (toMillis(input) ?? Number.NaN)

/** The settings, or the sentence that says which option is impossible. */
export const decodeQuorum = ({
  defaults,
  longestTtl,
  nodeTimeout,
  nodes
}: QuorumOptions<unknown>): QuorumSettings | string => {
  const longestTtlMillis = Math.floor(millisOf(longestTtl, 30_000))
  const nodeTimeoutMillis = millisOf(nodeTimeout, 500)
  return (
    checkNodes(nodes) ??
    checkQuorumTime("longestTtl", longestTtlMillis) ??
    checkQuorumTime("nodeTimeout", nodeTimeoutMillis) ??
    checkDefaults(defaults) ?? { longestTtlMillis, nodeTimeoutMillis }
  )
}

export const noNode = (index: number): string =>
  `Impossible option nodes: node ${index + 1} cannot be a node of a quorum. It must be a store of this package as it was made, in memory or in one Redis server: not in a Cluster, whose masters fail one by one, and not a quorum.`
