import * as Config from "effect/Config"

export * from "effect/Config"

export const duration = Config.Duration
