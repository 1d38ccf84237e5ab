import * as Scope from "effect4/Scope"

export * from "effect4/Scope"

export const extend = Scope.provide
