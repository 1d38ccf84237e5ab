/**
 * Runs an effect for as long as a lease is held.
 *
 * The effect needs a fiber of its own: interrupting the caller's would kill the caller. The fiber
 * is started in place, so an effect that does not suspend costs neither a fork nor a wake-up
 * (`Effect.raceFirst` costs 50 µs and more, a forked fiber 25, this some 5). What Effect promises
 * is carried by hand: the caller's context, FiberRefs, runtime flags and interruptibility go in,
 * the FiberRefs come back, and an interruption of the caller waits for the effect's finalizers.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as FiberRefs from "effect/FiberRefs"
import * as HashSet from "effect/HashSet"
import * as RuntimeFlags from "effect/RuntimeFlags"
import type { LockLost } from "../../LockError.js"
import { inContext } from "../faces/asyncContext.js"
import { type Caller, uninterruptibly } from "./caller.js"
import { closingGoesOn } from "../faces/closing.js"
import { fiberRefsOf } from "./fiberRefs.js"
import { type Given, startLike } from "./fork.js"
import { currentHolds } from "./currentHolds.js"
import { adding, type Hold, type Losable } from "../faces/holds.js"

export const guard = <A, E, R>(
  lease: Losable,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | LockLost, R> =>
  uninterruptibly((caller) => startGuarded(lease, effect, caller))

/**
 * Starts the effect, for that caller, who is in an uninterruptible region; the result is an exit
 * already where the effect did not suspend.
 */
export const startGuarded = <A, E, R>(
  lease: Losable,
  effect: Effect.Effect<A, E, R>,
  { fiber, runtimeFlags }: Caller
): Effect.Effect<A, E | LockLost> => {
  if (!lease.checkHeld()) return Exit.fail(lease.loss)
  const refs = new ChildRefs(fiberRefsOf(fiber), lease.hold)
  let child: Fiber.RuntimeFiber<A, E>
  depth++
  try {
    const body = depth < maxDepth ? effect : Effect.zipRight(Effect.yieldNow(), effect)
    child = startLike(fiber, runtimeFlags, body, refs)
  } finally {
    depth--
  }
  const exit = child.unsafePoll()
  if (exit !== null) return conclude(lease, child, refs, exit)
  return Effect.matchCauseEffect(Effect.interruptible(end(lease, child)), {
    onFailure: (cause) =>
      Effect.flatMap(Fiber.interruptAs(child, fiber.id()), (exit) => {
        closingGoesOn(child, fiber)
        // who could not be interrupted has parts that can be: what these make of it counts
        if (!RuntimeFlags.interruption(runtimeFlags)) return conclude(lease, child, refs, exit)
        return Effect.failCause(
          Exit.isFailure(exit) && !Cause.isInterruptedOnly(exit.cause)
            ? Cause.sequential(cause, exit.cause as Cause.Cause<never>)
            : cause
        )
      }),
    onSuccess: (exit) => {
      closingGoesOn(child, fiber)
      return conclude(lease, child, refs, exit)
    }
  })
}

/**
 * How many effects are starting in place, one within another. Each takes about a kilobyte of the
 * stack, so a nest of thousands goes on in the scheduler's next turn, on a stack of its own.
 */
let depth = 0
const maxDepth = 100

/** How the effect ends; at a loss, soon. Never fails by itself. */
const end = <A, E>(
  lease: Losable,
  child: Fiber.RuntimeFiber<A, E>
): Effect.Effect<Exit.Exit<A, E>> =>
  Effect.async((resume) => {
    const interrupt = () => child.unsafeInterruptAsFork(lossInterruption)
    const unwatch = lease.onEnd(inContext<void>(interrupt))
    // the lease can have ended while the effect ran its first, synchronous stretch
    if (!lease.checkHeld()) interrupt()
    child.addObserver((exit) => {
      unwatch()
      resume(Exit.succeed(exit))
    })
  })

/** What a fork of the caller is given; and it holds the lease. */
export class ChildRefs implements Given {
  given: FiberRefs.FiberRefs | undefined = undefined

  constructor(
    private readonly ofCaller: FiberRefs.FiberRefs,
    private readonly hold: Hold
  ) {}

  readonly updateRefs = (_: FiberRefs.FiberRefs, child: FiberId.Runtime): FiberRefs.FiberRefs => {
    const { locals } = (this.given = FiberRefs.forkAs(this.ofCaller, child))
    // (a copy of its own, of which nobody knows yet: another one is a tenth of what a lock costs)
    const others = locals.get(currentHolds)
    const own = [child, adding(this.hold, true, others?.[0][1])] as const
    locals.set(currentHolds, others === undefined ? [own] : [own, ...others])
    return this.given
  }
}

/** The interruptor at a loss: it tells this interruption from all others. */
const lossInterruption = FiberId.unsafeMake()

const conclude = <A, E>(
  lease: Losable,
  child: Fiber.RuntimeFiber<A, E>,
  refs: ChildRefs,
  exit: Exit.Exit<A, E>
): Effect.Effect<A, E | LockLost> => {
  const outcome = lease.checkHeld() ? exit : Exit.failCause(followedBy(ownCause(exit), lease.loss))
  // joining copies them several times; most bodies have set none
  return fiberRefsOf(child) === refs.given
    ? outcome
    : Effect.zipRight(Fiber.inheritAll(child), outcome)
}

const followedBy = <E>(cause: Cause.Cause<E>, loss: LockLost): Cause.Cause<E | LockLost> =>
  Cause.isEmpty(cause) ? Cause.fail(loss) : Cause.sequential(cause, Cause.fail(loss))

/** What the effect failed with by itself. */
const ownCause = <A, E>(exit: Exit.Exit<A, E>): Cause.Cause<E> => {
  if (Exit.isSuccess(exit)) return Cause.empty
  return HashSet.has(Cause.interruptors(exit.cause), lossInterruption)
    ? withoutInterruptions(exit.cause)
    : exit.cause
}

const withoutInterruptions = <E>(cause: Cause.Cause<E>): Cause.Cause<E> =>
  Cause.match<Cause.Cause<E>, E>(cause, {
    onEmpty: Cause.empty,
    onFail: Cause.fail,
    onDie: Cause.die,
    onInterrupt: () => Cause.empty,
    onSequential: Cause.sequential,
    onParallel: Cause.parallel
  })
