import * as ConfigProvider from "effect/ConfigProvider"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

export * from "effect/Layer"

export const scoped = Layer.effect
export const succeedContext = Layer.succeedContext
export const setConfigProvider = ConfigProvider.layer
export const unwrapEffect = Layer.unwrap
export const unwrapScoped = Layer.unwrap
export const map = <A, B>(
  layer: Layer.Layer<A>,
  f: (context: Context.Context<A>) => Context.Context<B>
) => Layer.effectContext(Effect.map(Layer.build(layer), f))
