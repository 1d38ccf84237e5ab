import * as Layer from "effect4/Layer"

export * from "effect4/Layer"

export const scoped = Layer.effect
export const scopedDiscard = Layer.effectDiscard
export const unwrapEffect = Layer.unwrap
export const unwrapScoped = Layer.unwrap
