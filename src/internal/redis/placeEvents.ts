/** What a place in the queue tells its line (`line.ts`). */
import type { Claim } from "../engine.js"
import type { Told } from "./answers.js"
import type { Outcome } from "./call.js"

/** Events of a place. Each of them except `onBusy`, `onPostponed` and `onUnanswered` ends it. */
export interface PlaceEvents<Place> {
  /** The caller of the line that the place stands for now. */
  claimFor(place: Place): Claim | undefined
  /** Granted, by a command (or a proof) of that moment, with that ttl. */
  onGranted(place: Place, told: Told, sentAt: number, ttl: number): void
  /** Queued, or queued still. */
  onBusy(place: Place): void
  /** The first command was refused, for as long as the key's slot is on its way: it is sent again. */
  onPostponed(place: Place): void
  /** A heartbeat failed; answers when the next one of the callers has waited for too long. */
  onUnanswered(place: Place, outcome: Outcome): number
  /** Its turn, or its grant, was not claimed in time: it stands nowhere. */
  onGone(place: Place, askedAt: number): void
  /** The claim's tick is not later than the last one that was granted. */
  onRefused(place: Place, lastTick: number): void
  /** The first command failed, or what it was granted was not acknowledged. */
  onFailed(place: Place, outcome: Outcome): void
  /** It was not needed, or nobody knows whether it stands in the queue: another one is taken then. */
  onUnused(place: Place): void
}
