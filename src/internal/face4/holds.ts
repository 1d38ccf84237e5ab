/** What a fiber holds, in a reference: forks inherit it. */
import * as Context from "effect/Context"
import type * as Fiber from "effect/Fiber"
import { adding, type Hold, type Holds } from "../faces/holds.js"

export const CurrentHolds: Context.Reference<Holds | undefined> = Context.Reference<
  Holds | undefined
>("effect-redis-lock/CurrentHolds", { defaultValue: () => undefined })

/** The context of a fiber that holds that, and all that this one holds. */
export const holding = (
  fiber: Fiber.Fiber<unknown, unknown>,
  hold: Hold,
  isGuards: boolean
): Context.Context<never> =>
  Context.add(fiber.context, CurrentHolds, adding(hold, isGuards, fiber.getRef(CurrentHolds)))
