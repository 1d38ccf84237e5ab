/** Candidates for the lead of a key, and those who observe it: what is the same on every face. */
import * as Cause from "effect/Cause"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type { DurationInput } from "../../Lease.js"
import { LockStoreError } from "../../LockError.js"
import { checkEvery, notADuration, show } from "../common/options.js"
import type { LeaderInfo } from "./leader.js"
import type { Look } from "./lockStore.js"
import { quietly } from "./logs.js"
import { toMillis } from "./millis.js"

/** To wait is what most candidates do: for as long as it takes, and it is no news. */
export const patience = { waitAtMost: Duration.infinity, warnAfter: Duration.infinity }

/** What the work ended with, other than by the interruption. */
export const tellDropped = (
  { fencingToken, key }: { readonly fencingToken: number; readonly key: string },
  owner: string | undefined,
  own: Exit.Exit<unknown, unknown>
): Effect.Effect<void> => {
  const what = Exit.isSuccess(own)
    ? "It had succeeded."
    : `It had failed: ${Cause.pretty(own.cause)}`
  return quietly(
    key,
    owner,
    Effect.logWarning(
      `The lead of ${show(key)} (term ${fencingToken}) was lost before its work had ended. What it ended with is dropped, and this process stands again. ${what}`
    )
  )
}

export const leaderIn = (
  key: string,
  { held, kind }: Look
): Effect.Effect<Option.Option<LeaderInfo>, LockStoreError> => {
  const [leader] = held
  if (leader === undefined || leader.foreign || kind !== "lock") return Effect.succeedNone
  const { fencingToken, heldFor, incarnation, isLeft, owner } = leader
  if (isLeft === true) return Effect.succeedNone
  if (fencingToken === undefined || heldFor === undefined) {
    return Effect.fail(
      new LockStoreError({
        operation: "look",
        key,
        detail:
          "Somebody leads, and the store does not know who: the record of the grant is gone (deleted, or evicted). The next leader's will be there.",
        transient: true
      })
    )
  }
  return Effect.map(DateTime.now, (now) =>
    Option.some({
      owner,
      term: fencingToken,
      since: DateTime.subtractDuration(now, heldFor),
      incarnation
    })
  )
}

/** Milliseconds between two questions, or a sentence. */
export const decodeEvery = (every: DurationInput): number | string => {
  const millis = toMillis(every)
  return millis === undefined ? notADuration("every", every) : (checkEvery(millis) ?? millis)
}

export const isSameTerm = (a: Option.Option<LeaderInfo>, b: Option.Option<LeaderInfo>): boolean =>
  Option.getOrUndefined(a)?.term === Option.getOrUndefined(b)?.term
