/**
 * A caller that asks for what it has: inside of a lease of its own of the same key, it shares that, with
 * the option `reentrant`, or, for reads in a read, without.
 */
import type { DurationInput, Options } from "../../Lease.js"
import { type Caller, storeOf } from "./caller.js"
import { decodeOptions } from "../faces/decodeOptions.js"
import { CurrentHolds } from "./holds.js"
import { type Hold } from "../faces/holds.js"
import type { HeldLease } from "./lease.js"
import { limitsSeen } from "./limits.js"
import type { Share } from "./share.js"
import type { SharedLease } from "./sharedLease.js"

/**
 * What the caller has instead of a lease of its own: a share; nothing; or a sentence that says what is
 * impossible. The innermost lease decides.
 */
export const ownLease = <L extends HeldLease, I extends SharedLease>(
  key: string,
  share: Share<L, I>,
  options: Options | undefined,
  waitAtMost: DurationInput | undefined,
  caller: Caller
): I | string | undefined => {
  const isReentrant = options?.reentrant === true
  // (reads in a read share anyway, and a write in a read is impossible)
  if (!isReentrant && share.kind !== "readWriteLock") return undefined
  const store = storeOf(caller)
  for (let one = caller.fiber.getRef(CurrentHolds); one !== undefined; one = one.others) {
    const { hold, isGuards } = one
    const { asks, lease } = hold
    if (lease === undefined || hold.store !== store || asks.kind !== share.kind) continue
    if (!has(hold, key, share.keys) || !lease.checkHeld()) continue
    // options that are impossible are a mistake here as well
    const decoded = decodeOptions(key, options, waitAtMost, store.defaults)
    if (typeof decoded === "string") return decoded
    const inner = share.within(lease, { key, isGuarded: isGuards, isReentrant })
    if (inner === undefined) continue
    if (asks.limit !== share.limit && typeof inner !== "string") {
      const { fiber } = caller
      limitsSeen(key, share.limit, asks.limit, store, fiber.context, outerCounts)
    }
    return inner
  }
  return undefined
}

const outerCounts = "It shares the permits of that holder, so the holder's limit counts."

const has = (hold: Hold, key: string, keys: ReadonlyArray<string> | undefined): boolean =>
  keys === undefined ? hold.isOf(key) : keys.some((one) => hold.isOf(one))
