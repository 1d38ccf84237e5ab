/**
 * A process of its own that takes locks with many fibers, writes to the register under them, and
 * writes down what happens, synchronously, so that nothing is lost when it is killed. Started by
 * `Crew`, and told what to do by messages.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import * as Scope from "effect/Scope"
import { LockStore } from "effect-redis-lock"
import * as Fs from "node:fs"
import { blockEventLoop, seeded } from "../redis/support.js"
import { type Event, now } from "./History.js"
import * as Register from "./Register.js"
import { type AnyLease, type Place, rowNamed, type Tagged, type Way } from "./Rows.js"
import { inside } from "../support/inside.js"

export interface Workload {
  /** Where to write the history. */
  readonly history: string
  /** The first is hot: the most of all sections are on it. */
  readonly keys: ReadonlyArray<string>
  readonly ttl: number
  readonly fibers: number
  readonly seed: number
  /** Only those who never give up, and every section of some length. */
  readonly patient: boolean
  /** Only those who take the least, within all there is. */
  readonly alike: boolean
}

export type Order =
  | ({ readonly _tag: "Run" } & Workload)
  /** Asks for nothing more, and brings what is under way to its end. */
  | { readonly _tag: "Drain" }
  | { readonly _tag: "Block"; readonly millis: number }
  /** Begins no section until it is woken, or told to drain; says when all have ended. */
  | { readonly _tag: "Rest" }
  | { readonly _tag: "Wake" }
  /** The wall clock jumps. */
  | { readonly _tag: "SetClock"; readonly by: number }
  | { readonly _tag: "Memory" }
  /** Closes the store, and ends by itself if nothing is left. */
  | { readonly _tag: "Close" }

export type News =
  | { readonly _tag: "Ready"; readonly storeId: string }
  | { readonly _tag: "Resting" }
  | { readonly _tag: "Drained" }
  | { readonly _tag: "Memory"; readonly bytes: number }
  | { readonly _tag: "Closed"; readonly left: ReadonlyArray<string> }
  | { readonly _tag: "Broke"; readonly what: string }

const env = (name: string): string => {
  const value = process.env[name]
  if (value === undefined) throw new Error(`${name} is not set`)
  return value
}

const name = env("FAULTS_WORKER")
const row = rowNamed(env("FAULTS_ROW"))
const place = JSON.parse(env("FAULTS_PLACE")) as Place
const tell = (news: News) => process.send?.(news)

for (const kind of ["uncaughtException", "unhandledRejection", "warning"] as const) {
  process.on(kind as "uncaughtException", (error: Error) => {
    const what = `${kind}: ${error.stack ?? String(error)}`
    // a Cluster client of ioredis that looks for a node to subscribe to ends its last connection once
    // more each time, with a listener each, which go with that connection 2 s later
    if (what.includes("MaxListeners") && what.includes("ClusterSubscriber.select")) return
    tell({ _tag: "Broke", what })
  })
}

// -----------------------------------------------------------------------------
// the history
// -----------------------------------------------------------------------------

let file: number | undefined
const record = (event: Event): void => {
  if (file !== undefined) Fs.writeSync(file, `${JSON.stringify(event)}\n`)
}

/** The event loop is looked at so often; a gap of more is a stall. */
const lookEvery = 5
const stall = 12
let lookedAt = now()
setInterval(() => {
  const at = now()
  if (at - lookedAt > stall) record({ _tag: "Stalled", at, worker: name, from: lookedAt })
  lookedAt = at
}, lookEvery).unref()

// -----------------------------------------------------------------------------
// critical sections
// -----------------------------------------------------------------------------

class Refused extends Error {
  readonly _tag = "Refused"
}

interface Running extends Workload {
  draining: boolean
  resting: boolean
  /** How many of its fibers do. */
  asleep: number
}

let lastSection = 0

const pick = <A extends { readonly share: number }>(of: ReadonlyArray<A>, random: number): A => {
  let rest = random * of.reduce((sum, { share }) => sum + share, 0)
  return of.find(({ share }) => (rest -= share) < 0) ?? of[0]!
}

/** How long a section lasts: mostly short, some for longer than a ttl, so that it is renewed. */
const holdOf = ({ patient, ttl }: Workload, random: () => number): number =>
  patient ? 60 + random() * 40 : random() < 0.06 ? ttl * (0.9 + random() * 1.3) : random() * 25

const keyOf = ({ keys }: Workload, random: () => number): string => {
  const one = random()
  return one < 0.4 ? keys[0]! : one < 0.5 ? keys[1]! : keys[Math.floor(random() * keys.length)]!
}

const criticalSection = (
  running: Running,
  section: string,
  key: string,
  way: Way,
  hold: number,
  patience: number,
  write: (write: Register.Write) => Effect.Effect<boolean>
) => {
  const look = (lease: AnyLease) =>
    Effect.suspend(() => {
      const at = now()
      return Effect.zipWith(lease.isHeld, lease.remaining, (held, remaining) => ({
        at,
        // (remaining is in whole milliseconds: nothing of one that has begun)
        until: held ? at + Duration.toMillis(remaining) : 0
      }))
    })
  const part = (
    section: string,
    lease: AnyLease,
    weight: number,
    hold: number,
    tick?: number
  ): Effect.Effect<void, Refused> =>
    Effect.gen(function* () {
      const { fencingToken: fence, token } = lease
      const alone = row.kind.hasReaders === true && weight === row.kind.capacity
      const reads = row.kind.hasReaders === true && !alone
      const floor = reads ? 0 : "fencingFloor" in lease ? lease.fencingFloor : fence
      const granted = yield* look(lease)
      record({ _tag: "Granted", section, token, fence, tick, ...granted })
      const writing = (phase: "enter" | "middle" | "exit") =>
        Effect.flatMap(
          write({ key, section, worker: name, phase, fence, floor, alone, hold }),
          (accepted) => (accepted ? Effect.void : Effect.fail(new Refused(phase)))
        )
      const holding = (until: number) =>
        Effect.gen(function* () {
          for (let left = until - now(); left > 0 && !running.draining; left = until - now()) {
            yield* Effect.sleep(Math.min(20, left))
            record({ _tag: "Seen", section, ...(yield* look(lease)) })
          }
        })
      yield* writing("enter")
      yield* holding(granted.at + hold / 2)
      yield* writing("middle")
      yield* holding(granted.at + hold)
      yield* writing("exit")
    }).pipe(
      Effect.onExit((exit) =>
        Effect.map(look(lease), (last) => {
          const how = Exit.isSuccess(exit)
            ? "done"
            : Option.isSome(Cause.failureOption(exit.cause))
              ? "refused"
              : "interrupted"
          record({ _tag: "Ended", section, how, ...last })
        })
      )
    )
  const { limit, weight } = way
  const asked = { worker: name, key, way: way.name, limit }
  let rest: string | undefined
  let parts = 0
  const isAsked = () => record({ _tag: "Asked", at: now(), ...asked, section, weight })
  const body = (lease: AnyLease, tick?: number): Effect.Effect<void, Refused> =>
    Effect.suspend(() => {
      if (parts === 0 && way.timed === true) isAsked()
      if (parts++ === 0) return part(section, lease, weight, hold, tick)
      rest = `${section}+`
      record({ _tag: "Asked", at: now(), ...asked, section: rest, weight: 1, restOf: section })
      return part(rest, lease, 1, hold)
    })
  if (way.timed !== true) isAsked()
  return way.run(key, { ttl: running.ttl }, patience, body).pipe(
    Effect.exit,
    Effect.map((exit) => {
      const outcome = outcomeOf(exit)
      record({ _tag: "Settled", at: now(), section, outcome })
      if (rest !== undefined) record({ _tag: "Settled", at: now(), section: rest, outcome })
      return outcome
    })
  )
}

const outcomeOf = (exit: Exit.Exit<unknown, Tagged>): string => {
  if (Exit.isSuccess(exit)) return "ok"
  const defects = [...Cause.defects(exit.cause)]
  if (defects.length > 0) tell({ _tag: "Broke", what: `a defect: ${Cause.pretty(exit.cause)}` })
  const failures = [...Cause.failures(exit.cause)].map((failure) =>
    "reason" in failure ? `${failure._tag} ${String(failure.reason)}` : failure._tag
  )
  return failures.join(" and ") || "interrupted"
}

/** One fiber's life: one section after the other. */
const visits = (
  running: Running,
  fiber: number,
  write: (write: Register.Write) => Effect.Effect<boolean>
) =>
  Effect.gen(function* () {
    const random = seeded(running.seed * 1_000 + fiber)
    const ways = row.kind.ways.filter(
      ({ limit, patient, weight }) =>
        (patient || !running.patient) &&
        (!running.alike || (weight === 1 && limit === row.kind.capacity))
    )
    while (!running.draining) {
      if (running.resting) {
        if (++running.asleep === running.fibers) tell({ _tag: "Resting" })
        while (running.resting) yield* Effect.sleep(5)
        running.asleep--
        continue
      }
      const outcome = yield* criticalSection(
        running,
        `${name}/${++lastSection}`,
        keyOf(running, random),
        pick(ways, random()),
        holdOf(running, random),
        (random() * running.ttl) / 3,
        write
      )
      // a store that is away answers at once
      yield* Effect.sleep(outcome === "ok" ? random() * 10 : 10 + random() * 40)
    }
  })

// -----------------------------------------------------------------------------
// what is left
// -----------------------------------------------------------------------------

interface Internals {
  readonly linesOf?: Readonly<Record<string, { readonly size: number }>>
  readonly boundLines?: { readonly size: number }
  readonly entries?: { readonly size: number }
  readonly attempts?: { readonly size: number }
  readonly around?: {
    readonly storeId: string
    readonly messages: {
      readonly foreignKeys: { readonly size: number }
    }
  }
  readonly nodes?: ReadonlyArray<{ readonly store: Internals }>
}

/** What a store keeps of keys that nobody holds or waits for. */
const keptBy = (store: LockStore.LockStore): ReadonlyArray<string> => {
  const { around, attempts, boundLines, entries, linesOf } = inside<Internals>(store)
  return Object.entries({
    ...linesOf,
    boundLines,
    entries,
    attempts,
    "foreign keys": around?.messages.foreignKeys
  }).flatMap(([what, kept]) => ((kept?.size ?? 0) > 0 ? [`${kept!.size} ${what}`] : []))
}

/** In this fiber alone: a timeout would be one more. */
const within = (millis: number, check: Effect.Effect<boolean>): Effect.Effect<boolean> => {
  const until = now() + millis
  const look: Effect.Effect<boolean> = Effect.flatMap(check, (holds) =>
    holds || now() > until ? Effect.succeed(holds) : Effect.delay(look, 10)
  )
  return look
}

// -----------------------------------------------------------------------------
// orders
// -----------------------------------------------------------------------------

const RealDate = Date
let clockIsOffBy = 0
class MovedDate extends RealDate {
  constructor(...args: ReadonlyArray<unknown>) {
    if (args.length === 0) super(MovedDate.now())
    else super(...(args as [number]))
  }
  static override now(): number {
    return RealDate.now() + clockIsOffBy
  }
}

const program = Effect.gen(function* () {
  const write = yield* Register.connect(Number(env("FAULTS_REGISTER")))
  const resourcesBefore = process.getActiveResourcesInfo().length
  const scope = yield* Scope.make()
  const context = yield* Layer.buildWithScope(row.layer(place), scope)
  const store = Context.get(context, LockStore.LockStore)
  const runtime = yield* Effect.runtime<never>()
  const closed = yield* Deferred.make<void>()
  let running: Running | undefined

  const run = (workload: Workload) =>
    Effect.gen(function* () {
      const me = yield* Effect.withFiberRuntime<Fiber.RuntimeFiber<unknown, unknown>>((fiber) =>
        Effect.succeed(fiber)
      )
      const before = new Set([...(yield* Fiber.roots), me])
      file = Fs.openSync(workload.history, "a")
      const mine: Running = { ...workload, draining: false, resting: false, asleep: 0 }
      running = mine
      yield* Effect.forEach(
        Array.from({ length: workload.fibers }, (_, fiber) => fiber),
        (fiber) => visits(mine, fiber, write),
        { concurrency: "unbounded", discard: true }
      ).pipe(Effect.provide(context))
      // what is given back in the background is tried again for a ttl
      const patience = workload.ttl + 3_000
      if (
        !(yield* within(
          patience,
          Effect.sync(() => keptBy(store).length === 0)
        ))
      ) {
        const what = `the store keeps ${keptBy(store).join(", ")}`
        record({ _tag: "Left", at: now(), where: name, what })
      }
      const others = Effect.map(
        Fiber.roots,
        (roots) => [...roots].filter((fiber) => !before.has(fiber)).length
      )
      if (
        !(yield* within(
          patience,
          Effect.map(others, (count) => count === 0)
        ))
      ) {
        const what = `${yield* others} fibers run on`
        record({ _tag: "Left", at: now(), where: name, what })
      }
      Fs.closeSync(file)
      file = undefined
      tell({ _tag: "Drained" })
    })

  const obey = (order: Order): void => {
    switch (order._tag) {
      case "Run":
        Runtime.runFork(runtime)(run(order))
        return
      case "Drain":
        if (running !== undefined) Object.assign(running, { draining: true, resting: false })
        return
      case "Block":
        return blockEventLoop(order.millis)
      case "Rest":
        if (running !== undefined) running.resting = !running.draining
        return
      case "Wake":
        if (running !== undefined) running.resting = false
        return
      case "SetClock":
        clockIsOffBy = order.by
        globalThis.Date = MovedDate as DateConstructor
        return
      case "Memory": {
        globalThis.gc?.()
        globalThis.gc?.()
        return void tell({ _tag: "Memory", bytes: process.memoryUsage().heapUsed })
      }
      case "Close":
        return void Deferred.unsafeDone(closed, Exit.void)
    }
  }
  process.on("message", obey)
  process.on("disconnect", () => process.exit())
  const engine = inside<Internals>(store)
  // (of a quorum: as its first node knows it)
  const { around } = engine.nodes?.[0]?.store ?? engine
  if (around === undefined && row.topology !== "none")
    return yield* Effect.dieMessage("no store id")
  tell({ _tag: "Ready", storeId: around?.storeId ?? "nothing in Redis" })
  yield* Deferred.await(closed)
  yield* Scope.close(scope, Exit.void)
  const resources = () => process.getActiveResourcesInfo()
  // (one is the timer of this very question)
  const gone = yield* within(
    2_000,
    Effect.sync(() => resources().length <= resourcesBefore + 1)
  )
  tell({ _tag: "Closed", left: gone ? [] : resources() })
})

await Effect.runPromise(Effect.scoped(program).pipe(Logger.withMinimumLogLevel(LogLevel.None)))
// from here on nothing but what was forgotten keeps this process alive
process.removeAllListeners("disconnect")
process.removeAllListeners("message")
process.disconnect()
// the loop is empty: it ends by itself (Node 20 can hang after that, in the end of a loader's thread)
process.once("beforeExit", () => process.kill(process.pid, "SIGKILL"))
