/**
 * Timers that share. A lease needs two deadlines and seldom meets one, and a `setTimeout` with its
 * `clearTimeout` costs more than all the other book-keeping of a lock. Here a deadline is a link in
 * a list, the list belongs to a slot of some milliseconds, and only the slot has a `setTimeout`,
 * which nobody clears: it fires once for everyone, or for no one.
 *
 * Slots are rounded down, so that a call comes a few milliseconds early rather than late, and their
 * timers do not keep a process alive.
 */
import type { LockClock, ScheduledCall } from "../LockStore.js"
import { isolated } from "./isolated.js"

/** `setTimeout` cannot count further than 2^31 ms. */
const maxDelay = 0x3fff_ffff

class Entry implements ScheduledCall {
  next: Entry = this
  prev: Entry = this
  constructor(
    readonly at: number,
    readonly callback: () => void
  ) {}

  cancel(): void {
    this.prev.next = this.next
    this.next.prev = this.prev
    this.next = this.prev = this
  }
}

const now = (): number => performance.now()
const noop = () => {}
const slots = new Map<number, Entry>()

const insert = (entry: Entry): void => {
  const time = now()
  const delay = Math.min(entry.at - time, maxDelay)
  const width = delay < 100 ? 1 : 8
  const slot = Math.floor((time + delay) / width) * width
  let head = slots.get(slot)
  if (head === undefined) {
    head = new Entry(slot, noop)
    slots.set(slot, head)
    setTimeout(fire, Math.max(0, slot - time), slot).unref()
  }
  entry.prev = head.prev
  entry.next = head
  head.prev.next = entry
  head.prev = entry
}

const fire = (slot: number): void => {
  const head = slots.get(slot)
  if (head === undefined) return
  slots.delete(slot)
  while (head.next !== head) {
    const entry = head.next
    entry.cancel()
    if (entry.at - slot > 8) insert(entry)
    else isolated(entry.callback, undefined)
  }
}

/** The process's own monotonic clock (it stands still while the machine is suspended). */
export const processClock: LockClock = {
  unsafeNow: now,
  unsafeSchedule(at, callback) {
    const entry = new Entry(at, callback)
    insert(entry)
    return entry
  }
}
