/** The cases of the store contract, with names, time limits, and one kind of error. */
import * as Effect from "effect/Effect"
import type { Capability, Kind, LockStore } from "../faces/lockStore.js"
import { Bench, type Test } from "./bench.js"
import { heldAtLeast, heldAtMost } from "./bounds.js"
import { kindsThatMeet, readWriteLocks, reshared, semaphores } from "./capacity.js"
import { broken, type ContractBroken, within } from "./check.js"
import { handedOver, sharesHandedOver } from "./handOver.js"
import { holding } from "./holding.js"
import { capabilities, clock, listing, looking, revoking } from "./members.js"
import { ticks } from "./ticks.js"
import { waiting } from "./waiting.js"

const limitMillis = 20_000

interface Case<R> {
  readonly name: string
  readonly effect: Effect.Effect<void, ContractBroken, R>
  readonly timeoutMillis: number
}

/** What the versions of Effect have in different ways. */
export interface Face<R> {
  readonly store: Effect.Effect<LockStore, never, R>
  /** The same by the live `Clock`. */
  readonly live: <A, E>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

const caseOf = <R>(face: Face<R>, prefix: string, test: Test, kind: Kind, other: Kind): Case<R> => {
  const name = `${prefix}: ${test.name}`
  const run = Effect.flatMap(face.store, (store) =>
    Effect.scoped(test.run(new Bench(store, kind), other))
  )
  // (under a clock that stands still, it would not even run out of time)
  const timed = face.live(within(`"${name}"`, limitMillis, run))
  return {
    name,
    effect: Effect.mapError(timed, (found) =>
      found._tag === "ContractBroken" ? found : broken(`"${name}"`, "no such error", found)
    ),
    // (it ends before a test runner that was told so ends it)
    timeoutMillis: limitMillis + 5_000
  }
}

export const casesOf = <R>(has: ReadonlySet<Capability>, face: Face<R>): ReadonlyArray<Case<R>> => {
  const kinds = (["lock", "semaphore", "readWriteLock"] as const).filter(
    (kind) => kind === "lock" || has.has(kind)
  )
  const of = (kind: Kind, ...tests: ReadonlyArray<Test>) =>
    tests.map((test) => caseOf(face, `of a ${kind}`, test, kind, kind))
  return [
    caseOf(face, "the store", clock, "lock", "lock"),
    caseOf(face, "the store", capabilities(has), "lock", "lock"),
    ...kinds.flatMap((kind) => [
      ...of(kind, ...holding, ...waiting),
      ...of(kind, ...(has.has("look") ? looking : [])),
      ...of(kind, ...(has.has("keys") ? [listing] : [])),
      ...of(kind, ...(has.has("revoke") ? [revoking] : [])),
      ...of(kind, ...(has.has("maxHold") ? heldAtMost : [])),
      ...of(kind, ...(has.has("holdAtLeast") ? heldAtLeast : [])),
      ...of(kind, ...(has.has("handOver") ? handedOver : [])),
      ...of(kind, ...(kind === "semaphore" && has.has("handOver") ? sharesHandedOver : [])),
      ...of(kind, ...(kind === "lock" && has.has("tick") ? ticks : [])),
      ...of(kind, ...(kind === "semaphore" ? semaphores : [])),
      ...of(kind, ...(kind === "readWriteLock" ? readWriteLocks : [])),
      ...of(kind, ...(kind !== "lock" && has.has("reshare") ? reshared : [])),
      ...kinds
        .filter((other) => other !== kind)
        .flatMap((other) =>
          kindsThatMeet.map((test) =>
            caseOf(face, `of a ${kind}, and a ${other}`, test, kind, other)
          )
        )
    ])
  ]
}
