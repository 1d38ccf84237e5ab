import * as Context from "effect/Context"

export * from "effect/Context"

export const GenericTag = (key: string) => Context.Service(key)
export const Tag = (key: string) => () => Context.Service<unknown, unknown>()(key)
