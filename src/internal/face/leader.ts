/** Candidates for the lead of a key, and those who observe it. */
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { DurationInput, Lease } from "../../Lease.js"
import { LockLost, LockStoreError } from "../../LockError.js"
import type { LockStore } from "../../LockStore.js"
import { decodeOptions } from "../faces/decodeOptions.js"
import { decodeEvery, isSameTerm, leaderIn, patience, tellDropped } from "../faces/lead.js"
import type { LeaderInfo, Options } from "../faces/leader.js"
import { checkRetry } from "../faces/outages.js"
import { backgroundLayer } from "./background.js"
import { type Body, bodyWith, underLease } from "./body.js"
import { defect, errorIn, isInterruption } from "./causes.js"
import { comparingFirst } from "./comparingFirst.js"
import type { HeldLease } from "./lease.js"
import { lookAt } from "./look.js"
import { throughOutages } from "./outages.js"
import { ownLock, type Share } from "./share.js"

// ---------------------------------------------------------------- candidates

/** A lock, of which others are told who has it. */
const lead: Share<HeldLease, never> = {
  ...ownLock,
  direct: true,
  spans: { acquire: "Leader.stand", hold: "Leader.lead" }
}

/** Stands for the lead until its work has ended by itself. */
export const standing = <A, E, R>(
  key: string,
  options: Options | undefined,
  work: Body<Lease, A, E, R>
): Effect.Effect<A, E | LockStoreError, R | LockStore> =>
  Effect.suspend(() => {
    const impossible = checkRetry(options)
    if (impossible !== undefined) {
      return defect(impossible)
    }
    const stand = throughOutages(key, options, term(key, options, work))
    const again: Effect.Effect<A, E | LockStoreError, R | LockStore> = Effect.flatMap(
      stand,
      (exit) => exit ?? again
    )
    return again
  })

/** From the candidacy to the end of the lead: what its work ended with, or nothing, if the lead was lost. */
const term = <A, E, R>(
  key: string,
  options: Options | undefined,
  work: Body<Lease, A, E, R>
): Effect.Effect<Exit.Exit<A, E> | undefined, LockStoreError, R | LockStore> =>
  Effect.suspend(() => {
    let lease: HeldLease | undefined
    let own: Exit.Exit<A, E> | undefined
    const led = underLease(key, lead, { ...options, ...patience }, (given: HeldLease) => {
      lease = given
      const noted = Effect.onExit(bodyWith(work, given), (exit) =>
        Effect.sync(() => {
          own = exit
        })
      )
      return comparingFirst(given, noted)
    })
    type Ended = Effect.Effect<Exit.Exit<A, E> | undefined, LockStoreError>
    return Effect.flatMap(Effect.exit(led), (exit): Ended => {
      if (lease === undefined) return notBegun(exit)
      if (Exit.isSuccess(exit)) return Effect.succeed(Exit.succeed(exit.value))
      if (!isLossOf(lease, exit.cause)) {
        return Effect.succeed(Exit.failCause(exit.cause as Cause.Cause<E>))
      }
      // a defect is a mistake of the program, whoever leads
      const defects = own === undefined ? Option.none() : defectsIn(own)
      if (Option.isSome(defects)) return Effect.succeed(Exit.failCause(defects.value))
      const isDropped = own !== undefined && !(Exit.isFailure(own) && isInterruption(own.cause))
      return isDropped
        ? Effect.as(tellDropped(lease, options?.owner, own!), undefined)
        : Effect.succeed(undefined)
    })
  })

const defectsIn = (exit: Exit.Exit<unknown, unknown>): Option.Option<Cause.Cause<never>> =>
  Exit.isFailure(exit) ? Cause.keepDefects(exit.cause) : Option.none()

/** Not elected, or the lead was lost before the work could begin. */
const notBegun = (exit: Exit.Exit<unknown, unknown>): Effect.Effect<undefined, LockStoreError> => {
  const cause = Exit.isFailure(exit) ? exit.cause : Cause.empty
  const error = errorIn(cause)
  if (error instanceof LockLost) return Effect.succeed(undefined)
  // (a store that keeps its contract lets it wait for ever)
  return error === undefined || error instanceof LockStoreError
    ? Effect.failCause(cause as Cause.Cause<LockStoreError>)
    : Effect.die(error)
}

const isLossOf = ({ fencingToken, key }: HeldLease, cause: Cause.Cause<unknown>): boolean =>
  Chunk.some(
    Cause.failures(cause),
    (error) => error instanceof LockLost && error.key === key && error.fencingToken === fencingToken
  )

/** The same in the background. The options are looked at when the layer is built. */
export const standingLayer = <A, E, R>(
  key: string,
  options: Options | undefined,
  work: Body<Lease, A, E, R>
): Layer.Layer<never, never, LockStore | Exclude<R, Scope.Scope>> =>
  backgroundLayer(
    key,
    options?.owner,
    (defaults) =>
      checkRetry(options) ?? decodeOptions(key, { ...options, ...patience }, undefined, defaults),
    standing(key, options, (lease) => Effect.scoped(bodyWith(work, lease)))
  )

// ---------------------------------------------------------------- observers

export const currentLeader = (
  key: string
): Effect.Effect<Option.Option<LeaderInfo>, LockStoreError, LockStore> =>
  Effect.flatMap(lookAt(key, 1), (look) => leaderIn(key, look))

export const leaderChanges = (
  key: string,
  every: DurationInput
): Stream.Stream<Option.Option<LeaderInfo>, LockStoreError, LockStore> =>
  Stream.suspend(() => {
    const millis = decodeEvery(every)
    if (typeof millis === "string") return Stream.fromEffect(defect(millis))
    // what is not known is not told
    const known = Effect.catchIf(
      Effect.asSome(currentLeader(key)),
      ({ transient }) => transient,
      () => Effect.succeedNone
    )
    return Stream.repeatEffectWithSchedule(known, Schedule.spaced(Duration.millis(millis))).pipe(
      Stream.filter(Option.isSome),
      Stream.map(({ value }) => value),
      Stream.changesWith(isSameTerm)
    )
  })
