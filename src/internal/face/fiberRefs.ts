import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import type * as FiberRefs from "effect/FiberRefs"

/**
 * The FiberRefs of a fiber, as they are now: a value that never changes, so it can be kept, and is
 * the same one for as long as none is set.
 *
 * `fiber.getFiberRefs()` copies all of them on each call (to write the runtime flags among them),
 * which is a tenth of what an uncontended lock costs. The field behind it is not of Effect's
 * documented surface: where it is missing, the copy serves as well.
 */
export const fiberRefsOf = (fiber: Fiber.RuntimeFiber<unknown, unknown>): FiberRefs.FiberRefs =>
  (fiber as { readonly _fiberRefs?: FiberRefs.FiberRefs })._fiberRefs ?? fiber.getFiberRefs()

/**
 * Changes a FiberRef of the running fiber in place, or, where that cannot be done, answers an effect that
 * does it: that takes some steps more. (That, too, is not of the documented surface.)
 */
export const updateFiberRef = <A>(
  fiber: Fiber.RuntimeFiber<unknown, unknown>,
  fiberRef: FiberRef.FiberRef<A>,
  update: (value: A) => A
): Effect.Effect<void> | undefined => {
  const inside = fiber as { readonly setFiberRef?: (ref: FiberRef.FiberRef<A>, value: A) => void }
  if (inside.setFiberRef === undefined) return FiberRef.update(fiberRef, update)
  inside.setFiberRef(fiberRef, update(fiber.getFiberRef(fiberRef)))
  return undefined
}
