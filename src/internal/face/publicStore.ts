/** A store of the engine, as the service that users see: typed with Effect. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { LockStoreError, LockUnavailable } from "../../LockError.js"
import type * as Public from "../../LockStore.js"
import { inContext } from "./asyncContext.js"
import { inClosing } from "./closing.js"
import type * as Engine from "../engine.js"
import { acquireExit, causeOf, publicContention } from "./answers.js"
import { Opaque } from "./opaque.js"

/** All that a holder is given: own properties, so that a copy with some of them replaced works. */
class PublicGrant implements Public.Grant {
  readonly token: string
  readonly fencingToken: number
  readonly fencingFloor: number
  readonly validUntil: number
  readonly contention: Public.Contention | undefined
  readonly renew: Public.Grant["renew"]
  readonly verify: Public.Grant["verify"]
  readonly release: Public.Grant["release"]
  readonly whenLost: NonNullable<Public.Grant["whenLost"]>

  constructor(grant: Engine.Grant, store: Engine.Store) {
    this.token = grant.token
    this.fencingToken = grant.fencingToken
    this.fencingFloor = grant.fencingFloor
    this.validUntil = grant.validUntil
    this.contention = grant.contention && publicContention(grant.contention)
    this.renew = Effect.async((resume) =>
      Effect.sync(grant.renew(inContext((exit) => resume(renewal(exit)))))
    )
    this.verify = Effect.async((resume) =>
      Effect.sync(grant.verify(inContext((exit) => resume(ownership(exit)))))
    )
    this.release = Effect.async((resume) =>
      inClosing<Engine.OwnershipExit>(
        store,
        (since, onExit) => grant.release(since, onExit),
        inContext((exit) => resume(ownership(exit)))
      )
    )
    this.whenLost = (listener) => grant.whenLost(listener)
  }

  toJSON(): unknown {
    return { _id: "Grant", fencingToken: this.fencingToken }
  }
}

const renewal = (exit: Engine.RenewExit): Exit.Exit<Public.Renewal, LockStoreError> =>
  exit._tag === "Renewed" || exit._tag === "NotOurs"
    ? Exit.succeed(exit)
    : Exit.failCause(causeOf(exit))

const ownership = (exit: Engine.OwnershipExit): Exit.Exit<Public.Ownership, LockStoreError> =>
  typeof exit === "string" ? Exit.succeed(exit) : Exit.failCause(causeOf(exit))

/** Of stores that users have: a copy of one, with other members, is not among them. */
const engineStores = new WeakMap<object, Engine.Store>()

/** What is behind a store that a user has: where it is one of ours, as we made it. */
export const engineStoreOf = (store: Public.LockStore): Engine.Store | undefined =>
  engineStores.get(store)

class PublicStore extends Opaque implements Public.LockStore {
  readonly clock: Public.LockClock
  readonly capabilities: ReadonlySet<Public.Capability>
  readonly acquire: Public.LockStore["acquire"]

  constructor(
    store: Engine.Store,
    readonly defaults: Public.Defaults | undefined
  ) {
    super()
    this.clock = store.clock
    this.capabilities = store.capabilities
    this.acquire = (claim, restore) => acquire(store, claim, restore)
    engineStores.set(this, store)
  }
}

const acquire = (
  store: Engine.Store,
  claim: Public.Claim,
  restore: Public.Restore
): Effect.Effect<Public.Grant, LockUnavailable | LockStoreError> =>
  Effect.suspend(() => {
    let cancel: (() => void) | undefined
    const asked = Effect.async<Public.Grant, LockUnavailable | LockStoreError>((resume) => {
      const { whenWaiting } = claim
      cancel = store.acquire(
        {
          ...claim,
          whenWaiting:
            whenWaiting && ((contention) => whenWaiting(() => publicContention(contention())))
        },
        inContext((exit) => {
          resume(Exit.map(acquireExit(exit), (grant) => new PublicGrant(grant, store)))
        })
      )
    })
    return Effect.onExit(restore(asked), (exit) =>
      Effect.sync(() => {
        if (Exit.isFailure(exit)) cancel?.()
      })
    )
  })

export const publicStore = (
  store: Engine.Store,
  defaults: Public.Defaults | undefined
): Public.LockStore => new PublicStore(store, defaults)
