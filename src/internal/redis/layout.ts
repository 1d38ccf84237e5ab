/**
 * Where things are in Redis. The lock is stored under exactly the prefix and the user's key; what
 * belongs to it stands beside it, under the same prefix, and in the same Cluster slot.
 *
 * A key with a hash tag, `a{b}c`, gives its companions the same tag: `a{b}c::lock-record`. Any other
 * key becomes the tag: `prefix{prefix key}:lock-record`. Where the braces of key and prefix make that
 * impossible, the companions get a tag that is computed to have the slot of the key:
 * `prefix{012345}{key}:lock-record`.
 */

import { show } from "../common/options.js"

const suffixes = [
  ":lock-record",
  ":lock-queue",
  ":lock-waiters",
  ":lock-holders",
  ":lock-index",
  ":lock-tick",
  ":lock-revoked",
  ":lock-node"
] as const

/** The lock, the record of its last grant, its queue, what is known of its waiters; see `lua.ts`. */
export type LockKeys = readonly [
  lock: string,
  record: string,
  queue: string,
  waiters: string,
  ...more: ReadonlyArray<string>
]

/** What Redis Cluster hashes of a key: what is between the first `{` and the next `}`, or all. */
export const hashed = (key: string): string => {
  const open = key.indexOf("{")
  if (open === -1) return key
  const close = key.indexOf("}", open + 1)
  return close <= open + 1 ? key : key.slice(open + 1, close)
}

/** The slot of a key as it is stored. */
export const slotOf = (stored: string): number => crc16(hashed(stored)) & 0x3fff

type Beside = (suffix: string) => string

/**
 * The keys to send, or a sentence that says why there can be none. `clientPrefix` is what the
 * client itself puts before every key; `several`: of a lock that several can hold; `bound`: of claims with
 * bounds.
 */
export const lockKeys = (
  clientPrefix: string,
  prefix: string,
  key: string,
  several = false,
  bound = false
): LockKeys | string => {
  const stored = clientPrefix + prefix + key
  for (const suffix of suffixes) {
    if (stored.endsWith(suffix)) {
      return `Impossible lock key: ${show(key)}. Keys that end in ${suffix} are used by the library itself.`
    }
  }
  return allKeys(prefix + key, several, bound, companions(clientPrefix, prefix, key))
}

/** Where it stands which holders of the key have been revoked of late. */
export const revokedKey = (clientPrefix: string, prefix: string, key: string): string =>
  companions(clientPrefix, prefix, key)(":lock-revoked")

/** Where the last tick stands that was granted. */
export const tickKey = (clientPrefix: string, prefix: string, key: string): string =>
  companions(clientPrefix, prefix, key)(":lock-tick")

/** Where a node of a quorum notes since when it has not forgotten leases: for all keys of the prefix. */
export const nodeKey = (prefix: string): string => `${prefix}:lock-node`

/**
 * Which key the name of something in Redis is of, if that says that somebody has the key, or waits for it, or had
 * it for a tick: the key's own name, or that of its queue, or of its last tick.
 */
export const keyNamed = (
  clientPrefix: string,
  prefix: string,
  name: string
): string | undefined => {
  const head = clientPrefix + prefix
  if (!name.startsWith(head)) return undefined
  const rest = name.slice(head.length)
  const suffix = suffixes.find((one) => name.endsWith(one))
  if (suffix === undefined) return rest === "" ? undefined : rest
  const which = suffix === ":lock-queue" ? 2 : suffix === ":lock-tick" ? 4 : undefined
  if (which === undefined) return undefined
  const beside = rest.slice(0, -suffix.length)
  const sent = name.slice(clientPrefix.length)
  // as `companions` and `withComputedTag` make it
  const possible = [
    beside.endsWith(":") ? beside.slice(0, -1) : "",
    beside.startsWith(`{${head}`) && beside.endsWith("}") ? beside.slice(head.length + 1, -1) : "",
    /^(?:\{\d+\}|\d+\}:|\d+)\{([^]*)\}$/.exec(beside)?.[1] ?? ""
  ]
  return possible.find(
    (key) => key !== "" && lockKeys(clientPrefix, prefix, key, false, true)[which] === sent
  )
}

const companions = (clientPrefix: string, prefix: string, key: string): Beside => {
  const stored = clientPrefix + prefix + key
  // "}:" and "::" keep the companions of "a" and of "{a}" apart
  const beside = hashed(stored) === stored ? `${prefix}{${stored}}` : `${prefix}${key}:`
  if (hashed(clientPrefix + beside + suffixes[0]) === hashed(stored)) {
    return (suffix) => beside + suffix
  }
  const name = withComputedTag(clientPrefix + prefix, stored, key)
  return (suffix) => prefix + name(suffix)
}

const allKeys = (lock: string, several: boolean, bound: boolean, beside: Beside): LockKeys => {
  const [record, queue, waiters, holders, index, tick] = suffixes
  if (several) {
    return [lock, beside(record), beside(queue), beside(waiters), beside(holders), beside(index)]
  }
  return bound
    ? [lock, beside(record), beside(queue), beside(waiters), beside(tick)]
    : [lock, beside(record), beside(queue), beside(waiters)]
}

/** What stands behind the prefix where the key as stored has no hash tag, and cannot become one. */
const withComputedTag = (head: string, stored: string, key: string): Beside => {
  const slot = crc16(stored)
  const open = head.indexOf("{")
  if (open === -1) {
    const beside = `{${tagFor("", "", slot)}}{${key}}`
    return (suffix) => beside + suffix
  }
  if (!head.includes("}", open)) {
    // the prefix has opened it (and ":" keeps this apart from a shorter prefix)
    const beside = `${tagFor(head.slice(open + 1), "", slot)}}:{${key}}`
    return (suffix) => beside + suffix
  }
  // "{}" in the prefix: there are no tags behind it, and each name is hashed as a whole
  return (suffix) => {
    const rest = `{${key}}${suffix}`
    return tagFor(head, rest, slot) + rest
  }
}

/** As Redis Cluster computes it: XMODEM, whose low 14 bits are the slot. */
const crc16 = (content: string | Uint8Array): number => {
  let crc = 0
  for (const byte of typeof content === "string" ? Buffer.from(content) : content) {
    crc ^= byte << 8
    for (let bit = 0; bit < 8; bit++) crc = (crc << 1) ^ (crc & 0x8000 ? 0x1_1021 : 0)
  }
  return crc
}

/** A tag is so many of the digits from 0 to 7: their 18 bits can bring about every CRC. (Of 5, not.) */
const tagLength = 6
const noTag = "0".repeat(tagLength)

/**
 * The tag with which what is hashed has that CRC. Each bit of it changes the CRC in a way of its own,
 * whatever the others are: so the bits are found by elimination.
 */
const tagFor = (before: string, after: string, wanted: number): string => {
  const behind = Buffer.byteLength(after)
  const rows: Array<{ readonly change: number; readonly bits: number } | undefined> = []
  const eliminate = (change: number, bits: number, keep: boolean): number => {
    for (let top = 15; top >= 0; top--) {
      if ((change & (1 << top)) === 0) continue
      const row = rows[top]
      if (row !== undefined) {
        change ^= row.change
        bits ^= row.bits
      } else if (keep) {
        rows[top] = { change, bits }
        break
      }
    }
    return bits
  }
  for (let bit = 0; bit < 3 * tagLength; bit++) {
    const only = Buffer.alloc(tagLength + behind)
    only[Math.floor(bit / 3)] = 1 << (bit % 3)
    eliminate(crc16(only), 1 << bit, true)
  }
  const bits = eliminate(crc16(before + noTag + after) ^ wanted, 0, false)
  return Array.from(noTag, (_, index) => (bits >> (3 * index)) & 7).join("")
}
