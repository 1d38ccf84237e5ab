/** A process that makes load with one contender, and does what its parent says. */
import { readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { Redis } from "ioredis"
import { now } from "./Clock.js"
import { pause, type Load, type Session } from "./Contender.js"
import { load as loadContender } from "./contenders/index.js"
import * as Meter from "./Meter.js"
import { counterKey, type Request, type Response, type RunResult } from "./protocol.js"

let session: Session | undefined
let url = ""
let index = 0
let rejections = 0
let firstRejection: string | undefined

// A program would end here; a benchmark goes on, and tells.
process.on("unhandledRejection", (reason) => {
  rejections++
  firstRejection ??= `unhandled rejection: ${reason instanceof Error ? reason.message : String(reason)}`
})
process.on("disconnect", () => process.exit(0))

const handle = async (request: Request): Promise<Response> => {
  switch (request._tag) {
    case "Open": {
      const contender = await loadContender(request.contender)
      url = request.settings.url
      index = request.process
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
    case "Run":
      return { _tag: "Ran", ...(await run(session!, request)) }
    case "Close":
      await Promise.race([session!.close(), pause(2_000)])
      return { _tag: "Closed" }
  }
}

async function run(
  session: Session,
  request: Extract<Request, { _tag: "Run" }>
): Promise<RunResult> {
  const { from, keepTenures, load, patienceMillis, until } = request
  const body = await bodyOf(load)
  const meter = Meter.make({ load, process: index, from, until, keepTenures, work: body.work })
  rejections = 0
  firstRejection = undefined

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
