import type * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"

export * from "effect/Tracer"

/**
 * A tracer as Effect 3 has it: what a span is made of comes one by one, and a step is run by a call. (Where
 * `context` throws, as one of Effect 3 does that Effect 4 is given, a fiber of Effect 4 does not end.)
 */
interface OfEffect3 {
  readonly context: <A>(step: () => A) => A
  readonly span: (
    name: string,
    parent: Option.Option<Tracer.AnySpan>,
    context: unknown,
    links: Array<Tracer.SpanLink>,
    startTime: bigint,
    kind: Tracer.SpanKind
  ) => Tracer.Span
}

export const make = ({ context, span }: OfEffect3): Tracer.Tracer =>
  Tracer.make({
    span: ({ annotations, kind, links, name, parent, startTime }) =>
      Object.assign(span(name, parent, annotations, links, startTime, kind), { annotations }),
    context: (step, fiber) => context(() => step["~effect/Effect/evaluate"](fiber))
  })
