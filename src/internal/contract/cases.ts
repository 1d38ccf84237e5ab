/** The cases of the store contract, with names, time limits, and one kind of error. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { type Capability, type Kind, LockStore } from "../../LockStore.js"
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
const liveClock = Clock.make()

interface Case {
  readonly name: string
  readonly effect: Effect.Effect<void, ContractBroken, LockStore>
  readonly timeoutMillis: number
}

const caseOf = (prefix: string, test: Test, kind: Kind, other: Kind): Case => {
  const name = `${prefix}: ${test.name}`
  const run = Effect.flatMap(LockStore, (store) =>
    Effect.scoped(test.run(new Bench(store, kind), other))
  )
  // (under a clock that stands still, it would not even run out of time)
  const timed = Effect.withClock(within(`"${name}"`, limitMillis, run), liveClock)
  return {
    name,
    effect: Effect.mapError(timed, (found) =>
      found._tag === "ContractBroken" ? found : broken(`"${name}"`, "no such error", found)
    ),
    // (it ends before a test runner that was told so ends it)
    timeoutMillis: limitMillis + 5_000
  }
}

export const casesOf = (has: ReadonlySet<Capability>): ReadonlyArray<Case> => {
  const kinds = (["lock", "semaphore", "readWriteLock"] as const).filter(
    (kind) => kind === "lock" || has.has(kind)
  )
  const of = (kind: Kind, ...tests: ReadonlyArray<Test>) =>
    tests.map((test) => caseOf(`of a ${kind}`, test, kind, kind))
  return [
    caseOf("the store", clock, "lock", "lock"),
    caseOf("the store", capabilities(has), "lock", "lock"),
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
          kindsThatMeet.map((test) => caseOf(`of a ${kind}, and a ${other}`, test, kind, other))
        )
    ])
  ]
}
