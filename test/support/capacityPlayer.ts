/** Tells a story to the model and to a store, and compares them after every step. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Cause from "effect/Cause"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type { LockError, LockStore } from "effect-redis-lock"
import { expect } from "vitest"
import * as fc from "fast-check"
import {
  type Command,
  Model,
  patience,
  type State,
  type Stories,
  stories
} from "./capacityModel.js"
import { replay } from "./queueModel.js"
import { claimOf } from "./stores.js"

/** Where a story is played. */
export interface Stage {
  /** The stores that callers ask, each in its turn. */
  readonly stores: ReadonlyArray<LockStore.LockStore>
  readonly keyOf: (key: number) => string
  /** Lets everything happen that can; or waits until all is as it should be, if it comes to that. */
  readonly settled: (isAsExpected: Effect.Effect<boolean>) => Effect.Effect<void>
  readonly advance: (millis: number) => Effect.Effect<void>
  /** Takes a holder's entry away. */
  readonly vanish: (
    key: string,
    fencingToken: number,
    kind: LockStore.Kind
  ) => Effect.Effect<unknown>
  /** Puts somebody into a held key's queue who is dead, with this owner. */
  readonly deadWaiter?: (key: string, kind: LockStore.Kind, owner: string) => Effect.Effect<unknown>
  /** Whether callers are told of their grants in the order in which they were made. */
  readonly tellsInOrder: boolean
}

/** The owner of waiters that have died: for the model there are none. */
const dead = "dead"

type Failure = LockError.LockError

const stateOf = (fiber: Fiber.RuntimeFiber<LockStore.Grant, Failure>): State => {
  const exit = fiber.unsafePoll()
  if (exit === null) return "waiting"
  if (Exit.isSuccess(exit)) return "granted"
  const failure = Option.getOrUndefined(Cause.failureOption(exit.cause))
  return failure === undefined
    ? "cancelled"
    : failure._tag === "LockUnavailable"
      ? "unavailable"
      : "refused"
}

/** How many grants there were, and how many more of them than one at a time. */
export interface Played {
  readonly grants: number
  readonly together: number
}

export const play = (
  commands: ReadonlyArray<Command>,
  { advance, deadWaiter, keyOf, settled, stores, tellsInOrder, vanish }: Stage
): Effect.Effect<Played> =>
  Effect.gen(function* () {
    const model = new Model()
    const fibers: Array<Fiber.RuntimeFiber<LockStore.Grant, Failure>> = []
    const served: Array<number> = []
    let together = 0
    const grantOf = (who: number): LockStore.Grant => {
      const exit = fibers[who]!.unsafePoll()
      if (exit === null || Exit.isFailure(exit)) throw new Error(`${who} has no grant`)
      return exit.value
    }
    /** Everyone that was ever granted something: also those who have nothing any more. */
    const granted = (who: number): number | undefined =>
      model.grants.length === 0 ? undefined : model.grants[who % model.grants.length]!

    /** What anyone sees, and what should be seen. */
    const observed = Effect.gen(function* () {
      const looks = yield* Effect.forEach([0, 1, 2], (key) =>
        Effect.orDie(stores[0]!.look!(keyOf(key), 1_000))
      )
      return {
        states: fibers.map(stateOf),
        looks: looks.map(({ held, inUse, kind, limit, pending }) => {
          const waiting = pending.flatMap(({ owner }) => (owner === dead ? [] : [owner]))
          return {
            kind: held.length + waiting.length === 0 ? undefined : kind,
            inUse,
            limit,
            held: held.map(({ owner }) => owner),
            pending: waiting
          }
        })
      }
    })
    const expected = () => ({
      states: model.callers.map(({ state }) => state),
      looks: [0, 1, 2].map((key) => {
        const room = model.room(key)
        return {
          kind: room?.kind,
          inUse: room === undefined ? 0 : model.inUse(room),
          limit: room === undefined || room.holders.length === 0 ? undefined : model.limit(room),
          held: room?.holders.map((who) => `caller ${who}`) ?? [],
          pending: room?.queue.map((who) => `caller ${who}`) ?? []
        }
      })
    })
    const asExpected = Effect.map(
      observed,
      (seen) => JSON.stringify(seen) === JSON.stringify(expected())
    )

    for (const command of commands) {
      switch (command._tag) {
        case "Arrive": {
          model.arrive(command)
          const { key, kind, limit, share, ttl } = command
          const who = fibers.length
          const store = stores[who % stores.length]!
          const claim = claimOf(keyOf(key), {
            kind,
            share,
            limit,
            ttlMillis: ttl,
            waitMillis: patience(who, command),
            owner: `caller ${who}`
          })
          const asked = Effect.uninterruptibleMask((restore) => store.acquire(claim, restore))
          fibers.push(
            yield* Effect.fork(
              Effect.interruptible(Effect.tap(asked, () => Effect.sync(() => served.push(who))))
            )
          )
          break
        }
        case "Cancel": {
          const { waiting } = model
          if (waiting.length === 0) continue
          const who = waiting[command.who % waiting.length]!
          model.cancel(who)
          yield* Fiber.interrupt(fibers[who]!)
          break
        }
        case "Release": {
          const who = granted(command.who)
          if (who === undefined) continue
          const isOurs = model.holds(who)
          if (isOurs) model.end(who)
          expect((yield* Effect.orDie(grantOf(who).release)) === "Ours").toBe(isOurs)
          break
        }
        case "Renew": {
          const who = granted(command.who)
          if (who === undefined) continue
          const isOurs = model.holds(who)
          if (isOurs) model.renew(who)
          const { _tag } = yield* Effect.orDie(grantOf(who).renew)
          expect(_tag === "Renewed").toBe(isOurs)
          break
        }
        case "Reshare": {
          const who = granted(command.who)
          if (who === undefined) continue
          const share = Math.min(command.share, model.callers[who]!.share)
          const isOurs = model.holds(who)
          if (isOurs) model.reshare(who, share)
          const { _tag } = yield* Effect.orDie(grantOf(who).reshare!(share))
          expect(_tag === "Renewed").toBe(isOurs)
          break
        }
        case "Vanish": {
          const { holders } = model
          if (holders.length === 0) continue
          const who = holders[command.who % holders.length]!
          model.end(who)
          const { key, kind } = model.callers[who]!
          yield* vanish(keyOf(key), grantOf(who).fencingToken, kind)
          break
        }
        case "DeadWaiter": {
          const room = model.room(command.key)
          if (deadWaiter === undefined || room === undefined || room.holders.length === 0) continue
          yield* deadWaiter(keyOf(command.key), room.kind, dead)
          break
        }
        case "Advance":
          // event by event: what one of them sets off has happened before the next one comes
          for (let left = command.millis; left > 0;) {
            const step = Math.min(left, model.quiet)
            model.advance(step)
            yield* advance(step)
            yield* settled(asExpected)
            left -= step
          }
      }
      yield* settled(asExpected)

      expect(yield* observed).toEqual(expected())
      // (leases of two keys that end in the same moment have no order)
      const inOrder = (told: ReadonlyArray<number>) =>
        [0, 1, 2].map((key) => {
          const mine = told.filter((who) => model.callers[who]!.key === key)
          return tellsInOrder ? mine : mine.sort((a, b) => a - b)
        })
      expect(inOrder(served)).toEqual(inOrder(model.grants))
      const owners: Array<number> = []
      for (const who of [...model.grants].sort((a, b) => a - b)) {
        if ((yield* Effect.orDie(grantOf(who).verify)) === "Ours") owners.push(who)
      }
      expect(owners).toEqual(model.holders)
      const floors = model.grants.map((who) => {
        const { fencingFloor, fencingToken } = grantOf(who)
        return fencingFloor ?? fencingToken
      })
      expect(floors).toEqual(
        model.grants.map((who) => grantOf(model.callers[who]!.floor!).fencingToken)
      )
      for (const key of [0, 1, 2]) {
        const mine = model.grants.filter((who) => model.callers[who]!.key === key)
        const fences = mine.map((who) => grantOf(who).fencingToken)
        expect(fences).toEqual([...new Set(fences)].sort((a, b) => a - b))
        const look = yield* Effect.orDie(stores[0]!.look!(keyOf(key), 1_000))
        expect(look.heldCount).toBe(look.held.length)
        // (one that has died is counted until somebody comes by)
        if (deadWaiter === undefined) expect(look.pendingCount).toBe(look.pending.length)
        // whatever the model says: nobody's limit is exceeded
        for (const { limit, ttlLeft } of look.held) {
          expect(look.held.reduce((sum, { share }) => sum + share, 0)).toBeLessThanOrEqual(limit)
          expect(Duration.toMillis(ttlLeft!)).toBeGreaterThan(0)
        }
        together += Math.max(0, look.heldCount - 1)
      }
    }

    yield* Fiber.interruptAll(fibers)
    for (const who of model.grants) yield* Effect.orDie(grantOf(who).release)
    const nobody = Effect.forEach([0, 1, 2], (key) =>
      Effect.map(
        Effect.orDie(stores[0]!.look!(keyOf(key), 0)),
        ({ heldCount, pendingCount }) => heldCount + pendingCount
      )
    )
    yield* settled(Effect.map(nobody, (counts) => counts.every((count) => count === 0)))
    expect(yield* nobody).toEqual([0, 0, 0])
    return { grants: model.grants.length, together }
  })

/**
 * Tells as many stories, each as `tell` does. Where nobody was granted anything, or nobody beside another,
 * nothing was shown. One that fails is made smaller when it is told again, by its seed and path.
 */
export const tellStories = (
  options: Stories,
  { atLeast, numRuns }: { readonly numRuns: number; readonly atLeast: number },
  tell: (commands: ReadonlyArray<Command>) => Promise<Played>
): Effect.Effect<void> =>
  Effect.promise(async () => {
    let [grants, together] = [0, 0]
    await fc.assert(
      fc.asyncProperty(stories(options), async (commands) => {
        const played = await tell(commands)
        grants += played.grants
        together += played.together
      }),
      { numRuns, endOnFailure: replay().path === undefined, ...replay() }
    )
    if (replay().path !== undefined) return
    expect(grants).toBeGreaterThan(atLeast)
    expect(together).toBeGreaterThan(atLeast / 3)
  })
