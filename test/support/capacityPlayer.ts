/** Tells a story to the model and to a store, and compares them after every step. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Cause from "effect/Cause"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type { LockError, LockStore } from "effect-redis-lock"
import { expect } from "vitest"
import { type Command, Model, patience, type State } from "./capacityModel.js"
import { claimOf } from "./stores.js"

/** Where a story is played. */
export interface Stage {
  /** The stores that callers ask, each in its turn. */
  readonly stores: ReadonlyArray<LockStore.LockStore>
  readonly keyOf: (key: number) => string
  /** Lets everything happen that can. */
  readonly settled: Effect.Effect<void>
  readonly advance: (millis: number) => Effect.Effect<void>
  /** Takes a holder's entry away. */
  readonly vanish: (key: string, fencingToken: number) => Effect.Effect<unknown>
}

type Failure = LockError.LockUnavailable | LockError.LockStoreError

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
  { advance, keyOf, settled, stores, vanish }: Stage
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
          yield* vanish(keyOf(model.callers[who]!.key), grantOf(who).fencingToken)
          break
        }
        case "Advance":
          // event by event: what one of them sets off has happened before the next one comes
          for (let left = command.millis; left > 0;) {
            const step = Math.min(left, model.quiet)
            model.advance(step)
            yield* advance(step)
            yield* settled
            left -= step
          }
      }
      yield* settled

      expect(fibers.map(stateOf)).toEqual(model.callers.map(({ state }) => state))
      expect(served).toEqual(model.grants)
      const owners: Array<number> = []
      for (const who of [...model.grants].sort((a, b) => a - b)) {
        if ((yield* Effect.orDie(grantOf(who).verify)) === "Ours") owners.push(who)
      }
      expect(owners).toEqual(model.holders)
      for (const who of model.grants) {
        const floor = model.callers[who]!.floor!
        const { fencingFloor, fencingToken } = grantOf(who)
        expect(fencingFloor ?? fencingToken).toBe(grantOf(floor).fencingToken)
      }
      for (const key of [0, 1, 2]) {
        const mine = model.grants.filter((who) => model.callers[who]!.key === key)
        const fences = mine.map((who) => grantOf(who).fencingToken)
        expect(fences).toEqual([...new Set(fences)].sort((a, b) => a - b))
        const room = model.room(key)
        const look = yield* Effect.orDie(stores[0]!.look!(keyOf(key), 1_000))
        expect(look).toMatchObject({
          kind: room?.kind,
          inUse: room === undefined ? 0 : model.inUse(room),
          limit: room === undefined || room.holders.length === 0 ? undefined : model.limit(room),
          heldCount: room?.holders.length ?? 0,
          pendingCount: room?.queue.length ?? 0
        })
        expect(look.held.map(({ owner }) => owner)).toEqual(
          room?.holders.map((who) => `caller ${who}`) ?? []
        )
        expect(look.pending.map(({ owner }) => owner)).toEqual(
          room?.queue.map((who) => `caller ${who}`) ?? []
        )
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
    yield* settled
    for (const key of [0, 1, 2]) {
      const { heldCount, pendingCount } = yield* Effect.orDie(stores[0]!.look!(keyOf(key), 0))
      expect([heldCount, pendingCount]).toEqual([0, 0])
    }
    return { grants: model.grants.length, together }
  })
