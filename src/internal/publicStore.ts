/** A store of the engine, as the service that users see: typed with Effect. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { LockStoreError, type LockStoreOperation, LockUnavailable } from "../LockError.js"
import type * as Public from "../LockStore.js"
import { inContext } from "./asyncContext.js"
import type * as Engine from "./engine.js"
import { Opaque } from "./opaque.js"

export const publicContention = (contention: Engine.Contention): Public.Contention => ({
  ahead: contention.ahead,
  retryAfter:
    contention.retryAfterMillis === undefined
      ? undefined
      : Duration.millis(contention.retryAfterMillis),
  holder: {
    owner: contention.owner,
    heldFor:
      contention.heldForMillis === undefined
        ? undefined
        : Duration.millis(contention.heldForMillis),
    foreign: contention.foreign
  }
})

export const lockUnavailable = ({
  contention,
  key,
  waitedMillis
}: Engine.Unavailable): LockUnavailable =>
  new LockUnavailable({
    key,
    waited: Duration.millis(waitedMillis),
    ...publicContention(contention)
  })

export const lockStoreError = (failure: Engine.StoreFailure): LockStoreError => {
  const { cause, detail, key, transient } = failure
  const operation = failure.operation as LockStoreOperation
  return cause === undefined
    ? new LockStoreError({ operation, key, detail, transient })
    : new LockStoreError({ operation, key, detail, transient, cause })
}

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

  constructor(grant: Engine.Grant, clock: Public.LockClock) {
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
    this.release = Effect.async((resume) => {
      grant.release(
        clock.unsafeNow(),
        inContext((exit) => resume(ownership(exit)))
      )
    })
    this.whenLost = (listener) => grant.whenLost(listener)
  }

  toJSON(): unknown {
    return { _id: "Grant", fencingToken: this.fencingToken }
  }
}

const renewal = (exit: Engine.RenewExit): Exit.Exit<Public.Renewal, LockStoreError> =>
  exit._tag === "StoreFailure" ? Exit.fail(lockStoreError(exit)) : Exit.succeed(exit)

const ownership = (exit: Engine.OwnershipExit): Exit.Exit<Public.Ownership, LockStoreError> =>
  typeof exit === "string" ? Exit.succeed(exit) : Exit.fail(lockStoreError(exit))

class PublicStore extends Opaque implements Public.LockStore {
  readonly clock: Public.LockClock
  readonly capabilities: ReadonlySet<Public.Capability>

  constructor(
    private readonly store: Engine.Store,
    readonly defaults: Public.Defaults | undefined
  ) {
    super()
    this.clock = store.clock
    this.capabilities = store.capabilities
  }

  readonly acquire: Public.LockStore["acquire"] = (claim, restore) =>
    Effect.suspend(() => {
      const { clock, store } = this
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
            switch (exit._tag) {
              case "Granted":
                return resume(Exit.succeed(new PublicGrant(exit.grant, clock)))
              case "Unavailable":
                return resume(Exit.fail(lockUnavailable(exit)))
              case "StoreFailure":
                return resume(Exit.fail(lockStoreError(exit)))
            }
          })
        )
      })
      return Effect.onExit(restore(asked), (exit) =>
        Effect.sync(() => {
          if (Exit.isFailure(exit)) cancel?.()
        })
      )
    })
}

export const publicStore = (
  store: Engine.Store,
  defaults: Public.Defaults | undefined
): Public.LockStore => new PublicStore(store, defaults)
