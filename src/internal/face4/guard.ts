/**
 * Runs an effect for as long as a lease is held, in a fiber of its own: interrupting the caller's would
 * kill the caller. A fork and an observer, and not `Effect.raceFirst`, which drops what the loser ends
 * with: a finalizer that dies at the loss must be told.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { LockLost } from "../../LockError.js"
import type { Losable } from "../faces/holds.js"
import type { Restore } from "../faces/lockStore.js"
import { withoutInterruptions } from "./causes.js"
import { closingGoesOn } from "../faces/closing.js"
import { holding } from "./holds.js"

export const guard = <A, E, R>(
  lease: Losable,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | LockLost, R> =>
  Effect.uninterruptibleMask((restore) => guarded(lease, effect, restore))

/** For a caller who is in an uninterruptible region. */
export const guarded = <A, E, R>(
  lease: Losable,
  effect: Effect.Effect<A, E, R>,
  restore: Restore
): Effect.Effect<A, E | LockLost, R> =>
  Effect.withFiber((fiber) => {
    if (!lease.checkHeld()) return Effect.fail(lease.loss)
    let child: Fiber.Fiber<A, E> | undefined
    // it says itself who it is: an interruption of the caller can drop what a fork answers
    const body = Effect.withFiber<A, E, R>((self) => {
      child = self as Fiber.Fiber<A, E>
      self.setContext(holding(self, lease.hold, true))
      return effect
    })
    const started = restore(
      Effect.forkChild(body, { startImmediately: true, uninterruptible: "inherit" })
    )
    return Effect.matchCauseEffect(
      Effect.flatMap(started, (child) => {
        const exit = child.pollUnsafe()
        return exit === undefined ? restore(end(lease, child)) : Effect.succeed(exit)
      }),
      {
        onSuccess: (exit) => {
          closingGoesOn(child!, fiber)
          return conclude(lease, exit)
        },
        onFailure: (cause) => {
          if (child === undefined) return Effect.failCause(cause)
          const interrupted = child
          return Effect.flatMap(
            Effect.andThen(Fiber.interrupt(interrupted), Fiber.await(interrupted)),
            (exit) => {
              closingGoesOn(interrupted, fiber)
              return Effect.failCause(
                Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)
                  ? Cause.combine(cause, withoutInterruptions(exit.cause))
                  : cause
              )
            }
          )
        }
      }
    )
  })

/** How the effect ends; at a loss, soon. Never fails by itself. */
const end = <A, E>(lease: Losable, child: Fiber.Fiber<A, E>): Effect.Effect<Exit.Exit<A, E>> =>
  Effect.callback((resume) => {
    const interrupt = () => child.interruptUnsafe(lossInterruption)
    const unwatch = lease.onEnd(interrupt)
    // the lease can have ended while the effect ran its first, synchronous stretch
    if (!lease.checkHeld()) interrupt()
    child.addObserver((exit) => {
      unwatch()
      resume(Effect.succeed(exit))
    })
  })

/** The interruptor at a loss, which is no fiber: it tells this interruption from all others. */
const lossInterruption = -1

const conclude = <A, E>(lease: Losable, exit: Exit.Exit<A, E>): Exit.Exit<A, E | LockLost> =>
  lease.checkHeld() ? exit : Exit.failCause(Cause.combine(ownCause(exit), Cause.fail(lease.loss)))

/** What the effect failed with by itself. */
const ownCause = <A, E>(exit: Exit.Exit<A, E>): Cause.Cause<E> => {
  if (Exit.isSuccess(exit)) return Cause.empty
  return Cause.interruptors(exit.cause).has(lossInterruption)
    ? withoutInterruptions(exit.cause)
    : exit.cause
}
