/** Leases in one Redis (or Sentinel group, or Cluster): one script per step. */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { LockStoreError, type LockStoreOperation, LockUnavailable } from "../../LockError.js"
import type { Claim, Grant, LockStore, Ownership, Renewal, Restore } from "../../LockStore.js"
import { retryDelay, validUntil } from "../timing.js"
import { processClock } from "../timers.js"
import { makeToken } from "../token.js"
import type { Call, Commands, Outcome } from "./commands.js"
import { explain, isTransient } from "./errors.js"
import { type LockKeys, lockKeys } from "./layout.js"
import * as scripts from "./scripts.js"

export interface StoreSettings {
  readonly clientPrefix: string
  readonly prefix: string
  readonly owner: string
  /** How often a waiter asks. */
  readonly heartbeatMillis: number
  /** How often a waiter asks while a foreign program holds the key. */
  readonly foreignPollMillis: number
}

interface Busy {
  readonly leftMillis: number | undefined
  readonly foreign: boolean
  readonly owner: string | undefined
  readonly heldForMillis: number | undefined
}

export class RedisStore implements LockStore {
  readonly clock = processClock

  constructor(
    private readonly commands: Commands,
    private readonly settings: StoreSettings
  ) {}

  readonly acquire = (
    claim: Claim,
    restore: Restore
  ): Effect.Effect<Grant, LockUnavailable | LockStoreError> =>
    Effect.suspend(() => {
      const keys = lockKeys(this.settings.clientPrefix, this.settings.prefix, claim.key)
      if (typeof keys === "string") return Effect.die(new Cause.IllegalArgumentException(keys))
      const askedAt = this.clock.unsafeNow()
      return this.attempt(claim, keys, makeToken(), askedAt, 1, restore)
    })

  private attempt(
    claim: Claim,
    keys: LockKeys,
    token: string,
    askedAt: number,
    attempts: number,
    restore: Restore
  ): Effect.Effect<Grant, LockUnavailable | LockStoreError> {
    const call = this.commands.call(
      scripts.acquire,
      [keys.lock, keys.record],
      [token, String(claim.ttlMillis), claim.owner ?? this.settings.owner]
    )
    return Effect.flatMap(Effect.exit(restore(call.bounded)), (exit) => {
      if (Exit.isFailure(exit)) {
        this.undo(call, keys, token, claim)
        return Effect.failCause(exit.cause)
      }
      const outcome = exit.value
      if (outcome._tag !== "Answered") {
        this.undo(call, keys, token, claim)
        return this.storeError("acquire", claim.key, outcome)
      }
      const granted = readGrant(outcome.reply)
      if (granted !== undefined) {
        const until = validUntil(call.sentAt, claim.ttlMillis)
        if (this.clock.unsafeNow() < until) {
          return Effect.succeed(new RedisGrant(this, claim, keys, token, granted, until, attempts))
        }
        this.undo(call, keys, token, claim)
        return this.storeError("acquire", claim.key, { _tag: "Silent" })
      }
      const busy = readBusy(outcome.reply)
      if (busy === undefined) {
        this.undo(call, keys, token, claim)
        return this.storeError("acquire", claim.key, {
          _tag: "Failed",
          error: new Error(
            `an answer that is not of the protocol: ${JSON.stringify(outcome.reply)}`
          )
        })
      }
      const now = this.clock.unsafeNow()
      const waitLeft = askedAt + claim.waitMillis - now
      if (waitLeft <= 0) return Effect.fail(unavailable(claim.key, busy, now - askedAt))
      const poll = busy.foreign ? this.settings.foreignPollMillis : this.settings.heartbeatMillis
      const pause = Math.min(
        poll * (0.5 + Math.random() / 2),
        (busy.leftMillis ?? Number.POSITIVE_INFINITY) + 1,
        waitLeft
      )
      return Effect.zipRight(
        restore(this.sleep(pause)),
        this.attempt(claim, keys, token, askedAt, attempts + 1, restore)
      )
    })
  }

  /** Whatever that acquire did, or will have done when it settles: it is given back. */
  private undo(call: Call, keys: LockKeys, token: string, claim: Claim): void {
    this.commands.compensate(call, claim.ttlMillis, (settled) =>
      settled._tag === "Answered" && readBusy(settled.reply) !== undefined
        ? undefined
        : this.commands.call(scripts.release, [keys.lock], [token])
    )
  }

  renew(grant: RedisGrant): Effect.Effect<Renewal, LockStoreError> {
    return Effect.suspend(() => {
      const { claim, keys, token } = grant
      const call = this.commands.call(scripts.renew, [keys.lock], [token, String(claim.ttlMillis)])
      return Effect.flatMap(call.unbounded, (outcome) => {
        const found = readOwnership(outcome)
        if (found === undefined) return this.storeError("renew", claim.key, outcome)
        return Effect.succeed<Renewal>(
          found === "Ours"
            ? { _tag: "Renewed", validUntil: validUntil(call.sentAt, claim.ttlMillis) }
            : { _tag: "NotOurs", reason: found }
        )
      })
    })
  }

  verify(grant: RedisGrant): Effect.Effect<Ownership, LockStoreError> {
    return Effect.suspend(() => {
      const call = this.commands.call(scripts.verify, [grant.keys.lock], [grant.token])
      return Effect.flatMap(call.bounded, (outcome) => {
        const found = readOwnership(outcome)
        return found === undefined
          ? this.storeError("verify", grant.claim.key, outcome)
          : Effect.succeed(found)
      })
    })
  }

  release(grant: RedisGrant): Effect.Effect<Ownership, LockStoreError> {
    return Effect.suspend(() => this.releaseBy(grant, this.clock.unsafeNow(), false))
  }

  private releaseBy(
    grant: RedisGrant,
    startedAt: number,
    sentBefore: boolean
  ): Effect.Effect<Ownership, LockStoreError> {
    const call = this.commands.call(scripts.release, [grant.keys.lock], [grant.token])
    return Effect.flatMap(call.bounded, (outcome) => {
      const found = readOwnership(outcome)
      if (found !== undefined) {
        // sent twice, the second finds the first one's work
        return Effect.succeed(sentBefore || call.resent ? "Ours" : found)
      }
      const pause = retryDelay(grant.claim.ttlMillis)
      const timeLeft = startedAt + this.commands.timeoutMillis - this.clock.unsafeNow()
      if (outcome._tag === "Failed" && isTransient(outcome.error) && pause < timeLeft) {
        return Effect.zipRight(
          this.sleep(pause),
          Effect.suspend(() => this.releaseBy(grant, startedAt, true))
        )
      }
      return this.storeError("release", grant.claim.key, outcome)
    })
  }

  private sleep(millis: number): Effect.Effect<void> {
    return Effect.async((resume) => {
      const timer = this.clock.unsafeSchedule(this.clock.unsafeNow() + millis, () =>
        resume(Effect.void)
      )
      return Effect.sync(() => timer.cancel())
    })
  }

  private storeError(
    operation: LockStoreOperation,
    key: string,
    outcome: Outcome
  ): Effect.Effect<never, LockStoreError> {
    const cause = outcome._tag === "Failed" ? outcome.error : this.commands.lastError
    return Effect.fail(
      new LockStoreError({
        operation,
        key,
        detail:
          outcome._tag === "Failed"
            ? explain(outcome.error)
            : `Redis did not answer within ${this.commands.timeoutMillis} ms. ${
                cause === undefined
                  ? `The connection is ${this.commands.client.status}: is the server overloaded, or the network silent?`
                  : explain(cause)
              }`,
        ...(cause === undefined ? {} : { cause })
      })
    )
  }
}

class RedisGrant implements Grant {
  constructor(
    private readonly store: RedisStore,
    readonly claim: Claim,
    readonly keys: LockKeys,
    readonly token: string,
    readonly fencingToken: number,
    readonly validUntil: number,
    readonly attempts: number
  ) {}
  get renew() {
    return this.store.renew(this)
  }
  get verify() {
    return this.store.verify(this)
  }
  get release() {
    return this.store.release(this)
  }
}

// ---------------------------------------------------------------- answers

const readGrant = (reply: unknown): number | undefined =>
  typeof reply === "string" && /^\d+$/.test(reply) ? Number(reply) : undefined

const readBusy = (reply: unknown): Busy | undefined => {
  if (!Array.isArray(reply) || reply.length !== 4) return undefined
  const left = Number(reply[0])
  const foreign = Number(reply[1]) !== 1
  const record = foreign ? null : /^(\d+) ([^]*)$/.exec(String(reply[2]))
  return {
    leftMillis: left < 0 ? undefined : left,
    foreign,
    owner: record?.[2],
    heldForMillis:
      record === null ? undefined : Math.max(0, (Number(reply[3]) - Number(record[1])) / 1_000)
  }
}

const readOwnership = (outcome: Outcome): Ownership | undefined => {
  if (outcome._tag !== "Answered") return undefined
  switch (Number(outcome.reply)) {
    case 1:
      return "Ours"
    case 0:
      return "Missing"
    case 2:
      return "Taken"
    default:
      return undefined
  }
}

const unavailable = (key: string, busy: Busy, waitedMillis: number): LockUnavailable =>
  new LockUnavailable({
    key,
    retryAfter: busy.leftMillis === undefined ? undefined : Duration.millis(busy.leftMillis),
    holder: {
      owner: busy.owner,
      heldFor: busy.heldForMillis === undefined ? undefined : Duration.millis(busy.heldForMillis),
      foreign: busy.foreign
    },
    waited: Duration.millis(waitedMillis)
  })
