import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

export * from "effect/Schema"

export const parseJson = Schema.fromJsonString
export const encode = Schema.encodeEffect
export const decode = Schema.decodeEffect
export const decodeUnknown = <A, E>(schema: Schema.Codec<A, E>) => {
  const decoded = Schema.decodeUnknownEffect(schema)
  return (input: unknown) => Effect.mapError(decoded(input), named)
}

/** (A `SchemaError` here.) */
const named = ({ message }: Schema.SchemaError) => ({ _tag: "ParseError", message })
