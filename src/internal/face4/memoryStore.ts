/** A store in memory, on the clock of whoever makes it. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { checkDefaults } from "../faces/decodeOptions.js"
import type { Defaults, LockClock } from "../faces/lockStore.js"
import { defect } from "./causes.js"
import { lockClock } from "./effectClock.js"

/** Impossible options of locks are a defect. */
export const onEffectClock = <Store>(
  defaults: Defaults | undefined,
  make: (clock: LockClock, wallMillis: () => number) => Store
): Effect.Effect<Store> =>
  Effect.gen(function* () {
    const impossible = checkDefaults(defaults)
    if (impossible !== undefined) return yield* defect(impossible)
    const clock = yield* Clock.Clock
    const context = yield* Effect.context<never>()
    return make(lockClock(clock, context), () => clock.currentTimeMillisUnsafe())
  })
