/** A store of the engine, as the service that users see: typed with Effect. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { identity } from "effect/Function"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { LockLost, LockStoreError, LockUnavailable } from "../../LockError.js"
import type * as Public from "../faces/lockStore.js"
import type * as Engine from "../engine.js"
import { StoreFailure } from "../engine.js"
import {
  acquireExit,
  causeOf,
  engineClaim,
  publicContention,
  publicLook
} from "../faces/answers.js"
import { defect } from "./causes.js"
import { inClosing } from "../faces/closing.js"
import { resuming } from "./resuming.js"
import { Shown } from "./shown.js"
import { Opaque } from "../faces/opaque.js"
import { type Asking, lookAtAll } from "../faces/snapshots.js"

/**
 * Asks the engine. What is answered at once costs no suspension; the answer to somebody who does not
 * wait for it any more is forgotten.
 */
const asked = <Answer, A, E>(
  ask: (onExit: (answer: Answer) => void) => Engine.Forget,
  exitOf: (answer: Answer) => Exit.Exit<A, E>,
  restore: Public.Restore = identity
): Effect.Effect<A, E> =>
  Effect.suspend(() => {
    let exit: Exit.Exit<A, E> | undefined
    let resume: ((exit: Exit.Exit<A, E>) => void) | undefined
    const forget = ask((answer) => {
      exit = exitOf(answer)
      if (resume !== undefined) resuming(resume)(exit)
    })
    if (exit !== undefined) return exit
    const turn = Effect.callback<A, E>((tell) => {
      if (exit === undefined) resume = tell
      else tell(exit)
    })
    return Effect.onExit(restore(turn), (exit) =>
      Exit.isFailure(exit) ? Effect.sync(forget) : Effect.void
    )
  })

const nothing = (): void => {}

/** Looks at all these keys at once; nothing of those that cannot be looked at for the moment. */
export const looks: Asking["looks"] = (store, keys, atMost, ended) => {
  const engine = engineStoreOf(store)
  return engine?.look === undefined
    ? Effect.forEach(keys, (key) => store.look!(key, atMost, ended(key)), {
        concurrency: "unbounded"
      })
    : asked(lookAtAll(engine, keys, atMost, ended), answer<ReadonlyArray<Public.Look | undefined>>)
}

/** An answer that is a value, or a failure. */
const answer = <A>(exit: A | Engine.StoreFailure): Exit.Exit<A, LockStoreError> =>
  exit instanceof StoreFailure ? Exit.failCause(causeOf(exit)) : Exit.succeed(exit)

/** All that a holder is given: own properties, so that a copy with some of them replaced works. */
class PublicGrant extends Shown implements Public.Grant {
  readonly token: string
  readonly fencingToken: number
  readonly fencingFloor: number
  readonly validUntil: number
  readonly holdUntil?: number
  readonly contention: Public.Contention | undefined
  readonly renew: Public.Grant["renew"]
  readonly verify: Public.Grant["verify"]
  readonly release: Public.Grant["release"]
  readonly whenLost: NonNullable<Public.Grant["whenLost"]>
  readonly reshare?: NonNullable<Public.Grant["reshare"]>
  readonly handOver?: NonNullable<Public.Grant["handOver"]>

  constructor(grant: Engine.Grant, store: Engine.Store) {
    super()
    this.token = grant.token
    this.fencingToken = grant.fencingToken
    this.fencingFloor = grant.fencingFloor
    this.validUntil = grant.validUntil
    this.contention = grant.contention && publicContention(grant.contention)
    if (grant.holdUntil !== undefined) this.holdUntil = grant.holdUntil
    this.renew = asked((onExit) => grant.renew(onExit), renewal)
    this.verify = asked((onExit) => grant.verify(onExit), ownership)
    this.release = asked((onExit) => {
      inClosing<Engine.OwnershipExit>(
        Fiber.getCurrent(),
        store,
        (since, tell) => grant.release(since, tell),
        onExit
      )
      return nothing
    }, ownership)
    this.whenLost = (listener) => grant.whenLost(listener)
    // (where a store can: an object of one's own for each grant is not free)
    if (grant.reshare !== undefined) {
      this.reshare = (share) => asked((onExit) => grant.reshare!(share, onExit), renewal)
    }
    if (grant.handOver !== undefined) {
      this.handOver = Effect.uninterruptible(asked((onExit) => grant.handOver!(onExit), renewal))
    }
  }

  override toJSON(): unknown {
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
  readonly identity: string | undefined
  readonly whyNot: Public.LockStore["whyNot"]
  readonly acquire: Public.LockStore["acquire"]
  readonly look?: NonNullable<Public.LockStore["look"]>
  readonly keys?: NonNullable<Public.LockStore["keys"]>
  readonly revoke?: NonNullable<Public.LockStore["revoke"]>

  constructor(
    store: Engine.Store,
    readonly defaults: Public.Defaults | undefined
  ) {
    super()
    this.clock = store.clock
    this.capabilities = store.capabilities
    this.identity = store.identity
    this.whyNot = store.whyNot
    this.acquire = (claim, restore) =>
      asked(
        (onExit: (exit: Engine.AcquireExit) => void) => store.acquire(engineClaim(claim), onExit),
        (exit): Exit.Exit<Public.Grant, LockUnavailable | LockLost | LockStoreError> =>
          Exit.map(acquireExit(exit, claim.kind, defect), (grant) => new PublicGrant(grant, store)),
        restore
      )
    if (store.look !== undefined) {
      this.look = (key, atMost, ended = []) =>
        Effect.map(
          asked<Engine.Look | StoreFailure, Engine.Look, LockStoreError>(
            (onExit) => store.look!(key, atMost, ended, onExit),
            answer
          ),
          publicLook
        )
    }
    if (store.keys !== undefined) {
      this.keys = (prefix) =>
        Stream.paginate(undefined as string | undefined, (from) =>
          Effect.map(
            asked<Engine.Page | StoreFailure, Engine.Page, LockStoreError>(
              (onExit) => store.keys!(prefix, from, onExit),
              answer
            ),
            ({ keys, next }) =>
              [keys, next === undefined ? Option.none() : Option.some(next)] as const
          )
        )
    }
    if (store.revoke !== undefined) {
      this.revoke = (key, fencingToken) =>
        asked<boolean | StoreFailure, boolean, LockStoreError>(
          (onExit) => store.revoke!(key, fencingToken, onExit),
          answer
        )
    }
    engineStores.set(this, store)
  }
}

export const publicStore = (
  store: Engine.Store,
  defaults: Public.Defaults | undefined
): Public.LockStore => new PublicStore(store, defaults)
