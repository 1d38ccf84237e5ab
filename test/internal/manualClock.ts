import type { LockClock } from "../../src/LockStore.js"

/** Time that only passes when it is told to, and then in the order of what is due. */
export class ManualClock implements LockClock {
  now = 1_000
  private readonly due = new Set<{ readonly at: number; readonly callback: () => void }>()

  readonly unsafeNow = (): number => this.now

  readonly unsafeSchedule = (at: number, callback: () => void) => {
    const entry = { at, callback }
    this.due.add(entry)
    return { cancel: () => void this.due.delete(entry) }
  }

  get timers(): number {
    return this.due.size
  }

  advance(millis: number): void {
    const until = this.now + millis
    for (;;) {
      let next: { readonly at: number; readonly callback: () => void } | undefined
      for (const entry of this.due) {
        if (entry.at <= until && (next === undefined || entry.at < next.at)) next = entry
      }
      if (next === undefined) break
      this.due.delete(next)
      this.now = Math.max(this.now, next.at)
      next.callback()
    }
    this.now = until
  }
}
