/**
 * A store of somebody's own: a `Map` behind a delay, with locks alone. It is written by what `LockStore`
 * says, and by nothing else of this library.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { LockError, type LockStore } from "effect-redis-lock"
import { randomUUID } from "node:crypto"

/** What the map has of a key that somebody holds. */
interface Entry {
  readonly token: string
  readonly fencingToken: number
  readonly owner: string | undefined
  readonly since: number
  expiresAt: number
}

/** A claim in the queue. */
interface Waiter {
  readonly claim: LockStore.Claim
  readonly contention: LockStore.Contention
  readonly turn: Deferred.Deferred<Entry>
  granted: Entry | undefined
}

const clock: LockStore.LockClock = {
  unsafeNow: () => performance.now(),
  unsafeSchedule: (at, callback) => {
    const timer = setTimeout(callback, Math.min(at - performance.now(), 0x7fff_ffff))
    return { cancel: () => clearTimeout(timer) }
  }
}

const now = clock.unsafeNow

/** `delayMillis`: how long a question, and an answer, is on its way. */
export const make = (delayMillis: number): LockStore.LockStore => {
  const entries = new Map<string, Entry>()
  const queues = new Map<string, Array<Waiter>>()
  const timers = new Map<string, LockStore.ScheduledCall>()
  let fence = 0

  const delay = Effect.sleep(delayMillis)

  // ---------------------------------------------------------------- at the other end of the delay

  const holderOf = (key: string): Entry | undefined => {
    const entry = entries.get(key)
    if (entry !== undefined && entry.expiresAt > now()) return entry
    entries.delete(key)
    return undefined
  }

  const queueOf = (key: string): Array<Waiter> => queues.get(key) ?? []

  const contentionOf = (key: string, ahead: number | undefined): LockStore.Contention => {
    const entry = holderOf(key)
    return {
      holder: {
        owner: entry?.owner,
        heldFor: entry && Duration.millis(now() - entry.since),
        foreign: false
      },
      retryAfter: Duration.millis(entry === undefined ? 0 : entry.expiresAt - now()),
      ahead
    }
  }

  const give = ({ key, owner, ttlMillis }: LockStore.Claim): Entry => {
    const since = now()
    const entry = {
      token: randomUUID(),
      fencingToken: ++fence,
      owner,
      since,
      expiresAt: since + ttlMillis
    }
    entries.set(key, entry)
    return entry
  }

  /** The key may be free: it goes to the first in the queue, and nobody else. */
  const serve = (key: string): void => {
    const queue = queueOf(key)
    if (holderOf(key) === undefined) {
      const first = queue.shift()
      if (first !== undefined) {
        first.granted = give(first.claim)
        Deferred.unsafeDone(first.turn, Effect.succeed(first.granted))
      }
    }
    timers.get(key)?.cancel()
    timers.delete(key)
    if (queue.length === 0) return void queues.delete(key)
    const { expiresAt } = entries.get(key)!
    timers.set(
      key,
      clock.unsafeSchedule(expiresAt, () => serve(key))
    )
  }

  const ownershipOf = (key: string, token: string): LockStore.Ownership => {
    const entry = holderOf(key)
    return entry === undefined ? "Missing" : entry.token === token ? "Ours" : "Taken"
  }

  const release = (key: string, token: string): LockStore.Ownership => {
    const found = ownershipOf(key, token)
    if (found === "Ours") entries.delete(key)
    serve(key)
    return found
  }

  /** Somebody does not wait any more; a grant may have come all the same. */
  const leave = (waiter: Waiter, queue: Array<Waiter>): void => {
    const { key } = waiter.claim
    const place = queue.indexOf(waiter)
    if (place >= 0) queue.splice(place, 1)
    if (waiter.granted === undefined) serve(key)
    else release(key, waiter.granted.token)
  }

  // ---------------------------------------------------------------- at this end

  /** Less than the whole ttl: nobody is to rely on its last moments. */
  const proofOf = (entry: Entry, ttlMillis: number): number =>
    entry.expiresAt - ttlMillis * 0.01 - 2

  const grantOf = (
    { key, ttlMillis }: LockStore.Claim,
    entry: Entry,
    contention: LockStore.Contention | undefined
  ): LockStore.Grant => {
    const { fencingToken, token } = entry
    const asked = <A>(answer: () => A) =>
      Effect.zipLeft(Effect.zipRight(delay, Effect.sync(answer)), delay)
    return {
      token,
      fencingToken,
      validUntil: proofOf(entry, ttlMillis),
      contention,
      renew: asked((): LockStore.Renewal => {
        const found = ownershipOf(key, token)
        if (found !== "Ours") return { _tag: "NotOurs", reason: found }
        entry.expiresAt = now() + ttlMillis
        return { _tag: "Renewed", validUntil: proofOf(entry, ttlMillis) }
      }),
      verify: asked(() => ownershipOf(key, token)),
      release: asked(() => release(key, token))
    }
  }

  const unavailable = (
    { key }: LockStore.Claim,
    waited: number,
    contention: LockStore.Contention
  ): LockError.LockUnavailable =>
    new LockError.LockUnavailable({ key, waited: Duration.millis(waited), ...contention })

  const acquire: LockStore.LockStore["acquire"] = (claim, restore) =>
    Effect.gen(function* () {
      const { key, waitMillis } = claim
      const turn = yield* Deferred.make<Entry>()
      yield* restore(delay)
      // from here to where it stands in the queue, nothing else runs
      const queue = queueOf(key)
      const contention = contentionOf(key, queue.length)
      if (holderOf(key) === undefined && queue.length === 0) {
        const entry = give(claim)
        const undo = Effect.sync(() => release(key, entry.token))
        yield* Effect.onInterrupt(restore(delay), () => undo)
        return grantOf(claim, entry, undefined)
      }
      if (waitMillis === 0) {
        yield* restore(delay)
        return yield* unavailable(claim, 0, { ...contention, ahead: undefined })
      }
      const waiter: Waiter = { claim, contention, turn, granted: undefined }
      queue.push(waiter)
      queues.set(key, queue)
      serve(key)
      claim.whenWaiting?.(() => contentionOf(key, queue.indexOf(waiter)))
      const since = now()
      const gone = Effect.sync(() => leave(waiter, queue))
      const patience = Effect.timeoutOption(
        Deferred.await(turn),
        Number.isFinite(waitMillis) ? Duration.millis(waitMillis) : Duration.infinity
      )
      const entry = yield* Effect.onInterrupt(restore(patience), () => gone)
      if (Option.isNone(entry)) {
        const last = contentionOf(key, queue.indexOf(waiter))
        yield* gone
        return yield* unavailable(claim, now() - since, last)
      }
      yield* Effect.onInterrupt(restore(delay), () => gone)
      return grantOf(claim, entry.value, contention)
    })

  return { clock, acquire }
}
