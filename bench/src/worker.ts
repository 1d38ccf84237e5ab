/** A process that makes load with one contender, and does what its parent says. */
import { readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { Redis } from "ioredis"
import { now } from "./Clock.js"
import { pause, type Holding, type Load, type Session } from "./Contender.js"
import { load as loadContender } from "./contenders/index.js"
import * as Meter from "./Meter.js"
import {
  counterKey,
  type HoldResult,
  type Request,
  type Response,
  type RunResult,
  type WatchResult
} from "./protocol.js"

let session: Session | undefined
let holding: Holding | undefined
let url = ""
let index = 0
let rejections = 0
let firstRejection: string | undefined

// A program would end here; a benchmark goes on, and tells.
process.on("unhandledRejection", (reason) => {
  rejections++
  firstRejection ??= `unhandled rejection: ${reason instanceof Error ? reason.message : String(reason)}`
})
const forgetRejections = () => {
  rejections = 0
  firstRejection = undefined
}
process.on("disconnect", () => process.exit(0))

const handle = async (request: Request): Promise<Response> => {
  switch (request._tag) {
    case "Open": {
      const contender = await loadContender(request.contender)
      url = request.settings.url
      index = request.process
      // opened again where the next row is in another place
      if (session !== undefined) await close(session)
      session = await contender.open(request.settings, index)
      const { leavesOut, setUp } = contender
      return {
        _tag: "Opened",
        setUp,
        leavesOut,
        package: contender.package,
        version: versionOf(contender.package)
      }
    }
    case "Prepare":
      await session!.prepare?.(request.load)
      return { _tag: "Prepared" }
    case "Hold":
      return { _tag: "Holding", ...(await hold(session!, request.leases)) }
    case "Watch":
      return { _tag: "Watched", ...(await watch(request.millis)) }
    case "Run":
      return { _tag: "Ran", ...(await run(session!, request)) }
    case "Close":
      await close(session!)
      return { _tag: "Closed" }
  }
}

const close = (session: Session) => Promise.race([session.close(), pause(2_000)])

async function run(
  session: Session,
  request: Extract<Request, { _tag: "Run" }>
): Promise<RunResult> {
  const { from, keepTenures, load, patienceMillis, until } = request
  const body = await bodyOf(load)
  const meter = Meter.make({ load, process: index, from, until, keepTenures, work: body.work })
  forgetRejections()

  await pause(Math.max(0, from - now() - 2))
  while (now() < from);
  let connections = 0
  const count = () => {
    const sockets = process.getActiveResourcesInfo().filter((it) => it === "TCPSocketWrap").length
    connections = Math.max(connections, sockets - body.connections)
  }
  const sampling = setInterval(count, 100)
  const cpu = process.cpuUsage()
  let late: NodeJS.Timeout | undefined
  await Promise.race([
    session.run(load, meter),
    new Promise((resolve) => (late = setTimeout(resolve, until - now() + patienceMillis)))
  ])
  const { system, user } = process.cpuUsage(cpu)
  count()
  clearInterval(sampling)
  clearTimeout(late)
  body.close()
  const readings = meter.read()
  return {
    ...readings,
    failures: readings.failures + rejections,
    firstFailure: readings.firstFailure ?? firstRejection,
    cpuMicros: system + user,
    connections
  }
}

async function hold(session: Session, leases: number): Promise<HoldResult> {
  if (session.hold === undefined) throw new Error("holds nothing")
  const keys = (name: string, count: number) =>
    Array.from({ length: count }, (_, each) => `${name}:${index}:${each}`)
  // what is made once, and code that is compiled, is no part of a lease
  const warm = await session.hold(keys("warm", 100))
  await warm.release()
  const before = await heap()
  const began = now()
  holding = await session.hold(keys("held", leases))
  const millis = now() - began
  const bytesPerLease = ((await heap()) - before) / leases
  return { millis, bytesPerLease, fibersPerLease: holding.fibersPerLease?.() }
}

/** What is alive. */
async function heap(): Promise<number> {
  for (let time = 0; time < 3; time++) {
    gc!()
    await pause(20)
  }
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

async function watch(millis: number): Promise<WatchResult> {
  forgetRejections()
  const cpu = process.cpuUsage()
  const began = now()
  await pause(millis)
  const { system, user } = process.cpuUsage(cpu)
  return {
    cpuMicros: system + user,
    millis: now() - began,
    lost: await holding!.lost(),
    failures: rejections,
    firstFailure: firstRejection
  }
}

async function bodyOf({ body }: Load) {
  const nothing = { connections: 0, close: () => {} }
  if (body === "empty") return { ...nothing, work: undefined }
  if (body === "suspends") return { ...nothing, work: () => Promise.resolve() }
  if (body !== "counter") return { ...nothing, work: () => pause(body.holdMillis) }
  const client = new Redis(url)
  await client.ping()
  return {
    connections: 1,
    close: () => client.disconnect(),
    work: async () => {
      const value = Number(await client.get(counterKey))
      await client.set(counterKey, value + 1)
    }
  }
}

/** Of the copy that is loaded. */
function versionOf(name: string): string {
  const entry = fileURLToPath(import.meta.resolve(name))
  for (let path = dirname(entry); path !== dirname(path); path = dirname(path)) {
    try {
      const manifest = JSON.parse(readFileSync(join(path, "package.json"), "utf8"))
      if (manifest.name === name) return manifest.version
    } catch {
      // no manifest here
    }
  }
  return "unknown"
}

process.on("message", (request: Request) => {
  handle(request).then(
    (response) => process.send!(response),
    (error: unknown) =>
      process.send!({
        _tag: "Failed",
        message: error instanceof Error ? error.message : String(error)
      } satisfies Response)
  )
})
