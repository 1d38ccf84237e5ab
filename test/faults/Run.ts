/** One run: a workload, a plan of faults, the history of it, and what the checks say. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { seeded } from "../redis/support.js"
import * as RedisServer from "../support/RedisServer.js"
import { judge, network, server as theServer, type Terms, type Violation } from "./checks.js"
import type { Crew, Worker } from "./Crew.js"
import { faultNamed } from "./faults.js"
import { type Event, eventsOf, type History, now, parse, provenOf, sectionsOf } from "./History.js"
import { holdersOf, tokensIn } from "./Holdings.js"
import { isHarmless, linkOf, type Plan, show, type Step, wayOf } from "./Plan.js"

export interface Result {
  readonly plan: Plan
  readonly violations: ReadonlyArray<Violation>
  readonly history: History
  readonly counts: Counts
}

export interface Counts {
  readonly sections: number
  readonly granted: number
  readonly lost: number
  readonly refused: number
  readonly faults: number
}

const cache = fileURLToPath(new URL("../../.cache/faults/", import.meta.url))
let runs = 0

/** Does the plan, and waits until everybody has come to an end. */
export const run = (crew: Crew, plan: Plan): Effect.Effect<Result> =>
  Effect.scoped(
    Effect.gen(function* () {
      yield* named(crew, "new processes", crew.refill)
      const id = `${process.pid}-${++runs}`
      const dir = yield* Effect.acquireRelease(
        Effect.sync(() => Fs.mkdtempSync(Path.join(prepared(), `${id}-`))),
        (dir) => Effect.sync(() => Fs.rmSync(dir, { recursive: true, force: true }))
      )
      const keys = Array.from({ length: 32 }, (_, index) =>
        index === 0 ? `${id}:hot` : `${id}:${index}`
      )
      // where there are several servers, each has some of them
      const keysOn = (server: RedisServer.RedisProcess | undefined) =>
        crew.cluster === undefined
          ? Effect.succeed(keys)
          : Effect.filter(keys, (key) => Effect.map(serverOf(crew, key), (one) => one === server))
      crew.register.take()
      for (const proxy of crew.proxies) {
        proxy.forget()
        // what each connection has sent is kept as well, and an hour is long
        for (const { requests } of proxy.connections) (requests as Array<unknown>).length = 0
      }
      const events: Array<Event> = []
      const everyone: Array<Worker> = []
      const begin = (worker: Worker, slot: number) => {
        everyone.push(worker)
        worker.order({
          _tag: "Run",
          history: Path.join(dir, worker.name),
          keys,
          ttl: plan.ttl,
          fibers: plan.fibers,
          seed: plan.seed * 100 + slot,
          patient: plan.patient,
          alike: plan.alike
        })
      }
      yield* named(crew, "slow links", slowLinks(crew, plan))
      const began = { at: now(), wallAt: Date.now() }
      yield* watchNetwork((event) => events.push(event))
      yield* watchServers(crew, (event) => events.push(event))
      crew.workers.forEach(begin)

      const staying: Array<Fiber.RuntimeFiber<void>> = []
      const stay = (fault: Effect.Effect<void>) =>
        Effect.map(Effect.forkScoped(fault), (fiber) => void staying.push(fiber))
      const occupied = new Map<object, Set<string>>()
      const looks = yield* FiberSet.make<void>()
      const look = yield* FiberSet.runtime(looks)<never>()
      yield* Effect.all(
        [
          Effect.sleep(plan.millis),
          ...plan.steps.map((step, index) => {
            const random = seeded(plan.seed * 1_000 + index)
            const record = (event: Event) => {
              events.push(event)
              if (event._tag === "Killed") {
                look(watchDead(crew, keys, event.worker, plan.ttl, events))
              }
            }
            const stage = { hot: keys[0]!, keysOn, stay, occupied, record }
            const fault = perform(crew, step, plan, random, stage)
            return named(crew, step.fault, fault)
          })
        ],
        { concurrency: "unbounded", discard: true }
      )
      yield* named(crew, "what the dead had", FiberSet.awaitEmpty(looks))
      yield* Effect.forEach(
        crew.servers,
        (server) => named(crew, "an answer of Redis", sound(crew, server)),
        { discard: true }
      )

      for (const worker of everyone) worker.order({ _tag: "Drain" })
      yield* Effect.forEach(
        everyone.filter((worker) => worker.isAlive()),
        // who does not come to an end shows in the history (where links are slow, or waiters poll, a
        // long line takes a while: a turn can cost a second)
        (worker) => worker.next("Drained").pipe(Effect.timeoutOption(plan.ttl * 4 + 90_000)),
        { concurrency: "unbounded", discard: true }
      )
      yield* named(crew, "what stayed to the end", Fiber.interruptAll(staying))
      if (plan.links.length > 0) {
        const until = { until: now(), wallUntil: Date.now() }
        for (const { name: target } of everyone) {
          const fault = { _tag: "Fault" as const, fault: "slow link", target, forgets: [] }
          events.push({ ...fault, ...began, ...until })
        }
      }
      restoreNetwork(crew)
      yield* named(crew, "an empty Redis", leftoversOf(crew, plan, events))
      for (const worker of everyone) {
        while (worker.has("Broke")) {
          const news = yield* worker.next("Broke")
          const what = news?.what ?? ""
          events.push({ _tag: "Broke", at: now(), worker: worker.name, what })
        }
        if (!worker.isAlive()) {
          const what = yield* worker.ended
          if (what !== undefined) {
            events.push({ _tag: "Broke", at: now(), worker: worker.name, what: `ended: ${what}` })
          }
        }
        for (const event of parse(read(Path.join(dir, worker.name)))) events.push(event)
      }
      const history = [...events, ...crew.register.take()].sort((a, b) => a.at - b.at)
      return {
        plan,
        history,
        violations: judge(history, termsOf(crew, plan)),
        counts: countsOf(history)
      }
    })
  )

/** For a run that does not end: what it waits for. */
const named = <A, E, R>({ waitsFor }: Crew, name: string, effect: Effect.Effect<A, E, R>) =>
  Effect.onInterrupt(effect, () => Effect.sync(() => waitsFor.push(name)))

export const termsOf = ({ row }: Crew, plan: Plan): Terms => ({
  ttl: plan.ttl,
  renewEvery: plan.ttl / 2,
  // a grant that nobody has heard of yet, or a number that is reserved for local handoffs, can be for a
  // caller that comes later, within the proof that came with it
  behind: row.kind.capacity === 1 ? 0 : plan.ttl,
  inOrder: row.inOrder && plan.patient,
  // in a long storm of faults one can be cut off all the time
  everyoneServed: plan.steps.length <= 1 || isHarmless(plan),
  harmless: isHarmless(plan),
  way: wayOf(plan),
  // by its next heartbeat: a release, a question and its answer; on a slow way a message is asked about
  handoff:
    isHarmless(plan) && plan.steps.every(({ fault }) => faultNamed(fault).uses === "subscriber")
      ? plan.ttl / 3 + 4 * wayOf(plan)
      : undefined
})

export const countsOf = (history: History): Counts => {
  const sections = sectionsOf(history)
  return {
    sections: sections.length,
    granted: sections.filter((section) => provenOf(section).length > 0).length,
    lost: sections.filter(({ settled }) => settled?.outcome.includes("LockLost")).length,
    refused: eventsOf(history, "Write").filter(({ accepted }) => !accepted).length,
    faults: eventsOf(history, "Fault").length
  }
}

const prepared = (): string => {
  Fs.mkdirSync(cache, { recursive: true })
  return cache
}

const read = (path: string): string => (Fs.existsSync(path) ? Fs.readFileSync(path, "utf8") : "")

// -----------------------------------------------------------------------------
// faults
// -----------------------------------------------------------------------------

/** The way of each process is as the plan says, and its connection has been made over it. */
const slowLinks = (crew: Crew, plan: Plan): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function* () {
    yield* Effect.addFinalizer(() => Effect.sync(() => restoreNetwork(crew)))
    if (plan.links.length === 0) return
    yield* Effect.forEach(
      crew.proxies,
      (proxy, slot) =>
        Effect.gen(function* () {
          proxy.link(linkOf(plan, slot))
          proxy.cutAll()
          const isReady = () =>
            proxy.connections.some(({ requests }) =>
              requests.some(({ args, replied }) => replied && /^info$/i.test(args[0] ?? ""))
            )
          yield* Effect.timeoutOption(proxy.until(isReady), 5_000)
        }),
      { concurrency: "unbounded", discard: true }
    )
  })

const restoreNetwork = ({ proxies }: Crew): void => {
  for (const proxy of proxies) {
    proxy.link({})
    proxy.cutWhere(({ abandoned }) => abandoned)
  }
}

/** The proxies are in this process: while its event loop does not turn, nothing passes. */
const watchNetwork = (record: (event: Event) => void): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(
    Effect.acquireRelease(
      Effect.sync(() => {
        let lookedAt = now()
        return setInterval(() => {
          const at = now()
          if (at - lookedAt > 12) record({ _tag: "Stalled", at, worker: network, from: lookedAt })
          lookedAt = at
        }, 5)
      }),
      (timer) => Effect.sync(() => clearInterval(timer))
    )
  )

/** A server is asked so often; on a busy machine, and disk, an answer can take a while. */
const watchServers = (
  { servers }: Crew,
  record: (event: Event) => void
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.forEach(
    servers,
    ({ command }) =>
      Effect.gen(function* () {
        const from = now()
        yield* Effect.ignore(Effect.sandbox(command("PING")))
        const at = now()
        if (at - from > 12) record({ _tag: "Stalled", at, worker: theServer, from })
        yield* Effect.sleep(20)
      }).pipe(Effect.forever, Effect.forkScoped),
    { discard: true }
  )

/** Faults of one thing do not overlap: what one begins the other one would end. */
const locks = new WeakMap<object, Map<string, Effect.Semaphore>>()
const oneAtATime = (thing: object, part: string) => {
  const parts = locks.get(thing) ?? new Map<string, Effect.Semaphore>()
  locks.set(thing, parts)
  const semaphore = parts.get(part) ?? Effect.unsafeMakeSemaphore(1)
  parts.set(part, semaphore)
  return semaphore.withPermits(1)
}

/** What all faults of a run share. */
interface Stage {
  readonly hot: string
  readonly keysOn: (
    server: RedisServer.RedisProcess | undefined
  ) => Effect.Effect<ReadonlyArray<string>>
  /** For faults that go on until all are through. */
  readonly stay: (fault: Effect.Effect<void>) => Effect.Effect<void, never, Scope.Scope>
  /** What those use: others that would use it as well do not happen. */
  readonly occupied: Map<object, Set<string>>
  readonly record: (event: Event) => void
}

const perform = (
  crew: Crew,
  step: Step,
  plan: Plan,
  random: () => number,
  { hot, keysOn, occupied, record, stay }: Stage
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function* () {
    yield* Effect.sleep(step.at)
    const { forgets, on, run, uses } = faultNamed(step.fault)
    const part = uses ?? on
    const meant = yield* slotOf(crew, step.target, hot, plan)
    const spared = step.fault === "killed" && plan.sparesFirst && meant === 0
    const slot = spared ? 1 % crew.workers.length : meant
    const worker = crew.workers[slot]!
    const proxy = crew.proxies[slot]
    const fault = Effect.fnUntraced(function* (server: RedisServer.RedisProcess | undefined) {
      const target = on === "store" ? `redis ${server?.port}` : worker.name
      if (!worker.isAlive()) return
      const keys = on === "store" ? yield* keysOn(server) : []
      const at = now()
      const wallAt = Date.now()
      const recorded = Effect.sync(() =>
        record({
          _tag: "Fault",
          at,
          until: now(),
          fault: step.fault,
          target,
          // (what one node of a quorum forgets, the others know)
          forgets: forgets === true && crew.row.topology !== "quorum" ? keys : [],
          wallAt,
          wallUntil: Date.now()
        })
      )
      const link = linkOf(plan, slot)
      const scene = { crew, worker, proxy, server, record, random, keys, ttl: plan.ttl, link }
      // (a command of ours can fail while another fault has its way with the server)
      const whole = Effect.sandbox(run(scene, step.for)).pipe(
        Effect.ignore,
        Effect.ensuring(recorded)
      )
      yield* Number.isFinite(step.for) ? whole : stay(whole)
    })
    const alone = <R>(thing: object, fault: Effect.Effect<void, never, R>) =>
      oneAtATime(
        thing,
        part
      )(
        Effect.suspend(() => {
          const parts = occupied.get(thing) ?? new Set()
          occupied.set(thing, parts)
          if (parts.has(part)) return Effect.void
          if (!Number.isFinite(step.for)) parts.add(part)
          return fault
        })
      )
    if (on !== "store") {
      const thing = on === "network" ? proxy! : worker
      return yield* alone(thing, fault(crew.servers[0]))
    }
    // by the time that it is this one's turn, another can have the key
    let done = false
    while (!done) {
      const server = yield* serverOf(crew, hot)
      const unlessMoved = Effect.flatMap(serverOf(crew, hot), (now) => {
        done = now === server
        return done ? fault(server) : Effect.void
      })
      done = true
      yield* alone(server, unlessMoved)
    }
  })

/** The one that is asked may be down: another fault has it. */
const serverOf = (crew: Crew, key: string): Effect.Effect<RedisServer.RedisProcess> =>
  crew.serverOf(key).pipe(Effect.sandbox, Effect.retry(Schedule.spaced(50)), Effect.orDie)

/** Who is meant; waits for a while for a holder that stays. */
const slotOf = (
  { register, workers }: Crew,
  target: Step["target"],
  hot: string,
  { patient, ttl }: Plan
): Effect.Effect<number> => {
  if (typeof target === "number") return Effect.succeed(target % workers.length)
  const staying = () => {
    return register.inside(hot).find(({ hold }) => patient || hold >= ttl * 0.9)
  }
  return register
    .until(() => staying() !== undefined)
    .pipe(
      Effect.timeoutOption(Duration.seconds(3)),
      Effect.map(() => {
        const name = (staying() ?? register.inside(hot)[0])?.worker
        const holder = Math.max(
          0,
          workers.findIndex((worker) => worker.name === name)
        )
        return target === "holder" ? holder : (holder + 1) % workers.length
      })
    )
}

/** Whatever faults came together: from here on the server answers, and takes writes. */
const sound = ({ row }: Crew, server: RedisServer.RedisProcess): Effect.Effect<void> =>
  RedisServer.eventually(
    Effect.gen(function* () {
      if (!server.isRunning) yield* server.restart
      yield* server.cont
      yield* server.command("CONFIG", "SET", "maxmemory", 0)
      yield* server.command("CLIENT", "UNPAUSE")
      if (!row.without.includes("readonly")) yield* server.command("REPLICAOF", "NO", "ONE")
      return (yield* server.command("PING")) === "PONG"
    }).pipe(
      Effect.sandbox,
      Effect.orElseSucceed(() => false)
    )
  )

// -----------------------------------------------------------------------------
// what the store has
// -----------------------------------------------------------------------------

/** A process was killed: which keys has it still got, and which does it get now? */
const watchDead = (
  crew: Crew,
  keys: ReadonlyArray<string>,
  worker: string,
  ttl: number,
  events: Array<Event>
): Effect.Effect<void> =>
  Effect.gen(function* () {
    const until = now() + 2 * ttl + 400
    const found = new Set<string>()
    let lastLook: number | undefined
    const look = Effect.gen(function* () {
      const began = now()
      for (const server of yield* crew.masters) {
        for (const key of yield* server.dump) {
          if (!keys.includes(key)) continue
          for (const token of yield* holdersOf(server, key)) {
            if (crew.dead.get(storeOf(token)) !== worker) continue
            const what = `${key} ${token}`
            const since = found.has(what) ? undefined : lastLook
            events.push({ _tag: "Found", at: now(), worker, key, token, since })
            found.add(what)
          }
        }
      }
      lastLook = began
    })
    do {
      yield* Effect.sleep(100)
      // (a server that is down has nothing to say)
      yield* Effect.ignore(Effect.sandbox(look))
    } while (now() < until)
  })

/** Of the process that made the token. */
const storeOf = (token: string): string => token.split(".")[0]!

/**
 * Keys that are there when everybody has come to an end: nothing but records, and what belongs to
 * the dead. In a calm run at once; after faults a lease that could not be given back ends by its ttl,
 * and a place in the queue by that of the queue.
 */
const placesLast = 10_000

/** Waits for it, and reports what stays. */
const leftoversOf = (crew: Crew, plan: Plan, events: Array<Event>): Effect.Effect<void> =>
  Effect.gen(function* () {
    for (const server of yield* crew.masters) {
      const patience = plan.steps.length === 0 ? 200 : placesLast + plan.ttl
      const clean = Effect.map(leftIn(crew, server), (left) => left.length === 0)
      const gone = yield* Effect.timeoutOption(RedisServer.eventually(clean), patience)
      if (gone._tag === "Some") continue
      for (const what of yield* leftIn(crew, server)) {
        events.push({ _tag: "Left", at: now(), where: `redis ${server.port}`, what })
      }
    }
  }).pipe(Effect.catchAllCause(() => Effect.void))

const leftIn = (
  crew: Crew,
  server: RedisServer.RedisProcess
): Effect.Effect<ReadonlyArray<string>> =>
  Effect.gen(function* () {
    const left: Array<string> = []
    for (const key of yield* server.dump) {
      if (/:lock-(record|tick|node)$/.test(key)) continue
      const tokens = yield* tokensIn(server, key)
      const living = tokens.filter((token) => !crew.dead.has(storeOf(token)))
      if (living.length > 0) left.push(`${key} with ${living.join(", ")}`)
      const left10s = Number(yield* server.command("PTTL", key))
      if (left10s === -1) left.push(`${key} without a ttl`)
    }
    return left
  })

// -----------------------------------------------------------------------------
// a failure
// -----------------------------------------------------------------------------

/** Keeps the history of a run that went wrong, and says how to have it again. */
export const report = (crew: Crew, result: Result): string => {
  const { history, plan, violations } = result
  const path = Path.join(
    prepared(),
    `${crew.row.name}, ${plan.name}, ${process.pid}-${runs}.jsonl`.replace(/[^\w.,-]+/g, "-")
  )
  Fs.writeFileSync(path, history.map((event) => JSON.stringify(event)).join("\n"))
  const again = plan.name.startsWith("seed")
    ? `npm run soak -- --only ${JSON.stringify(crew.row.name)} --seed ${plan.seed} --length ${plan.millis} --runs 1`
    : `npm run soak -- --only ${JSON.stringify(crew.row.name)} --script ${JSON.stringify(plan.name)}`
  return [
    `${crew.row.name}: ${violations.length} violations`,
    ...violations.slice(0, 12).map(({ check, what }) => `  ${check}: ${what}`),
    show(plan),
    `history: ${path}`,
    `again: ${again}`
  ].join("\n")
}
