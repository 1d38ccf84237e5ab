import * as Effect from "effect/Effect"

export * from "effect/Runtime"

export const runPromise = Effect.runPromiseWith
export const runFork = Effect.runForkWith
