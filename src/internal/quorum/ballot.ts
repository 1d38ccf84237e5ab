/**
 * Whose grants a majority is made of, and the fencing token that is written back to them.
 *
 * A majority of grants is not enough: the greatest of their fencing tokens is written back (`Seat.confirm`),
 * and only nodes that have answered that count. So every later majority has a node whose number is greater.
 * (Redlock has the majority, and the validity from before the first question on: antirez, "Distributed Locks
 * with Redis". That it needs fencing tokens: Kleppmann, "How to do distributed locking", 2016. That a value
 * is written back to a majority before it is used: Attiya, Bar-Noy and Dolev, "Sharing memory robustly in
 * message-passing systems", 1995.)
 */
import type { Grant } from "../engine.js"
import { provenBy } from "./majority.js"
import type { Seat } from "./seat.js"

export class Ballot {
  /** The grants of which the greatest fencing token is written back. */
  private voters: ReadonlySet<Grant> = new Set()
  fencingToken = 0

  /** Until when a majority has confirmed it; `undefined`: some of them are asked to. */
  provenUntil(held: ReadonlyArray<Seat>, majority: number): number | undefined {
    let voters: ReadonlyArray<Seat> = held.filter(({ grant }) => this.voters.has(grant!))
    if (voters.length < majority) {
      // those that come later do not count: each of them would be another round trip
      voters = held
      this.voters = new Set(held.map(({ grant }) => grant!))
      this.fencingToken = Math.max(...held.map(({ grant }) => grant!.fencingToken))
    }
    const { fencingToken } = this
    const confirmed = voters.filter((seat) => seat.confirmed >= fencingToken)
    if (confirmed.length >= majority) {
      return provenBy(
        confirmed.map(({ provenUntil }) => provenUntil),
        majority
      )
    }
    for (const seat of voters) {
      const isAsked = Math.max(seat.confirmed, seat.confirming ?? 0) >= fencingToken
      if (!isAsked) seat.confirm(fencingToken)
    }
    return undefined
  }
}
