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
import * as FiberRef from "effect/FiberRef"
import type * as FiberRefs from "effect/FiberRefs"
import * as HashSet from "effect/HashSet"
import * as Runtime from "effect/Runtime"
import type { LockLost } from "../LockError.js"

/** The part of a lease that guarding needs. */
export interface Losable {
  /** Compares clocks. */
  readonly checkHeld: () => boolean
  readonly loss: LockLost
  readonly watch: (watcher: () => void) => () => void
  /** Offers the FiberRefs of a caller, for what the lease has to log. */
  readonly keepRefs: (refs: FiberRefs.FiberRefs) => void
}

export const guard = <A, E, R>(
  lease: Losable,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | LockLost, R> =>
  Effect.withFiberRuntime<A, E | LockLost, R>((caller, status) => {
    if (!lease.checkHeld()) return lease.loss
    const refs = caller.getFiberRefs()
    lease.keepRefs(refs)
    let given: FiberRefs.FiberRefs | undefined
    const child = Runtime.runFork(
      Runtime.make({
        context: caller.currentContext as never,
        fiberRefs: refs,
        runtimeFlags: status.runtimeFlags
      })
    )(effect, {
      updateRefs: (fiberRefs) => (given = fiberRefs)
    })
    const exit = child.unsafePoll()
    if (exit !== null) return conclude(lease, child, given, exit)
    return Effect.flatMap(
      Effect.async<Exit.Exit<A, E>>((resume) => {
        const interrupt = () => child.unsafeInterruptAsFork(lossInterruption)
        const unwatch = lease.watch(interrupt)
        // the lease can have ended while the effect ran its first, synchronous stretch
        if (!lease.checkHeld()) interrupt()
        child.addObserver((exit) => {
          unwatch()
          resume(Exit.succeed(exit))
        })
        return Effect.flatMap(Fiber.interruptAs(child, caller.id()), (exit) =>
          Exit.isFailure(exit) && !Cause.isInterruptedOnly(exit.cause)
            ? Effect.failCause(exit.cause as Cause.Cause<never>)
            : Effect.void
        )
      }),
      (exit) => conclude(lease, child, given, exit)
    )
  })

/** Who interrupts at a loss: so that this interruption can be told from all others. */
const lossInterruption = FiberId.unsafeMake()

const conclude = <A, E>(
  lease: Losable,
  child: Fiber.RuntimeFiber<A, E>,
  given: FiberRefs.FiberRefs | undefined,
  exit: Exit.Exit<A, E>
): Effect.Effect<A, E | LockLost> => {
  const outcome = lease.checkHeld() ? exit : Exit.failCause(followedBy(ownCause(exit), lease.loss))
  return given !== undefined && unchanged(given, child.getFiberRefs())
    ? outcome
    : Effect.zipRight(Fiber.inheritAll(child), outcome)
}

/** Joining FiberRefs copies them several times; most bodies have set none. */
const unchanged = (before: FiberRefs.FiberRefs, after: FiberRefs.FiberRefs): boolean => {
  if (before.locals.size !== after.locals.size) return false
  for (const [fiberRef, values] of after.locals) {
    const given = before.locals.get(fiberRef)
    // (asking for the FiberRefs writes the runtime flags anew)
    const same =
      fiberRef === FiberRef.currentRuntimeFlags ? given?.[0][1] === values[0][1] : given === values
    if (!same) return false
  }
  return true
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
