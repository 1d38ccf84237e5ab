/** Who had a key when, and who waited for it: of what has been seen, the latest. */
import type { Change, Held, Pending } from "../../LockInspector.js"
import { nameOf } from "../faces/changes.js"
import { millisOf, type Stint } from "./wire.js"

/** So many stints are remembered of a key, and of all keys together. */
const mostOfKey = 200
const mostInAll = 50_000

/** For so long. */
const keptMillis = 3_600_000

/** It is written to as long as it goes on. */
type Written = { -readonly [Field in keyof Stint]: Stint[Field] }

interface Named {
  readonly name: string
  readonly stint: Written
}

const ends = { Released: "released", Expired: "expired", Lost: "freed by force" } as const

export class History {
  /** Those that changed last are at the end. */
  private readonly byKey = new Map<string, Array<Named>>()
  private count = 0

  note(change: Change): void {
    const { at, key } = change
    const now = millisOf(at)
    if ("pending" in change) {
      const { pending } = change
      const name = `waits ${pending.id ?? ""}`
      this.end(key, name, now, "left")
      if (change._tag === "Queued") {
        const from = pending.since === undefined ? now : millisOf(pending.since)
        this.begin(key, name, "waited", pending, null, from)
      }
      return
    }
    const { held } = change
    const name = nameOf(held)
    if (change._tag !== "Granted") {
      this.end(key, name, now, ends[change._tag])
      return
    }
    const from = held.since === undefined ? now : millisOf(held.since)
    this.end(key, `waits ${held.id ?? ""}`, from, "granted")
    // (a writer that has become a reader)
    const again = this.end(key, name, now, "changed")
    this.begin(key, name, "held", held, held.fencingToken ?? null, again ? now : from)
  }

  of(key: string): ReadonlyArray<Stint> {
    return (this.byKey.get(key) ?? [])
      .map(({ stint }) => ({ ...stint }))
      .sort((a, b) => a.from - b.from)
  }

  private begin(
    key: string,
    name: string,
    what: Stint["what"],
    who: Held | Pending,
    fencingToken: number | null,
    from: number
  ): void {
    const all = this.byKey.get(key) ?? []
    this.byKey.delete(key)
    this.byKey.set(key, all)
    const { incarnation, mode, owner } = who
    all.push({
      name,
      stint: {
        what,
        owner: owner ?? null,
        incarnation: incarnation ?? null,
        mode,
        fencingToken,
        from,
        to: null,
        end: null
      }
    })
    this.count++
    if (all.length > mostOfKey) this.dropFirst(key, all)
    const [oldest] = this.byKey
    if (this.count > mostInAll && oldest !== undefined) this.dropFirst(...oldest)
  }

  /** Whether there was one that went on. */
  private end(key: string, name: string, to: number, end: Written["end"]): boolean {
    const found = this.byKey.get(key)?.find((one) => one.name === name && one.stint.to === null)
    if (found === undefined) return false
    found.stint.to = Math.max(to, found.stint.from)
    found.stint.end = end
    return true
  }

  /** The first that is over, or else the first. */
  private dropFirst(key: string, all: Array<Named>): void {
    const index = all.findIndex(({ stint }) => stint.to !== null)
    all.splice(Math.max(0, index), 1)
    this.count--
    if (all.length === 0) this.byKey.delete(key)
  }

  /** What was over long ago. */
  forget(now: number): void {
    for (const [key, all] of this.byKey) {
      const kept = all.filter(({ stint }) => stint.to === null || now - stint.to < keptMillis)
      this.count -= all.length - kept.length
      if (kept.length === 0) this.byKey.delete(key)
      else if (kept.length < all.length) this.byKey.set(key, kept)
    }
  }
}
