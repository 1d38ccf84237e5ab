import * as Exit from "effect4/Exit"

export * from "effect4/Exit"

export const isInterrupted = Exit.hasInterrupts
