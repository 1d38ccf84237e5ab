import * as Chunk from "effect4/Chunk"

export * from "effect4/Chunk"

/** Also of an array: a stream is collected in one. */
export const toReadonlyArray = <A>(self: Chunk.Chunk<A> | ReadonlyArray<A>): ReadonlyArray<A> =>
  Array.isArray(self) ? (self as ReadonlyArray<A>) : Chunk.toReadonlyArray(self as Chunk.Chunk<A>)
