/**
 * Timers that share. A lease needs two deadlines and seldom meets one, and a `setTimeout` with its
 * `clearTimeout` costs more than all the other book-keeping of a lock. Here a deadline is a link in
 * a list, the list belongs to a slot of some milliseconds, and only the slot has a `setTimeout`,
 * which nobody clears: it fires once for everyone, or for no one.
 *
 * Slots are rounded down, so that a call comes a few milliseconds early rather than late, and their
 * timers do not keep a process alive.
 */
import type { LockClock, ScheduledCall } from "../engine.js"
import { Link } from "./fifo.js"
import { isolated } from "./isolated.js"
import { maxDelay } from "./timing.js"

class Entry extends Link implements ScheduledCall {
  constructor(
    readonly at: number,
    readonly callback: () => void
  ) {
    super()
  }

  cancel(): void {
    this.leave()
  }
}

const now = (): number => performance.now()
const slots = new Map<number, Link>()

/** By how much a slot may begin before a call that is due in it, where that is more than 100 ms away. */
const early = 8

/**
 * The further away, the wider the slot: what is seldom met and cancelled soon shares few of them, and
 * what is still there when a wide one fires moves on to a narrow one.
 */
const widthOf = (delay: number): number =>
  // a 64th of it, rounded down to a power of two
  delay < 1_024 ? early : 1 << (25 - Math.clz32(delay))

const insert = (entry: Entry, leastWidth: number): void => {
  const time = now()
  const delay = Math.min(entry.at - time, maxDelay)
  const width = Math.max(leastWidth, delay < 100 ? 1 : widthOf(delay))
  const slot = Math.floor((time + delay) / width) * width
  let head = slots.get(slot)
  if (head === undefined) {
    head = new Link()
    slots.set(slot, head)
    // rounded up: a timer of Node drops fractions, and its clock counts whole milliseconds
    setTimeout(fire, Math.max(0, Math.ceil(slot - time)), slot).unref()
  }
  entry.standBefore(head)
}

const fire = (slot: number): void => {
  const head = slots.get(slot)
  if (head === undefined) return
  slots.delete(slot)
  while (head.stands) {
    const entry = head.next as Entry
    entry.leave()
    if (entry.at - Math.max(slot, now()) > early) insert(entry, early)
    else isolated(entry.callback, undefined)
  }
}

/** The process's own monotonic clock (it stands still while the machine is suspended). */
export const processClock: LockClock = {
  unsafeNow: now,
  unsafeSchedule(at, callback) {
    const entry = new Entry(at, callback)
    insert(entry, 1)
    return entry
  }
}
