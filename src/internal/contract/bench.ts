/** How the cases of the store contract ask a store. */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import type { LockLost, LockStoreError, LockUnavailable } from "../../LockError.js"
import type { Claim, Contention, Grant, Kind, LockStore } from "../faces/lockStore.js"
import { breaks, type ContractBroken, fails, holds, succeeds, within } from "./check.js"

type Refused = LockUnavailable | LockLost | LockStoreError
type More = Partial<Claim>

/** One of the contract's cases, of one kind. */
export interface Test {
  readonly name: string
  /** `other`: of a case of kinds that meet, the second one. */
  readonly run: (
    bench: Bench,
    other: Kind
  ) => Effect.Effect<void, ContractBroken | Refused, Scope.Scope>
}

/** A claim that waits, in a fiber of its own. */
export interface Waiter {
  readonly fiber: Fiber.Fiber<Grant, Refused | ContractBroken>
  /** What it has ended with, if it has. */
  readonly ended: () => Exit.Exit<Grant, Refused | ContractBroken> | undefined
  /** How often `whenWaiting` was called, and with what last. */
  readonly told: Array<() => Contention>
}

/** Some milliseconds, or some turns of the queue of microtasks. */
export const pause = (index: number): Effect.Effect<unknown> =>
  index < 20
    ? Effect.forEach(Array.from({ length: index }), () => aTurn, { discard: true })
    : Effect.sleep((index - 20) / 4)

const aTurn = Effect.promise(() => Promise.resolve())

/** What a callback tells somebody who waits for it. */
export const latch = () => {
  let open: () => void
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { open: () => open(), opened: Effect.promise(() => opened) }
}

/** No case takes so long, unless the store is silent. */
const patience = 5_000

/** A store, and the questions that a case asks it. */
export class Bench {
  constructor(
    readonly store: LockStore,
    readonly kind: Kind
  ) {}

  /** A key that no other case uses, nor another run. */
  freshKey(): string {
    return `contract-${randomUUID()}`
  }

  now(): number {
    return this.store.clock.unsafeNow()
  }

  /** All of a key, for 10 seconds, in one attempt, where nothing else is said. */
  claim(key: string, more?: More): Claim {
    return {
      key,
      kind: this.kind,
      share: 1,
      limit: 1,
      ttlMillis: 10_000,
      waitMillis: 0,
      owner: undefined,
      ...more
    }
  }

  /** As a lock asks, for as long as the case lasts. */
  ask(key: string, more?: More): Effect.Effect<Grant, Refused, Scope.Scope> {
    const { store } = this
    return Effect.uninterruptibleMask((restore) =>
      Effect.tap(store.acquire(this.claim(key, more), restore), giveBackAtTheEnd)
    )
  }

  /**
   * Asks in a fiber of its own, which is interrupted when `moment` is over, and gives back what it has
   * by then. Answers whether that was a grant.
   */
  interrupted(
    key: string,
    more: More,
    moment: Effect.Effect<unknown, ContractBroken, Scope.Scope>
  ): Effect.Effect<boolean, ContractBroken, Scope.Scope> {
    const { kind, store } = this
    return Effect.gen(function* () {
      let came = false
      const watched: LockStore = {
        ...store,
        acquire: (claim, restore) =>
          Effect.tap(store.acquire(claim, restore), () => Effect.sync(() => (came = true)))
      }
      const asking = new Bench(watched, kind).ask(key, more)
      const fiber = yield* Effect.forkScoped(Effect.scoped(Effect.andThen(asking, Effect.never)))
      yield* moment
      yield* within("An acquisition can be interrupted", 3_000, Fiber.interrupt(fiber))
      return came
    })
  }

  /** It must be granted. */
  grant(
    promise: string,
    key: string,
    more?: More
  ): Effect.Effect<Grant, ContractBroken, Scope.Scope> {
    return within(promise, patience, succeeds(promise, this.ask(key, more)))
  }

  /** It must fail because somebody else has the key. */
  busy(
    promise: string,
    key: string,
    more?: More
  ): Effect.Effect<LockUnavailable, ContractBroken, Scope.Scope> {
    return Effect.flatMap(
      within(promise, patience, fails(promise, this.ask(key, more))),
      (error): Effect.Effect<LockUnavailable, ContractBroken> =>
        error._tag === "LockUnavailable"
          ? Effect.as(
              holds("A LockUnavailable names the key", error.key === key, key, error.key),
              error
            )
          : breaks(promise, "a LockUnavailable", error)
    )
  }

  /** Nobody has any of it, or will have it for any time that comes near a ttl. */
  free(promise: string, key: string, more?: More): Effect.Effect<void, ContractBroken> {
    return Effect.scoped(Effect.asVoid(this.grant(promise, key, { waitMillis: 2_000, ...more })))
  }

  /** Asks in a fiber of its own, and goes on when the claim has to wait. */
  wait(key: string, more?: More): Effect.Effect<Waiter, ContractBroken, Scope.Scope> {
    const waits = latch()
    const told: Array<() => Contention> = []
    const asking = this.ask(key, {
      waitMillis: Number.POSITIVE_INFINITY,
      ...more,
      whenWaiting: (contention) => {
        told.push(contention)
        waits.open()
      }
    })
    return Effect.gen(function* () {
      let ended: ReturnType<Waiter["ended"]>
      const noted = Effect.onExit(asking, (exit) => Effect.sync(() => void (ended = exit)))
      const fiber = yield* Effect.forkScoped(noted)
      const promise = "A claim that has to wait calls whenWaiting"
      const early = Effect.flatMap(Fiber.await(fiber), (found) =>
        breaks(promise, "that it waits", found)
      )
      yield* within(promise, patience, Effect.raceFirst(waits.opened, early))
      return { fiber, told, ended: () => ended }
    })
  }

  /** It must be its turn now. */
  served(promise: string, { fiber }: Waiter): Effect.Effect<Grant, ContractBroken> {
    return within(promise, patience, succeeds(promise, Fiber.join(fiber)))
  }

  /** It must not be its turn yet. */
  stillWaits(promise: string, { ended }: Waiter): Effect.Effect<void, ContractBroken> {
    return Effect.suspend(() =>
      holds(promise, ended() === undefined, "that it still waits", ended())
    )
  }
}

/** Whatever comes of it. */
const giveBackAtTheEnd = (grant: Grant): Effect.Effect<void, never, Scope.Scope> =>
  Effect.addFinalizer(() => Effect.exit(grant.release))
