/** The time of all that happens here. */
import type { LockClock, ScheduledCall } from "../../src/internal/engine.js"

interface Timer {
  readonly at: number
  readonly callback: () => void
}

/**
 * Time that somebody makes pass, in milliseconds. It stands still while something that is due is being done: so
 * what is due first has been done, to its end, before what is due next begins.
 */
export class World implements LockClock {
  now = 0
  private timers: Array<Timer> = []

  readonly unsafeNow = (): number => this.now

  readonly unsafeSchedule = (at: number, callback: () => void): ScheduledCall => {
    const timer = { at, callback }
    const after = this.timers.findIndex((other) => other.at > at)
    this.timers.splice(after === -1 ? this.timers.length : after, 0, timer)
    return {
      cancel: () => {
        this.timers = this.timers.filter((other) => other !== timer)
      }
    }
  }

  async advance(millis: number): Promise<void> {
    const until = this.now + millis
    for (;;) {
      await settled()
      const next = this.timers[0]
      if (next === undefined || next.at > until) break
      this.timers.shift()
      this.now = Math.max(this.now, next.at)
      next.callback()
    }
    this.now = until
  }
}

const waiting: Array<() => void> = []
const { port1, port2 } = new MessageChannel()
port1.addEventListener("message", () => waiting.shift()?.())
port1.start()

/** Fibers go on in microtasks, and a message comes after all of those. */
const settled = (): Promise<void> =>
  new Promise((resume) => {
    waiting.push(resume)
    port2.postMessage(undefined)
  })
