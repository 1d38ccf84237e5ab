/** The playground: `mount` shows it in an element. */
import { type ComponentChildren, render } from "preact"
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks"
import { Play, seconds } from "./play.js"
import { laneHeight, Timeline } from "./timeline.js"
import { type Kind, limit, type Worker } from "./worker.js"

/** What can be done with it by a script, as a test does: it makes time pass, whether it is paused or not. */
export interface Mounted {
  readonly play: Play
  advance(millis: number): Promise<void>
  unmount(): void
}

const kinds: ReadonlyArray<readonly [Kind, string]> = [
  ["lock", "Lock"],
  ["semaphore", `Semaphore, limit ${limit}`],
  ["readWriteLock", "Read-write lock"]
]

/** A frame that comes later than that, as after a pause, is not caught up with. */
const longestFrameMillis = 100

class Stage {
  play = new Play("lock")
  isRunning = false
  /** Whether somebody can see it. */
  isInView = true
  onChange = (): void => {}
  private timeline: Timeline | undefined = undefined
  private frame: number | undefined = undefined
  private lastFrameAt: number | undefined = undefined
  private drawnAt = -Infinity
  private readonly reducedMotion = matchMedia("(prefers-reduced-motion: reduce)")

  choose(kind: Kind): void {
    this.play = new Play(kind)
    this.drawnAt = -Infinity
  }

  /** Where to draw. */
  show(lanes: ReadonlyMap<string, SVGGElement>): void {
    this.timeline = new Timeline(this.play, lanes)
    this.timeline.draw()
  }

  run(isRunning: boolean): void {
    this.isRunning = isRunning
    this.goOn()
  }

  seen(isInView: boolean): void {
    this.isInView = isInView
    this.goOn()
  }

  async advance(millis: number): Promise<void> {
    const { play } = this
    await play.advance(millis)
    // (another kind has been chosen meanwhile)
    if (play === this.play) this.draw()
  }

  close(): void {
    this.isRunning = false
    if (this.frame !== undefined) cancelAnimationFrame(this.frame)
  }

  private draw(): void {
    // who wants no motion gets a new picture now and then
    const { now } = this.play.world
    if (this.reducedMotion.matches && now - this.drawnAt < 1_000) return
    this.timeline?.draw()
    // (words change less often than the picture does)
    if (Math.floor(now / 100) !== Math.floor(this.drawnAt / 100)) this.onChange()
    this.drawnAt = now
  }

  private goOn(): void {
    if (this.frame !== undefined || !this.isRunning || !this.isInView) return
    this.lastFrameAt = undefined
    this.frame = requestAnimationFrame(this.onFrame)
  }

  private readonly onFrame = async (at: number): Promise<void> => {
    const passed = at - (this.lastFrameAt ?? at)
    this.lastFrameAt = at
    await this.advance(Math.min(passed, longestFrameMillis))
    this.frame = undefined
    if (this.isRunning && this.isInView) this.frame = requestAnimationFrame(this.onFrame)
  }
}

export const mount = (element: HTMLElement): Mounted => {
  const stage = new Stage()
  const observer = new IntersectionObserver(([entry]) => stage.seen(entry!.isIntersecting))
  render(<App stage={stage} />, element)
  observer.observe(element)
  return {
    get play() {
      return stage.play
    },
    advance: (millis) => stage.advance(millis),
    unmount: () => {
      observer.disconnect()
      stage.close()
      render(null, element)
    }
  }
}

const App = ({ stage }: { stage: Stage }) => {
  const [, setVersion] = useState(0)
  const [isRunning, setRunning] = useState(false)
  const start = useRef<HTMLButtonElement>(null)
  const body = useRef<HTMLDivElement>(null)
  const { play } = stage
  const update = () => setVersion((version) => version + 1)

  useEffect(() => {
    stage.onChange = update
    // whoever pressed Start goes on with the button in its place
    start.current?.focus()
    stage.run(true)
    setRunning(true)
  }, [])
  useLayoutEffect(() => {
    const lanes = [...body.current!.querySelectorAll<SVGGElement>("[data-lane]")]
    stage.show(new Map(lanes.map((lane) => [lane.dataset.lane!, lane])))
  }, [play])

  return (
    <>
      <div class="controls">
        <button
          type="button"
          class="start"
          ref={start}
          onClick={() => {
            stage.run(!isRunning)
            setRunning(!isRunning)
          }}
        >
          {isRunning ? "Pause" : "Go on"}
        </button>
        <div class="kinds" role="group" aria-label="What they contend for">
          {kinds.map(([kind, name]) => (
            <button
              type="button"
              aria-pressed={kind === play.kind}
              onClick={() => {
                stage.choose(kind)
                update()
              }}
            >
              {name}
            </button>
          ))}
        </div>
      </div>
      {/* each kind begins anew */}
      <div class="workers" ref={body} key={play.kind}>
        {play.workers.map((worker) => (
          <Row
            key={worker.name}
            worker={worker}
            state={stateOf(worker, play.world.now)}
            onAct={update}
          />
        ))}
      </div>
      <Legend kind={play.kind} />
      <p class="title" aria-hidden="true">
        What happened
      </p>
      <div class="said" role="log" aria-label="What happened">
        {play.said.slice(-4).map(({ at, id, text }) => (
          <p key={id}>
            <span class="at">{seconds(at)}</span> {text}
          </p>
        ))}
      </div>
    </>
  )
}

const Row = ({
  onAct,
  state,
  worker
}: {
  worker: Worker
  state: readonly [name: string, words: string]
  onAct: () => void
}) => {
  const { name } = worker
  const isKilled = worker.has("killed")
  const isFrozen = worker.has("frozen") || worker.isFreezing
  const button = (words: string, act: () => void, isOff = false) => (
    <button
      type="button"
      disabled={isOff}
      aria-label={`${words} ${name}`}
      onClick={() => {
        act()
        onAct()
      }}
    >
      {words}
    </button>
  )
  return (
    <div class="worker" role="group" aria-label={`Worker ${name}`} data-state={state[0]}>
      <div class="who">
        <strong>{name}</strong> <span class="state">{state[1]}</span>
      </div>
      <svg class="lane" height={laneHeight} aria-hidden="true" focusable="false">
        <svg x="100%" overflow="visible">
          <g data-lane={name} />
        </svg>
      </svg>
      <div class="acts">
        {worker.has("cut")
          ? button("Connect", () => worker.connect(), isKilled)
          : button("Cut off", () => worker.cut(), isKilled)}
        {isFrozen
          ? button("Thaw", () => worker.thaw(), isKilled)
          : button("Freeze", () => worker.freeze(), isKilled)}
        {isKilled ? button("Restart", () => worker.restart()) : button("Kill", () => worker.kill())}
      </div>
    </div>
  )
}

const stateOf = (worker: Worker, now: number): readonly [name: string, words: string] => {
  const { provenUntil, turn } = worker
  if (worker.has("killed")) return ["killed", "is killed"]
  if (worker.has("frozen")) {
    if (provenUntil === undefined) return ["frozen", "stands still"]
    return provenUntil > now
      ? ["frozen", "stands still, and holds"]
      : ["frozen", "stands still, and has lost it"]
  }
  if (worker.isIn) {
    const words = { lock: "has the lock", permit: "has a permit", read: "reads", write: "writes" }
    const left = Math.max(0, provenUntil! - now)
    return ["holds", `${words[turn!.mode]}, proven for ${seconds(left)}`]
  }
  if (turn === undefined) return worker.has("cut") ? ["cut", "is cut off"] : ["rests", "rests"]
  if (worker.has("cut")) return ["cut", "asks, without an answer"]
  return turn.endedAt === undefined ? ["waits", "waits"] : ["holds", "gives back"]
}

const whatIsSent = (kind: Kind): string =>
  kind === "readWriteLock" ? "a read or a write" : "a write"

const Legend = ({ kind }: { kind: Kind }) => (
  <ul class="legend">
    <li>
      <Sample>
        <rect class="wait" y="3" width="24" height="8" />
      </Sample>
      waits
    </li>
    <li>
      <Sample>
        <rect class="hold" width="24" height="14" />
        <path class="proof" d="M0 14V0L12 7V0L24 7V14Z" />
      </Sample>
      holds, with its fencing token; as high as the time for which that is proven, which a renewal
      fills up
    </li>
    {kind === "readWriteLock" && (
      <li>
        <Sample>
          <rect class="hold" width="24" height="14" />
          <path class="proof" data-mode="write" d="M0 14V0L12 7V0L24 7V14Z" />
        </Sample>
        the same, to write
      </li>
    )}
    <li>
      <Sample>
        <circle class="accepted" cx="12" cy="7" r="2.5" />
      </Sample>
      {whatIsSent(kind)} that is accepted
    </li>
    <li>
      <Sample>
        <path class="refused" d="M6 1l12 12m0 -12l-12 12" />
      </Sample>
      {whatIsSent(kind)} that is refused
    </li>
    <li>
      <Sample>
        <path class="interrupted" d="M12 -1v16" />
      </Sample>
      its code is interrupted
    </li>
    <li>
      <Sample>
        <rect class="late" width="24" height="14" />
      </Sample>
      has lost the lease, and its code could not be told
    </li>
    <li>
      <Sample>
        <rect class="kept" y="5" width="24" height="5" />
      </Sample>
      the store keeps the lease
    </li>
    <li>
      <Sample>
        <rect class="trouble cut" y="1" width="24" height="4" />
        <rect class="trouble frozen" y="5" width="24" height="4" />
        <rect class="trouble killed" y="9" width="24" height="4" />
      </Sample>
      cut off, frozen, killed; a line for each second
    </li>
  </ul>
)

const Sample = ({ children }: { children: ComponentChildren }) => (
  <svg class="sample" width="24" height="14" aria-hidden="true" focusable="false">
    {children}
  </svg>
)
