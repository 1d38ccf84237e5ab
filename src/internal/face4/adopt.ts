/** A lease comes from another process: what the adopter does for that. */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { Options } from "../../Lease.js"
import type { LockLost, LockStoreError } from "../../LockError.js"
import { LockStore } from "../../effect4/LockStore.js"
import type { Adopted, Kind } from "../faces/lockStore.js"
import { impossible } from "../common/options.js"
import { lacking, notCapable, StoreFailure } from "../engine.js"
import { scopedLease } from "./acquire.js"
import { lockStoreError } from "../faces/answers.js"
import { defect } from "./causes.js"
import { type Handle, isSealed, millis } from "../faces/handle.js"
import type { HeldLease } from "./lease.js"
import type { Share } from "./share.js"
import { BoundGrant, sourceOf } from "./sources.js"

/** In place of a lease that waits for its turn, one that was handed over. */
class Adopting<L extends HeldLease> implements Share<L, never> {
  readonly kind: Kind
  readonly share: number
  readonly limit: number
  readonly attributes: Share["attributes"]
  readonly spans: Share["spans"]

  constructor(
    private readonly asks: Share<L>,
    private readonly adopt: Adopted
  ) {
    this.kind = asks.kind
    this.share = asks.share
    this.limit = asks.limit
    this.attributes = asks.attributes
    this.spans = { ...asks.spans, acquire: asks.spans.acquire.replace(/\.\w+$/, ".adopt") }
  }

  readonly makeLease: Share<L>["makeLease"] = (key, options, grant, ...held) =>
    this.asks.makeLease(
      key,
      // (it can be handed over again)
      options.maxHoldMillis === undefined && options.holdAtLeastMillis === undefined
        ? options
        : {
            ...options,
            firstFencingToken: this.adopt.firstFencingToken ?? this.adopt.fencingToken
          },
      grant instanceof BoundGrant ? grant.unbound : grant,
      ...held
    )

  /** Whatever its caller is inside of. */
  within(): undefined {
    return undefined
  }

  readonly take: NonNullable<Share["take"]> = (claim, _, store, caller, onExit) => {
    const { holdAtLeastMillis, key, kind, limit, maxHoldMillis, owner, share, ttlMillis } = claim
    return sourceOf(store, caller.fiber).acquire(
      {
        key,
        kind,
        share,
        limit,
        ttlMillis,
        waitMillis: 0,
        owner,
        maxHoldMillis,
        holdAtLeastMillis,
        adopt: this.adopt,
        whenLimitDiffers: (other) => claim.whenLimitDiffers?.(other)
      },
      onExit
    )
  }
}

/** What is to be taken, or a sentence that says what is wrong with the handle. */
const shareIn = <L extends HeldLease>(
  handle: Handle,
  kind: Kind,
  shareOf: (handle: Handle) => Share<L> | string
): Share<L> | string => {
  // (whoever does not use types may give anything)
  if (typeof handle !== "object" || handle === null || !Redacted.isRedacted(handle.token)) {
    return impossible(
      "handle",
      handle,
      "It must be one that was handed over: decode what you have received with the schema of effect-redis-lock/Handle."
    )
  }
  if (handle.kind !== kind) {
    return impossible("handle.kind", handle.kind, `Here a handle of kind ${kind} is adopted.`)
  }
  if (!isSealed(handle)) {
    return impossible("handle.seal", handle.seal, "It has been changed since it was made.")
  }
  const share = shareOf(handle)
  if (typeof share === "string" || share.share === handle.share) return share
  return impossible(
    "handle.share",
    handle.share,
    `Here one with a share of ${share.share} is adopted: that of a read is 1, that of the write ${share.limit}.`
  )
}

/** Takes over what was handed over, into the caller's scope. */
export const adopted = <L extends HeldLease>(
  handle: Handle,
  options: Options | undefined,
  kind: Kind,
  shareOf: (handle: Handle) => Share<L> | string
): Effect.Effect<L, LockLost | LockStoreError, LockStore | Scope.Scope> =>
  Effect.flatMap(
    LockStore,
    (store): Effect.Effect<L, LockLost | LockStoreError, LockStore | Scope.Scope> => {
      const share = shareIn(handle, kind, shareOf)
      if (typeof share === "string") return defect(share)
      for (const option of ["maxHold", "holdAtLeast"] as const) {
        const given = options?.[option]
        if (given === undefined) continue
        const why = "A lease that is adopted cannot have one of its own: it has that of its handle."
        return defect(impossible(option, given, why))
      }
      const { fencingToken, firstFencingToken, holdAtLeast, key, maxHold, store: origin } = handle
      const adopt = { token: Redacted.value(handle.token), fencingToken, firstFencingToken }
      const [maxHoldMillis, holdAtLeastMillis] = [millis(maxHold), millis(holdAtLeast)]
      const needed = lacking({ kind, adopt, maxHoldMillis, holdAtLeastMillis }, store.capabilities)
      if (needed !== undefined) {
        return Effect.fail(lockStoreError(notCapable("adopt", key, needed)))
      }
      if (origin !== undefined && (store.identity ?? origin) !== origin) {
        const detail = `The lease was handed over in another store (${origin}) than this one (${store.identity}).`
        return Effect.fail(lockStoreError(new StoreFailure("adopt", key, detail, false)))
      }
      const own = { ...options, ttl: options?.ttl ?? handle.ttl, maxHold, holdAtLeast }
      const taken = scopedLease<L, never>(key, new Adopting(share, adopt), own, 0)
      // (it waits for nobody)
      return Effect.catchTag(taken, "LockUnavailable", Effect.die)
    }
  )
