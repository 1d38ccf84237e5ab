import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"

/** The fiber that runs, if one does. */
export const currentFiber = (): object | undefined => Option.getOrUndefined(Fiber.getCurrentFiber())
