import * as Context from "effect4/Context"

export * from "effect4/Context"

export const GenericTag = Context.Service
export const Tag =
  (id: string) =>
  <Self, Shape>() =>
    Context.Service<Self, Shape>()(id)
export type Tag<Self, Shape> = Context.Service<Self, Shape>
