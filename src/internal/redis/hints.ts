/**
 * Whether a message can be believed that a place was granted what it waits for. It is a hint: a user that may
 * publish on the channel can send anything. What it says must be possible, and not worse than a grant could be.
 */
import { validUntil } from "../common/timing.js"
import type { Busy, Told } from "./answers.js"
import type { ServerTime } from "./surroundings.js"

/** How far a fencing token may be ahead of where the server's clock has come to, in µs. */
const mostAhead = 1_000_000

/** What the store knows of the place. */
interface Known {
  /** What the last answer said; `undefined` before the first. */
  readonly busy: Busy | undefined
  /** When the command was sent that was answered last: the grant came after it. */
  readonly provenAt: number
  /** The longest ttl that it can have been granted with by a message. */
  readonly longestHandoff: number
}

export const isProof = (
  { earlierTokens = 0, fencingToken }: Told,
  ttl: number,
  { busy, longestHandoff, provenAt }: Known,
  serverTime: ServerTime | undefined,
  slowestMillis: number,
  now: number
): boolean => {
  // (before the first answer about this place: what the store knows from others)
  const known =
    busy === undefined
      ? serverTime
      : { micros: Math.max(busy.micros, busy.lastFence), sentAt: provenAt }
  return (
    // a renewal must get through in what is left
    validUntil(provenAt, ttl) - now > Math.max(ttl / 4, 2 * slowestMillis) &&
    known !== undefined &&
    // greater than the last one when the token was found in the queue: the grant came after that. (A token
    // can be queued twice, by an acquire that was sent again.)
    fencingToken - earlierTokens > (busy?.lastFence ?? 0) &&
    // with such a number, what is fenced would refuse all later holders
    fencingToken <= known.micros + (now - known.sentAt) * 1_000 + mostAhead &&
    // its ttl need not be what was asked for last: a command for a caller that has left can have come to the
    // server later
    ttl <= longestHandoff
  )
}
