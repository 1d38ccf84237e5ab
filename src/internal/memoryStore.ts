/**
 * The store in memory. A key that is held or waited for has an entry; waiters stand in the order
 * in which they came, and a release or an expiry hands the key straight to the first of them.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Runtime from "effect/Runtime"
import * as RuntimeFlags from "effect/RuntimeFlags"
import { LockUnavailable } from "../LockError.js"
import type {
  Claim,
  Contention,
  Defaults,
  Grant,
  LockClock,
  LockStore,
  Ownership,
  Renewal,
  Restore,
  ScheduledCall
} from "../LockStore.js"
import { inContext } from "./face/asyncContext.js"
import { Dictionary } from "./common/dictionary.js"
import { Fifo, Link } from "./common/fifo.js"
import { maxDelay, validUntil } from "./common/timing.js"
import { Opaque } from "./face/opaque.js"
import { makeStoreId, makeToken } from "./common/token.js"

interface Holding {
  readonly token: string
  readonly owner: string | undefined
  readonly since: number
  expiresAt: number
}

class Waiter extends Link {
  /** What came of it. Kept here: an interrupted fiber can drop the value it was resumed with. */
  exit: Exit.Exit<Grant, LockUnavailable> | undefined = undefined
  resume: ((exit: Exit.Exit<Grant, LockUnavailable>) => void) | undefined = undefined

  constructor(
    readonly claim: Claim,
    readonly contention: Contention
  ) {
    super()
  }

  settle(exit: Exit.Exit<Grant, LockUnavailable>): void {
    this.exit = exit
    this.resume?.(exit)
  }
}

class Entry {
  holding: Holding | undefined = undefined
  readonly waiters = new Fifo<Waiter>()
  expiry: ScheduledCall | undefined = undefined
}

class MemoryStore extends Opaque implements LockStore {
  private readonly entries = new Dictionary<Entry>()
  private readonly id = makeStoreId()
  private lastFencingToken = 0

  constructor(
    readonly clock: LockClock,
    private readonly wallMillis: () => number,
    readonly defaults: Defaults | undefined
  ) {
    super()
  }

  readonly acquire = (claim: Claim, restore: Restore): Effect.Effect<Grant, LockUnavailable> =>
    Effect.suspend(() => {
      const entry = this.entry(claim.key)
      if (this.current(entry) === undefined && entry.waiters.size === 0) {
        return Effect.succeed(this.give(entry, claim, undefined))
      }
      const askedAt = this.clock.unsafeNow()
      if (claim.waitMillis === 0)
        return Effect.fail(this.unavailable(entry, claim, undefined, askedAt))
      return this.wait(entry, claim, askedAt, restore)
    })

  private wait(
    entry: Entry,
    claim: Claim,
    askedAt: number,
    restore: Restore
  ): Effect.Effect<Grant, LockUnavailable> {
    const waiter = new Waiter(claim, this.contention(entry, entry.waiters.size))
    entry.waiters.add(waiter)
    claim.whenWaiting?.(() => this.contention(entry, entry.waiters.before(waiter)))
    // (also where a lease has just run out, and its timer not fired yet)
    this.serve(claim.key, entry)
    const deadline = Number.isFinite(claim.waitMillis)
      ? this.clock.unsafeSchedule(askedAt + claim.waitMillis, () => {
          if (!waiter.stands) return
          const ahead = entry.waiters.before(waiter)
          entry.waiters.delete(waiter)
          waiter.settle(Exit.fail(this.unavailable(entry, claim, ahead, askedAt)))
        })
      : undefined
    const turn = Effect.async<Grant, LockUnavailable>((resume) => {
      if (waiter.exit !== undefined) resume(waiter.exit)
      else waiter.resume = inContext(resume)
    })
    return Effect.onExit(restore(turn), (exit) => {
      deadline?.cancel()
      if (Exit.isSuccess(exit)) return Effect.void
      if (waiter.exit !== undefined && Exit.isSuccess(waiter.exit)) {
        return Effect.ignore(waiter.exit.value.release)
      }
      entry.waiters.delete(waiter)
      this.forgetIfIdle(claim.key, entry)
      return Effect.void
    })
  }

  private entry(key: string): Entry {
    let entry = this.entries.get(key)
    if (entry === undefined) this.entries.set(key, (entry = new Entry()))
    return entry
  }

  private current(entry: Entry): Holding | undefined {
    const { holding } = entry
    if (holding !== undefined && holding.expiresAt <= this.clock.unsafeNow()) {
      entry.holding = undefined
    }
    return entry.holding
  }

  private give(entry: Entry, claim: Claim, contention: Contention | undefined): Grant {
    const now = this.clock.unsafeNow()
    const token = makeToken(this.id)
    const holding: Holding = {
      token,
      owner: claim.owner,
      since: now,
      expiresAt: now + claim.ttlMillis
    }
    entry.holding = holding
    this.lastFencingToken = Math.max(
      this.lastFencingToken + 1,
      Math.floor(this.wallMillis() * 1_000)
    )
    const ownership = (): Ownership => {
      const current = this.entries.get(claim.key)
      const found = current === undefined ? undefined : this.current(current)
      return found === holding ? "Ours" : found === undefined ? "Missing" : "Taken"
    }
    return {
      token,
      fencingToken: this.lastFencingToken,
      validUntil: validUntil(now, claim.ttlMillis),
      contention,
      verify: Effect.sync(ownership),
      renew: Effect.sync((): Renewal => {
        const found = ownership()
        if (found !== "Ours") return { _tag: "NotOurs", reason: found }
        const renewedAt = this.clock.unsafeNow()
        holding.expiresAt = renewedAt + claim.ttlMillis
        return { _tag: "Renewed", validUntil: validUntil(renewedAt, claim.ttlMillis) }
      }),
      release: Effect.sync(() => {
        const found = ownership()
        if (found === "Ours") entry.holding = undefined
        if (this.entries.get(claim.key) === entry) this.serve(claim.key, entry)
        return found
      })
    }
  }

  /** Hands a free key to the first waiter. */
  private serve(key: string, entry: Entry): void {
    const { first } = entry.waiters
    if (first !== undefined && this.current(entry) === undefined) {
      entry.waiters.delete(first)
      first.settle(Exit.succeed(this.give(entry, first.claim, first.contention)))
    }
    this.watchExpiry(key, entry)
    this.forgetIfIdle(key, entry)
  }

  /** While somebody waits, the holder's expiry is an event. */
  private watchExpiry(key: string, entry: Entry): void {
    entry.expiry?.cancel()
    entry.expiry = undefined
    if (entry.holding === undefined || entry.waiters.size === 0) return
    entry.expiry = this.clock.unsafeSchedule(entry.holding.expiresAt, () => this.serve(key, entry))
  }

  private forgetIfIdle(key: string, entry: Entry): void {
    if (entry.waiters.size > 0 || entry.holding !== undefined) return
    entry.expiry?.cancel()
    if (this.entries.get(key) === entry) this.entries.delete(key)
  }

  private contention(entry: Entry, ahead: number | undefined): Contention {
    const now = this.clock.unsafeNow()
    const holding = this.current(entry)
    return {
      ahead,
      retryAfter: Duration.millis(holding === undefined ? 0 : Math.round(holding.expiresAt - now)),
      holder: {
        owner: holding?.owner,
        heldFor:
          holding === undefined ? undefined : Duration.millis(Math.round(now - holding.since)),
        foreign: false
      }
    }
  }

  private unavailable(
    entry: Entry,
    claim: Claim,
    ahead: number | undefined,
    askedAt: number
  ): LockUnavailable {
    return new LockUnavailable({
      key: claim.key,
      waited: Duration.millis(Math.round(this.clock.unsafeNow() - askedAt)),
      ...this.contention(entry, ahead)
    })
  }
}

/** The time of Effect's `Clock`, as leases need it. */
const lockClock = (clock: Clock.Clock, runtime: Runtime.Runtime<never>): LockClock => {
  // to the microsecond: a number cannot hold nanoseconds since 1970
  const now = () => Math.round(Number(clock.unsafeCurrentTimeNanos()) / 1e3) / 1e3
  // whoever makes the store may be in an uninterruptible region; a timer can always be cancelled
  const run = Runtime.runFork(Runtime.enableRuntimeFlag(runtime, RuntimeFlags.Interruption))
  // whole milliseconds: a remainder too small to sleep for would be slept for ever; and not more than
  // `setTimeout` can count, which Effect takes for infinite
  const sleepUntil = (at: number): Effect.Effect<void> =>
    Effect.suspend(() => {
      const left = Math.max(0, Math.ceil(at - now()))
      return left <= maxDelay
        ? clock.sleep(Duration.millis(left))
        : Effect.zipRight(clock.sleep(Duration.millis(maxDelay)), sleepUntil(at))
    })
  return {
    unsafeNow: now,
    unsafeSchedule: (at, callback) => {
      const fiber = run(Effect.map(sleepUntil(at), callback))
      return { cancel: () => fiber.unsafeInterruptAsFork(FiberId.none) }
    }
  }
}

export const makeMemoryStore = (defaults: Defaults | undefined): Effect.Effect<LockStore> =>
  Effect.map(
    Effect.zip(Effect.clock, Effect.runtime<never>()),
    ([clock, runtime]) =>
      new MemoryStore(lockClock(clock, runtime), () => clock.unsafeCurrentTimeMillis(), defaults)
  )
