/** Draws what happened, a lane for each worker: to the right is now. */
import type { Play } from "./play.js"
import type { Kept } from "./store.js"
import type { Sent, Trouble, Turn } from "./worker.js"

export const pixelsPerSecond = 32
/** Of a lane: what is wrong with its machine is above, its turns are in the middle, the store's view is below. */
export const laneHeight = 50
const trouble = { top: 1, height: 4 }
const turns = { top: 9, height: 28 }
const kept = { top: 42, height: 5 }
const fullProofMillis = 4_000

const x = (at: number): number => (at * pixelsPerSecond) / 1_000

type Attributes = Readonly<Record<string, string | number | undefined>>

const svg = (name: string, className: string): SVGElement => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name)
  element.setAttribute("class", className)
  return element
}

const set = (element: SVGElement, attributes: Attributes): void => {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined) element.removeAttribute(name)
    else element.setAttribute(name, String(value))
  }
}

type TurnElements = [
  wait: SVGElement,
  hold: SVGElement,
  proof: SVGElement,
  late: SVGElement,
  interrupted: SVGElement,
  token: SVGElement
]

/** What is drawn of one thing, and when that ended. */
interface Drawn {
  readonly elements: ReadonlyArray<SVGElement>
  to: number | undefined
}

export class Timeline {
  private readonly drawn = new Map<object, Drawn>()
  private readonly grids: ReadonlyArray<SVGElement>

  constructor(
    private readonly play: Play,
    /** Of each worker, by name: what moves to the left. */
    private readonly lanes: ReadonlyMap<string, SVGGElement>
  ) {
    this.grids = [...lanes.keys()].flatMap((name) => this.add(name, svg("path", "seconds")))
  }

  draw(): void {
    const { play } = this
    const { now } = play.world
    for (const turn of play.turns) this.update(turn, this.drawTurn)
    for (const lease of play.store.leases) this.update(lease, this.drawKept)
    for (const trouble of play.troubles) this.update(trouble, this.drawTrouble)
    for (const sent of play.accesses) this.update(sent, this.drawSent)
    for (const forgotten of play.forgotten.splice(0)) {
      for (const element of this.drawn.get(forgotten)?.elements ?? []) element.remove()
      this.drawn.delete(forgotten)
    }
    const d = lines(now)
    for (const grid of this.grids) set(grid, { d })
    for (const lane of this.lanes.values()) set(lane, { transform: `translate(${-x(now)} 0)` })
  }

  /** What has ended is drawn once more, and then left as it is. */
  private update<A extends object>(
    thing: A,
    draw: (thing: A, elements: ReadonlyArray<SVGElement> | undefined) => Drawn
  ): void {
    const before = this.drawn.get(thing)
    if (before?.to === undefined) this.drawn.set(thing, draw(thing, before?.elements))
  }

  private add(worker: string, ...elements: ReadonlyArray<SVGElement>): ReadonlyArray<SVGElement> {
    this.lanes.get(worker)!.append(...elements)
    return elements
  }

  private bar(
    element: SVGElement,
    { height, top }: { readonly top: number; readonly height: number },
    from: number,
    to: number | undefined,
    data: Attributes
  ): void {
    const end = to ?? this.play.world.now
    set(element, {
      x: x(from),
      y: top,
      width: x(end - from),
      height,
      "data-from": from,
      "data-to": to,
      ...data
    })
  }

  /** Waiting; holding, with what is proven; and what its code did when that was over. */
  private readonly drawTurn = (
    turn: Turn,
    elements = this.add(
      turn.worker,
      svg("rect", "wait"),
      svg("rect", "hold"),
      svg("path", "proof"),
      svg("rect", "late"),
      svg("path", "interrupted"),
      svg("text", "token")
    )
  ): Drawn => {
    const [wait, hold, proof, late, interrupted, token] = elements as TurnElements
    const { askedAt, endedAt, enteredAt, fencingToken, mode, outcome, proofs, worker } = turn
    const { now } = this.play.world
    this.bar(wait, { top: turns.top + 9, height: 10 }, askedAt, enteredAt ?? endedAt, {
      "data-what": "wait",
      "data-worker": worker,
      "data-outcome": enteredAt === undefined ? outcome : undefined
    })
    if (enteredAt === undefined) return { elements, to: endedAt }
    const provenUntil = proofs.at(-1)!.until
    const end = Math.min(endedAt ?? now, provenUntil)
    const isOver = endedAt !== undefined || provenUntil <= now
    this.bar(hold, turns, enteredAt, isOver ? end : undefined, {
      "data-what": "hold",
      "data-worker": worker,
      "data-token": fencingToken,
      "data-mode": mode,
      "data-outcome": isOver ? (outcome ?? "late") : undefined
    })
    set(proof, { d: proofPath(turn, end), "data-mode": mode })
    set(token, { x: x(enteredAt) + 4, y: turns.top + 12 })
    token.textContent = String(fencingToken)
    if ((endedAt ?? now) > provenUntil) {
      this.bar(late, turns, provenUntil, endedAt, {
        "data-what": "late",
        "data-worker": worker,
        "data-token": fencingToken
      })
    }
    if (outcome === "interrupted") {
      set(interrupted, { d: `M${x(endedAt!)} ${turns.top - 3}v${turns.height + 6}` })
    }
    return { elements, to: endedAt }
  }

  private readonly drawKept = (
    lease: Kept,
    elements = this.add(lease.owner, svg("rect", "kept"))
  ): Drawn => {
    const { fencingToken, from, owner, to } = lease
    this.bar(elements[0]!, kept, from, to, {
      "data-what": "kept",
      "data-worker": owner,
      "data-token": fencingToken
    })
    return { elements, to }
  }

  private readonly drawTrouble = (
    { from, to, what, worker }: Trouble,
    elements = this.add(worker, svg("rect", `trouble ${what}`))
  ): Drawn => {
    this.bar(elements[0]!, trouble, from, to, { "data-what": what, "data-worker": worker })
    return { elements, to }
  }

  private readonly drawSent = ({ accepted, at, turn }: Sent): Drawn => {
    const data = { "data-at": at, "data-worker": turn.worker, "data-token": turn.fencingToken }
    if (accepted) {
      const dot = svg("circle", "accepted")
      set(dot, {
        cx: x(at),
        cy: turns.top + turns.height - 5,
        r: 2.5,
        "data-what": "accepted",
        ...data
      })
      return { elements: this.add(turn.worker, dot), to: at }
    }
    const cross = svg("path", "refused")
    const middle = turns.top + turns.height / 2
    set(cross, {
      d: `M${x(at) - 7} ${middle - 7}l14 14m0 -14l-14 14`,
      "data-what": "refused",
      ...data
    })
    return { elements: this.add(turn.worker, cross), to: at }
  }
}

/** One for each of the last seconds. */
const lines = (now: number): string => {
  const last = Math.floor(now / 1_000)
  const seconds = Array.from({ length: 40 }, (_, index) => last - index).filter((one) => one >= 0)
  return seconds.map((second) => `M${x(second * 1_000)} 0V${laneHeight}`).join("")
}

/** What is proven of a lease: it runs down, and is full again after a renewal. */
const proofPath = ({ enteredAt, proofs }: Turn, end: number): string => {
  const bottom = turns.top + turns.height
  const y = (left: number): number =>
    bottom - turns.height * Math.min(1, Math.max(0, left / fullProofMillis))
  const points = proofs.flatMap(({ at, until }, index) => {
    const from = Math.max(at, enteredAt!)
    const to = Math.min(proofs[index + 1]?.at ?? end, end)
    return [`L${x(from)} ${y(until - from)}`, `L${x(to)} ${y(until - to)}`]
  })
  return `M${x(enteredAt!)} ${bottom}${points.join("")}L${x(end)} ${bottom}Z`
}
