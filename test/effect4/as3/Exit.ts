import * as Exit from "effect/Exit"

export * from "effect/Exit"

export const isInterrupted = Exit.hasInterrupts
