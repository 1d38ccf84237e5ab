import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import * as Scope from "effect/Scope"

export * from "effect/Scope"

type Any = Effect.Effect<unknown, unknown, Scope.Scope>

export const extend: {
  (scope: Scope.Scope): (self: Any) => unknown
  (self: Any, scope: Scope.Scope): unknown
} = dual(2, (self: Any, scope: Scope.Scope) => Effect.provideService(self, Scope.Scope, scope))
export const make = (strategy?: "sequential" | "parallel") => Scope.make(strategy)
