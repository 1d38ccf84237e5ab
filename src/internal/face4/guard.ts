/**
 * Runs an effect for as long as a lease is held, in a fiber of its own: interrupting the caller's would
 * kill the caller. A fork and an observer, and not `Effect.raceFirst`, which drops what the loser ends
 * with: a finalizer that dies at the loss must be told.
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { LockLost } from "../../LockError.js"
import { closingGoesOn } from "../faces/closing.js"
import type { Losable } from "../faces/holds.js"
import type { Restore } from "../faces/lockStore.js"
import { withoutInterruptions } from "./causes.js"
import { holding } from "./holds.js"
import { afterwards } from "./resuming.js"

export const guard = <A, E, R>(
  lease: Losable,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | LockLost, R> =>
  Effect.uninterruptibleMask((restore) => guarded(lease, effect, restore))

/** For a caller who is in an uninterruptible region, and what gives an effect its interruptibility back. */
export const guarded = <A, E, R>(
  lease: Losable,
  effect: Effect.Effect<A, E, R>,
  restore: Restore
): Effect.Effect<A, E | LockLost, R> =>
  // a caller who has been interrupted already, and can be, does not begin
  Effect.flatMap(restore(Effect.fiber), (caller) => {
    if (!lease.checkHeld()) return Effect.fail(lease.loss)
    const child = start(lease, restore(effect), caller)
    const exit = child.pollUnsafe()
    if (exit !== undefined) {
      closingGoesOn(child, caller)
      return conclude(lease, exit)
    }
    // also for a caller who cannot be interrupted: parts of the effect can be
    return Effect.matchCauseEffect(Effect.interruptible(end(lease, child)), {
      onSuccess: (exit) => {
        closingGoesOn(child, caller)
        return conclude(lease, exit)
      },
      onFailure: (interruption) =>
        Effect.flatMap(Effect.andThen(Fiber.interrupt(child), Fiber.await(child)), (exit) => {
          closingGoesOn(child, caller)
          // (it fails for those who could be interrupted: for others the exit counts)
          return Effect.matchCauseEffect(restore(Effect.void), {
            onSuccess: () => conclude(lease, exit),
            onFailure: () => Effect.failCause(followedBy(interruption, exit))
          })
        })
    })
  })

/**
 * Starts the effect, in place: it belongs to nobody, since its caller waits for its end in any case. (A
 * child would have to be known to its parent, who could be interrupted before it knows the child.)
 */
const start = <A, E, R>(
  lease: Losable,
  effect: Effect.Effect<A, E, R>,
  caller: Fiber.Fiber<unknown, unknown>
): Fiber.Fiber<A, E> => {
  const run = Effect.runForkWith(holding(caller, lease.hold, true) as Context.Context<R>)
  depth++
  try {
    const body = depth < maxDepth ? effect : Effect.andThen(Effect.yieldNow, effect)
    return run(body, { uninterruptible: true })
  } finally {
    depth--
  }
}

/**
 * How many effects are starting in place, one within another. Each takes some of the stack, so a nest
 * of thousands goes on in the scheduler's next turn, on a stack of its own.
 */
let depth = 0
const maxDepth = 100

/** How the effect ends; at a loss, soon. Never fails by itself. */
const end = <A, E>(lease: Losable, child: Fiber.Fiber<A, E>): Effect.Effect<Exit.Exit<A, E>> =>
  Effect.callback((resume) => {
    const interrupt = () => child.interruptUnsafe(lossInterruption)
    const unwatch = lease.onEnd(() => afterwards(interrupt))
    // the lease can have ended while the effect ran its first, synchronous stretch
    if (!lease.checkHeld()) interrupt()
    child.addObserver((exit) => {
      unwatch()
      afterwards(() => resume(Effect.succeed(exit)))
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

/** An interruption, and what the effect made of it. */
const followedBy = <A, E>(
  interruption: Cause.Cause<never>,
  exit: Exit.Exit<A, E>
): Cause.Cause<E> =>
  Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)
    ? Cause.combine(interruption, withoutInterruptions(exit.cause))
    : interruption
