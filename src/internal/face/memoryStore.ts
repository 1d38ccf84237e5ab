/** A store in memory, on the clock of whoever makes it. */
import * as Effect from "effect/Effect"
import type { Defaults, LockClock } from "../../LockStore.js"
import { defect } from "./causes.js"
import { checkDefaults } from "../faces/decodeOptions.js"
import { lockClock } from "./effectClock.js"

/** Impossible options of locks are a defect. */
export const onEffectClock = <Store>(
  defaults: Defaults | undefined,
  make: (clock: LockClock, wallMillis: () => number) => Store
): Effect.Effect<Store> =>
  Effect.gen(function* () {
    const impossible = checkDefaults(defaults)
    if (impossible !== undefined) return yield* defect(impossible)
    const clock = yield* Effect.clock
    const runtime = yield* Effect.runtime<never>()
    return make(lockClock(clock, runtime), () => clock.unsafeCurrentTimeMillis())
  })
