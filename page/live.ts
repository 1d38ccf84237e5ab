/** What the server tells, kept up to date: by server-sent events, which begin anew whenever they have stopped. */
import type { Details, Event, Released, Row, Update } from "../src/internal/inspector/wire.js"

/** Without the slash at its end: the API is beside the page. */
const base = location.pathname.replace(/\/$/, "")

/** A server that has said nothing for so long is not there: it says something every five seconds. */
const silentMillis = 12_000

/** For so long nothing need be heard while there is no connection: it is made anew. */
const lateMillis = 3_000

/** So many events are shown. */
const mostEvents = 200

export type Status = "starting" | "live" | "trouble" | "offline"

export interface Seen {
  readonly row: Row
  /** When a holder or a queue of it has changed, on this machine's clock. */
  readonly changedAt: number
  /** It is gone, and is still shown for a moment. */
  readonly goneAt: number | undefined
}

const fading = 2_500

export class Live {
  readonly seen = new Map<string, Seen>()
  events: ReadonlyArray<Event> = []
  last: Update | undefined
  details: Details | undefined
  detailsError: string | undefined
  /** It grows with every change of the above. */
  version = 0
  private heardAt = 0
  private openedAt = 0
  /** Hidden, it has heard what there was to hear, and holds no connection. */
  private isResting = false
  private wokenAt = 0
  /** The server answers, and does not let this page listen: a login may have ended. */
  isTurnedAway = false
  private source: EventSource | undefined
  private selected: string | undefined
  private asking = false
  private askAgain = false
  private offset = 0
  private readonly listeners = new Set<() => void>()

  start(): void {
    this.open()
    setInterval(() => {
      if (performance.now() - Math.max(this.heardAt, this.openedAt) > silentMillis) this.open()
      this.changed()
    }, 1_000)
    // a browser that has slept does not know that its connection is gone
    for (const event of ["online", "pageshow", "focus"]) {
      addEventListener(event, () => this.wake())
    }
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.rest()
      else this.wake()
    })
  }

  onChange(listener: () => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** By the clock of the store. */
  now(): number {
    return performance.now() + this.offset
  }

  get status(): Status {
    if (this.last === undefined) return this.isSilent ? "offline" : "starting"
    if (this.isSilent) return "offline"
    if (this.last.trouble !== null) return "trouble"
    return this.last.lookedAt === null ? "starting" : "live"
  }

  private get isSilent(): boolean {
    const since = Math.max(this.heardAt, this.wokenAt)
    return this.source?.readyState !== EventSource.OPEN && performance.now() - since > lateMillis
  }

  select(key: string | undefined): void {
    if (this.selected === key) return
    this.selected = key
    this.details = undefined
    this.detailsError = undefined
    this.ask()
    this.changed()
  }

  async release(key: string, fencingToken: number): Promise<boolean> {
    const response = await fetch(`${base}/api/release`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ key, fencingToken })
    })
    this.ask()
    if (!response.ok) throw await refusalOf(response)
    return ((await response.json()) as typeof Released.Type).freed
  }

  private wake(): void {
    if (this.isResting) this.wokenAt = performance.now()
    if (this.isResting || performance.now() - this.heardAt > lateMillis) this.open()
  }

  private open(): void {
    this.source?.close()
    this.openedAt = performance.now()
    this.isResting = false
    const source = new EventSource(`${base}/api/events`)
    this.source = source
    source.addEventListener("message", ({ data }) => this.hear(JSON.parse(data) as Update))
    source.addEventListener("error", () => {
      // (where nobody answers, a browser tries again by itself)
      this.isTurnedAway = source.readyState === EventSource.CLOSED
      this.changed()
    })
  }

  private hear(update: Update): void {
    const at = performance.now()
    this.heardAt = at
    this.isTurnedAway = false
    this.offset = update.now - at
    this.last = update
    const known = new Set(update.reset ? update.rows.map(({ key }) => key) : [])
    const gone = update.reset ? [...this.seen.keys()].filter((key) => !known.has(key)) : update.gone
    for (const key of gone) {
      const seen = this.seen.get(key)
      if (seen !== undefined && seen.goneAt === undefined) {
        this.seen.set(key, { ...seen, changedAt: at, goneAt: at })
      }
    }
    for (const row of update.rows) {
      const before = this.seen.get(row.key)
      const isNew = before === undefined && !update.reset
      const isOther = before !== undefined && differs(before, row)
      const changedAt = isNew || isOther ? at : (before?.changedAt ?? -Infinity)
      this.seen.set(row.key, { row, changedAt, goneAt: undefined })
    }
    for (const [key, { goneAt }] of this.seen) {
      if (goneAt !== undefined && at - goneAt > fading) this.seen.delete(key)
    }
    if (update.reset) this.events = update.events.slice().reverse()
    else if (update.events.length > 0) {
      this.events = [...update.events.slice().reverse(), ...this.events].slice(0, mostEvents)
    }
    if (this.selected !== undefined) this.ask()
    if (document.hidden) this.rest()
    this.changed()
  }

  /**
   * A browser has six connections to a server, for all its tabs: those that nobody looks at keep none. Every
   * now and then they ask all the same (`silentMillis`), so that the server does not forget what it has seen.
   */
  private rest(): void {
    this.source?.close()
    this.isResting = true
  }

  /** One question at a time, and one more where something was heard meanwhile. */
  private ask(): void {
    const key = this.selected
    if (key === undefined) return
    if (this.asking) {
      this.askAgain = true
      return
    }
    this.asking = true
    const signal = AbortSignal.timeout(10_000)
    fetch(`${base}/api/lock?${new URLSearchParams({ key })}`, { signal })
      .then(async (response) => {
        if (!response.ok) throw await refusalOf(response)
        return (await response.json()) as Details
      })
      .then(
        (details) => {
          if (this.selected !== key) return
          this.details = details
          this.detailsError = undefined
        },
        (error: unknown) => {
          if (this.selected === key) {
            this.detailsError = error instanceof Error ? error.message : String(error)
          }
        }
      )
      .finally(() => {
        this.asking = false
        const again = this.askAgain || this.selected !== key
        this.askAgain = false
        if (again) this.ask()
        this.changed()
      })
  }

  private changed(): void {
    this.version++
    for (const listener of this.listeners) listener()
  }
}

/** What the server says, or whoever stands before it. */
const refusalOf = async (response: Response): Promise<Error> => {
  const { detail } = await response.json().catch(() => ({}))
  return new Error(
    typeof detail === "string"
      ? detail
      : response.status === 431 || response.status === 414
        ? "This key is too long to be asked for in an address: look at it with the command line (effect-redis-lock show)."
        : `The server answered ${response.status}.`
  )
}

/** Whether there is another holder, or another number of those who hold it or wait. */
const differs = ({ goneAt, row: before }: Seen, row: Row): boolean =>
  goneAt !== undefined ||
  before.first?.id !== row.first?.id ||
  before.first?.fencingToken !== row.first?.fencingToken ||
  before.heldCount !== row.heldCount ||
  before.pendingCount !== row.pendingCount
