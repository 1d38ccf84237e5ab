/** Spans, on Effect 4: made where somebody receives them, of a wait, of the time that a lease is held, of its release. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Tracer from "effect/Tracer"
import { Lock, MemoryLockStore } from "effect-redis-lock/effect4"
import { describe, expect, it } from "vitest"

/** Keeps all spans that were begun. */
const recording = () => {
  const spans: Array<Tracer.NativeSpan> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  const find = (name: string) => spans.find((span) => span.name === name)!
  return { tracer, spans, find }
}

const endOf = ({ status }: Tracer.NativeSpan): string =>
  status._tag === "Started" ? "goes on" : status.exit._tag

const traced = <A, E>(effect: Effect.Effect<A, E>, tracer: Tracer.Tracer) =>
  Effect.runPromiseExit(Effect.provideService(effect, Tracer.Tracer, tracer))

describe("spans", () => {
  it("of withLock: the acquisition, the lease with the body in it, and the release", async () => {
    const { find, spans, tracer } = recording()
    await traced(
      Effect.withSpan(Effect.void, "body").pipe(
        Lock.withLock("k", { name: "jobs", owner: "me" }),
        Effect.withSpan("caller"),
        Effect.provide(MemoryLockStore.layer)
      ),
      tracer
    )
    expect(spans.map(({ name }) => name)).toEqual([
      "caller",
      "Lock.acquire",
      "Lock.hold",
      "body",
      "Lock.release"
    ])
    const parentOf = (name: string) => {
      const { parent } = find(name)
      return parent._tag === "Some" && parent.value._tag === "Span" ? parent.value.name : undefined
    }
    expect(parentOf("Lock.acquire")).toBe("caller")
    expect(parentOf("Lock.hold")).toBe("caller")
    expect(parentOf("body")).toBe("Lock.hold")
    expect(parentOf("Lock.release")).toBe("Lock.hold")
    expect(Object.fromEntries(find("Lock.acquire").attributes)).toMatchObject({
      "lock.key": "k",
      "lock.name": "jobs",
      "lock.owner": "me",
      "lock.outcome": "acquired"
    })
    expect(spans.map(endOf)).toEqual(spans.map(() => "Success"))
  })

  it("of a lease that is lost say why", async () => {
    const { find, tracer } = recording()
    const exit = await traced(
      Lock.withLock("k")(({ fencingToken }) =>
        Effect.andThen(Lock.forceRelease("k", fencingToken), Effect.never)
      ).pipe(Effect.provide(MemoryLockStore.layer)),
      tracer
    )
    expect(Exit.isFailure(exit)).toBe(true)
    expect(find("Lock.hold").attributes.get("lock.lost")).toBe("Revoked")
    expect(endOf(find("Lock.hold"))).toBe("Failure")
  })

  it("of an attempt that finds the key taken are no failures", async () => {
    const { spans, tracer } = recording()
    await traced(
      Lock.withLock("k")(Lock.withLockIfAvailable("k")(Effect.void)).pipe(
        Effect.provide(MemoryLockStore.layer)
      ),
      tracer
    )
    const [, inner] = spans.filter(({ name }) => name === "Lock.acquire")
    expect(inner!.attributes.get("lock.outcome")).toBe("unavailable")
    expect(endOf(inner!)).toBe("Success")
  })

  it("a tracer that throws keeps no lock", async () => {
    for (const failing of ["Lock.acquire", "Lock.hold", "Lock.release"]) {
      const tracer = Tracer.make({
        span: (options) => {
          if (options.name === failing) throw new Error(failing)
          return new Tracer.NativeSpan(options)
        }
      })
      const isFree = await Effect.runPromise(
        Effect.gen(function* () {
          yield* Effect.exit(
            Effect.provideService(Lock.withLock("k")(Effect.void), Tracer.Tracer, tracer)
          )
          return yield* Effect.isSuccess(Effect.scoped(Lock.tryAcquire("k")))
        }).pipe(Effect.provide(MemoryLockStore.layer))
      )
      expect([failing, isFree]).toEqual([failing, true])
    }
  })
})
