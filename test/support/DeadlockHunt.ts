/**
 * Processes that take locks, and several locks at once, in random order, and die: is there always
 * progress, and is nothing left? A deadlock would last for ever, since what waits renews what it holds.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import { fileURLToPath } from "node:url"
import type { HuntNews } from "./huntWorker.js"
import { bundled } from "./bundled.js"
import * as RedisServer from "./RedisServer.js"

export interface Options {
  readonly millis: number
  readonly processes: number
  /** Of each process. */
  readonly fibers: number
  readonly keys: number
  /** So many keys at most are taken together. */
  readonly most: number
  readonly ttl: number
  /** Time between two deaths, if all are alive again by then. */
  readonly deathEvery: number
  /** It goes on until so many have died. */
  readonly leastDeaths?: number
  readonly onProgress?: (report: Report) => void
}

export interface Report {
  readonly seconds: number
  readonly sections: number
  readonly several: number
  readonly without: number
  readonly deaths: number
  /** The longest time in which nobody entered, and the longest that anybody waited. */
  readonly longestGapMillis: number
  readonly longestWaitMillis: number
  readonly violations: ReadonlyArray<string>
  /** What was left in Redis at the end, but for the records of fencing tokens. */
  readonly left: ReadonlyArray<string>
}

export const defaults: Omit<Options, "millis"> = {
  processes: 8,
  fibers: 3,
  keys: 8,
  most: 5,
  ttl: 1_000,
  deathEvery: 2_000
}

interface Hunter {
  readonly child: ChildProcess.ChildProcess
  latest: { sections: number; several: number; without: number }
  isReady: boolean
}

const file = fileURLToPath(new URL("./huntWorker.ts", import.meta.url))

/** So long without anybody entering is a deadlock: many times what a death costs. */
export const patienceOf = ({ ttl }: Pick<Options, "ttl">): number => 15 * ttl + 15_000

export const hunt = (options: Options): Effect.Effect<Report, never, Scope.Scope> =>
  Effect.gen(function* () {
    const server = yield* RedisServer.make()
    const hunters = new Set<Hunter>()
    const violations: Array<string> = []
    const counts = { sections: 0, several: 0, without: 0 }
    const begunAt = performance.now()
    let [deaths, gap, longestWait, enteredAt] = [0, 0, 0, begunAt]

    const spawn = () => {
      const child = ChildProcess.spawn(process.execPath, [bundled(file)], {
        env: {
          ...process.env,
          REDIS_URL: server.url,
          HUNT_FIBERS: String(options.fibers),
          HUNT_KEYS: String(options.keys),
          HUNT_MOST: String(options.most),
          HUNT_TTL: String(options.ttl)
        },
        stdio: ["ignore", "inherit", "inherit", "ipc"]
      })
      const hunter: Hunter = {
        child,
        latest: { sections: 0, several: 0, without: 0 },
        isReady: false
      }
      hunters.add(hunter)
      child.on("message", (message) => onNews(hunter, message as HuntNews))
      child.once("exit", (code, signal) => {
        hunters.delete(hunter)
        if (signal === null && code !== 0) violations.push(`a process ended with ${code}`)
      })
    }
    const onNews = (hunter: Hunter, news: HuntNews) => {
      if (news._tag === "Violation") violations.push(news.message)
      if (news._tag === "Ready") hunter.isReady = true
      if (news._tag !== "Progress") return
      const { latest } = hunter
      const now = performance.now()
      if (news.sections > latest.sections) {
        gap = Math.max(gap, now - enteredAt)
        enteredAt = now
      }
      counts.sections += news.sections - latest.sections
      counts.several += news.several - latest.several
      counts.without += news.without - latest.without
      longestWait = Math.max(longestWait, news.longestMillis)
      hunter.latest = news
    }
    const report = (left: ReadonlyArray<string> = []): Report => ({
      seconds: Math.round((performance.now() - begunAt) / 1_000),
      ...counts,
      deaths,
      longestGapMillis: Math.round(Math.max(gap, performance.now() - enteredAt)),
      longestWaitMillis: longestWait,
      violations,
      left
    })
    const isStuck = () => performance.now() - enteredAt > patienceOf(options)

    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        for (const { child } of hunters) child.kill("SIGKILL")
      })
    )
    for (let count = 0; count < options.processes; count++) spawn()
    yield* Effect.repeat(Effect.sleep(20), {
      until: () => [...hunters].every(({ isReady }) => isReady)
    })
    // (from here on: a process takes its time to start)
    enteredAt = performance.now()
    gap = 0
    let nextDeath = performance.now() + options.deathEvery
    const endAt = performance.now() + options.millis
    const { leastDeaths = 0 } = options
    while ((performance.now() < endAt || deaths < leastDeaths) && !isStuck()) {
      yield* Effect.sleep(100)
      if (performance.now() < nextDeath) continue
      nextDeath = performance.now() + options.deathEvery
      const alive = [...hunters].filter(({ isReady }) => isReady)
      const victim = alive[Math.floor(Math.random() * alive.length)]
      options.onProgress?.(report())
      // (a start can take longer than the time between two deaths: nobody would be left to get on)
      if (victim === undefined || alive.length < options.processes) continue
      victim.child.kill("SIGKILL")
      deaths++
      spawn()
    }
    if (isStuck()) violations.push(`nobody entered for ${patienceOf(options)} ms`)
    // (one that was killed just now is not told)
    for (const { child } of hunters) child.send("end", () => {})
    yield* Effect.repeat(Effect.sleep(50), { until: () => hunters.size === 0 || isStuck() })
    if (hunters.size > 0) violations.push(`${hunters.size} processes did not end`)
    const ended = report()
    // the dead hold theirs for a ttl, and stand in queues until somebody asks, or for 10 s
    const left = Effect.map(server.dump, (all) =>
      all.filter((key) => !key.startsWith("judge:") && !key.endsWith(":lock-record"))
    )
    const until = performance.now() + options.ttl + 15_000
    yield* Effect.repeat(Effect.zipRight(Effect.sleep(200), left), {
      until: (keys) => keys.length === 0 || performance.now() > until
    })
    return { ...ended, violations, left: yield* left }
  })
