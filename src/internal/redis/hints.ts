/**
 * A message is a hint: a user that may publish on the channel can send anything, and a master that was
 * deposed, and does not know it, goes on telling of grants. What it says must be possible, and not worse than
 * a grant could be.
 */
import type { Busy, Told } from "./answers.js"

/** How far a fencing token may be ahead of where the server's clock has come to, in µs. */
const mostAhead = 1_000_000

/**
 * It comes from a server that has had the last heartbeat that was answered: from the one that answered it, or
 * one that has its data. A master of before has an older one.
 */
export const isOfLastBeat = ({ beatMillis = 0 }: Told, { micros }: Busy): boolean =>
  // (both are the time of the same call, rounded there)
  Math.abs(beatMillis - micros / 1_000) <= 0.5

/** \`time\`: the server's, at a command of that time here. */
export const isPossible = (
  { earlierTokens = 0, fencingToken }: Told,
  lastFence: number,
  time: { readonly micros: number; readonly sentAt: number },
  now: number
): boolean =>
  // greater than the last one when the token was found in the queue: the grant came after that. (A
  // token can be queued twice, by an acquire that was sent again.)
  fencingToken - earlierTokens > lastFence &&
  // with such a number, what is fenced would refuse all later holders
  fencingToken <= Math.max(time.micros, lastFence) + (now - time.sentAt) * 1_000 + mostAhead
