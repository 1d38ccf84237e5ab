/**
 * Where things are in Redis. The lock is stored under exactly the prefix and the user's key; what
 * belongs to it stands beside it, under the same prefix, and in the same Cluster slot.
 *
 * A key with a hash tag, `a{b}c`, gives its companions the same tag: `a{b}c::lock-record`. Any other
 * key becomes the tag: `prefix{prefix key}:lock-record`. That is not possible where such a key
 * contains a `}`, or the prefix a `{`: the stored key is refused then.
 */

import { show } from "../options.js"

const suffixes = [":lock-record", ":lock-queue", ":lock-waiters"] as const

/** The lock, the record of its last grant, its queue, and what is known of its waiters. */
export type LockKeys = readonly [lock: string, record: string, queue: string, waiters: string]

/** What Redis Cluster hashes of a key: what is between the first `{` and the next `}`, or all. */
export const hashed = (key: string): string => {
  const open = key.indexOf("{")
  if (open === -1) return key
  const close = key.indexOf("}", open + 1)
  return close <= open + 1 ? key : key.slice(open + 1, close)
}

/**
 * The keys to send, or a sentence that says why there can be none. `clientPrefix` is what the
 * client itself puts before every key.
 */
export const lockKeys = (clientPrefix: string, prefix: string, key: string): LockKeys | string => {
  const stored = clientPrefix + prefix + key
  for (const suffix of suffixes) {
    if (stored.endsWith(suffix)) {
      return `Impossible lock key: ${show(key)}. Keys that end in ${suffix} are used by the library itself.`
    }
  }
  // "}:" and "::" keep the companions of "a" and of "{a}" apart
  const beside = hashed(stored) === stored ? `${prefix}{${stored}}` : `${prefix}${key}:`
  const [record, queue, waiters] = suffixes
  return hashed(clientPrefix + beside + record) === hashed(stored)
    ? [prefix + key, beside + record, beside + queue, beside + waiters]
    : `Impossible lock key: ${show(key)}${prefix + clientPrefix === "" ? "" : ` (stored as ${show(stored)})`}. Its braces leave no way to store anything in the same Cluster slot: give it a hash tag, as in "{tag}rest", or no braces.`
}
