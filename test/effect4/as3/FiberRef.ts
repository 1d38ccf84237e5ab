import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

let references = 0

export const unsafeMake = <A>(initial: A): Context.Reference<A> =>
  Context.Reference<A>(`test/FiberRef/${++references}`, { defaultValue: () => initial })
export const make = <A>(initial: A) => Effect.sync(() => unsafeMake(initial))
export const get = <A>(reference: Context.Reference<A>) =>
  Effect.withFiber((fiber) => Effect.succeed(fiber.getRef(reference)))
export const set = <A>(reference: Context.Reference<A>, value: A) =>
  Effect.withFiber((fiber) => {
    fiber.setContext(Context.add(fiber.context, reference, value))
    return Effect.void
  })
export const getAndSet = <A>(reference: Context.Reference<A>, value: A) =>
  Effect.tap(get(reference), set(reference, value))
