/** A process, as far as the code that runs in it can tell: its timers, and the answers of its store. */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Grant, LockClock, LockStore } from "../../src/effect4/LockStore.js"
import { publicStore } from "../../src/internal/face4/publicStore.js"
import { FaultyStore } from "../../src/internal/memory/faultyStore.js"
import type { MemoryStore } from "../../src/internal/memory/store.js"
import type { World } from "./world.js"

/** How long a question may take. What has not been answered by then is not asked any more. */
const timeoutMillis = 1_500

/**
 * All that makes code go on is a timer or an answer. While the machine is frozen, both are kept for later; once
 * it is killed, nothing goes on any more. The clock goes on in any case.
 */
export class Machine {
  isCut = false
  isFrozen = false
  isKilled = false
  /** What would have made its code go on while it was frozen. */
  private kept: Array<() => void> = []
  private freezesAtStep: (() => void) | undefined = undefined
  private readonly link: FaultyStore

  constructor(
    private readonly world: World,
    shared: MemoryStore
  ) {
    this.link = new FaultyStore(shared, timeoutMillis)
  }

  // ---------------------------------------------------------------- what can happen to it

  cut(): void {
    this.isCut = true
    this.link.silence()
  }

  connect(): void {
    this.isCut = false
    if (!this.isFrozen && !this.isKilled) this.link.restore()
  }

  freeze(): void {
    this.freezesAtStep = undefined
    this.isFrozen = true
    // (a process that stands still sends nothing, either)
    this.link.silence()
  }

  /** Freezes it when its code comes to its next `step`. */
  freezeAtStep(onFrozen: () => void): void {
    this.freezesAtStep = onFrozen
  }

  /** What has become due meanwhile is done now, in its order. */
  thaw(): void {
    this.freezesAtStep = undefined
    this.isFrozen = false
    const { kept } = this
    this.kept = []
    for (const goOn of kept) this.world.unsafeSchedule(this.world.now, () => this.goOn(goOn))
    if (!this.isCut && !this.isKilled) this.link.restore()
  }

  kill(): void {
    this.isKilled = true
    this.kept = []
    this.link.silence()
  }

  // ---------------------------------------------------------------- what its code has

  readonly clock: LockClock = {
    unsafeNow: () => this.world.now,
    unsafeSchedule: (at, callback) => {
      let isCancelled = false
      const call = this.world.unsafeSchedule(at, () =>
        this.goOn(() => {
          if (!isCancelled) callback()
        })
      )
      return {
        cancel: () => {
          isCancelled = true
          call.cancel()
        }
      }
    }
  }

  /** The same for Effect. */
  readonly effectClock: Clock.Clock = {
    currentTimeMillisUnsafe: () => this.world.now,
    currentTimeMillis: Effect.sync(() => this.world.now),
    currentTimeNanosUnsafe: () => nanos(this.world.now),
    currentTimeNanos: Effect.sync(() => nanos(this.world.now)),
    monotonicTimeNanosUnsafe: () => nanos(this.world.now),
    monotonicTimeNanos: Effect.sync(() => nanos(this.world.now)),
    sleep: (duration) =>
      Effect.callback((resume) => {
        const at = this.world.now + Duration.toMillis(duration)
        const call = this.clock.unsafeSchedule(at, () => resume(Effect.void))
        return Effect.sync(call.cancel)
      })
  }

  /** A connection of its own to the store that all share. `onProof` is told until when its lease is proven. */
  store(onProof: (validUntil: number) => void): LockStore {
    const store = publicStore(this.link, undefined)
    const heard = (grant: Grant): Grant => {
      onProof(grant.validUntil)
      return {
        ...grant,
        renew: Effect.tap(this.whenRunning(grant.renew), (renewal) =>
          Effect.sync(() => {
            if (renewal._tag === "Renewed") onProof(renewal.validUntil)
          })
        ),
        verify: this.whenRunning(grant.verify),
        release: this.whenRunning(grant.release),
        whenLost: (listener) => grant.whenLost?.((reason) => this.goOn(() => listener(reason)))
      }
    }
    return {
      ...store,
      clock: this.clock,
      acquire: (claim, restore) =>
        Effect.map(this.whenRunning(store.acquire(claim, restore)), heard)
    }
  }

  /** The moment before something that cannot be taken back: where a machine that is to be frozen stands still. */
  readonly step: Effect.Effect<void> = Effect.suspend(() => {
    const onFrozen = this.freezesAtStep
    if (onFrozen !== undefined) {
      this.freeze()
      onFrozen()
    }
    return this.running
  })

  // ---------------------------------------------------------------- inside

  private readonly running: Effect.Effect<void> = Effect.callback((resume) =>
    this.goOn(() => resume(Effect.void))
  )

  private whenRunning<A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.ensuring(effect, this.running)
  }

  private goOn(step: () => void): void {
    if (this.isKilled) return
    if (this.isFrozen) this.kept.push(step)
    else step()
  }
}

const nanos = (millis: number): bigint => BigInt(Math.round(millis * 1e6))
