/** What runs in the background of a layer. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { type Defaults, LockStore } from "../../LockStore.js"
import { show } from "../common/options.js"
import { defect, isInterruption } from "./causes.js"
import { quietly } from "../faces/logs.js"

/** For as long as the scope is open. Nobody is told of its failure but by the log. */
const inBackground = <A, E, R>(
  key: string,
  owner: string | undefined,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<void, never, R | Scope.Scope> =>
  Effect.catchAllCause(effect, (cause) =>
    isInterruption(cause)
      ? Effect.failCause(cause)
      : quietly(
          key,
          owner,
          Effect.logError(`What ran in the background for ${show(key)} has failed`, cause)
        )
  ).pipe(
    // (a layer may be built in an uninterruptible region)
    Effect.interruptible,
    Effect.forkScoped,
    Effect.asVoid
  )

/** The same as a layer. What `check` says that is a sentence is wrong with the options: looked at first. */
export const backgroundLayer = <A, E, R>(
  key: string,
  owner: string | undefined,
  check: (defaults: Defaults | undefined) => unknown,
  effect: Effect.Effect<A, E, R>
): Layer.Layer<never, never, LockStore | Exclude<R, Scope.Scope>> =>
  Layer.scopedDiscard(
    Effect.flatMap(LockStore, ({ defaults }) => {
      const checked = check(defaults)
      return typeof checked === "string" ? defect(checked) : inBackground(key, owner, effect)
    })
  )
