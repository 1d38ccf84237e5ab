/**
 * Whether a message can be believed that a place was granted what it waits for. It is a hint: a user that may
 * publish on the channel can send anything, and a master that was deposed, and does not know it, goes on
 * telling of grants. What it says must be possible, and not worse than a grant could be.
 */
import { validUntil } from "../common/timing.js"
import type { Busy, Told } from "./answers.js"
import type { Surroundings } from "./surroundings.js"

/** How far a fencing token may be ahead of where the server's clock has come to, in µs. */
const mostAhead = 1_000_000

/** What the store knows of the place. */
interface Known {
  readonly protocol: { readonly bounds?: unknown }
  /** What the last answer said; `undefined` before the first. */
  readonly busy: Busy | undefined
  /** The last command. */
  readonly call: { readonly resent: boolean }
  /** When the command was sent that was answered last: the grant came after it. */
  readonly provenAt: number
  /** The longest ttl that it can have been granted with by a message. */
  readonly longestHandoff: number
}

export const isProof = (
  { beatMillis = 0, earlierTokens = 0, fencingToken }: Told,
  ttl: number,
  { busy, call, longestHandoff, protocol, provenAt }: Known,
  { commands, serverTime }: Surroundings,
  key: string,
  now: number
): boolean => {
  const route = commands.routeOf(key)
  // (before the first answer about this place: what the store knows from others)
  const known =
    busy === undefined
      ? serverTime
      : { micros: Math.max(busy.micros, busy.lastFence), sentAt: provenAt }
  return (
    // (the lease of a claim with bounds begins with an answer, and so does one that is acknowledged)
    protocol.bounds === undefined &&
    commands.acknowledging === undefined &&
    // a renewal must get through in what is left: on a connection that is there (a message can come from
    // another node of a Cluster, while the key's is away)
    route.isReady &&
    validUntil(provenAt, ttl) - now > Math.max(ttl / 4, 2 * route.slowestMillis) &&
    known !== undefined &&
    // from a server that has had the heartbeat that was answered last: a master of before has an older one.
    // (Both are the time of the same call, rounded there. Of a place whose only command was sent twice, two
    // servers can know.)
    (busy === undefined ? !call.resent : Math.abs(beatMillis - busy.micros / 1_000) <= 0.5) &&
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
