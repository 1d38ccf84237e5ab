/** `doctor`: what is wrong with a server for locks, why that matters, and what to do. */
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Lock } from "effect-redis-lock"
import { Cluster, Redis, ReplyError } from "ioredis"
import { randomBytes } from "node:crypto"
import { type Connection, storeOf, type Target, targetOf } from "./connection.js"
import { CliFailure, ExitCode } from "./exitCode.js"
import {
  type Finding,
  type Level,
  messageOf,
  note,
  ok,
  type Patient,
  wrong
} from "./doctor/finding.js"
import { otherKeys, routing } from "./doctor/keys.js"
import { permissions } from "./doctor/permissions.js"
import { ofServer } from "./doctor/server.js"
import { age, bold, green, printJson, red, shown, yellow } from "./output.js"

export const doctor = (
  options: Connection & { readonly json: boolean }
): Effect.Effect<number, CliFailure> =>
  Effect.gen(function* () {
    const target = yield* targetOf(options)
    // (the library says what is wrong with a URL without its password; ioredis tells all of it)
    yield* Effect.scoped(Layer.build(storeOf(options)))
    const findings = yield* Effect.acquireUseRelease(
      connect(target, options.prefix),
      (patient) =>
        Effect.flatMap(
          Effect.promise(() => examine(patient)),
          (findings) => Effect.map(cycles(options), (cycle) => [...findings, cycle])
        ),
      ({ client }) => Effect.sync(() => client.disconnect())
    )
    yield* Effect.forEach(findings, (finding) =>
      options.json ? printJson(finding) : Console.log(linesOf(finding))
    )
    return findings.some(({ level }) => level === "wrong") ? ExitCode.found : 0
  })

const examine = async (patient: Patient): Promise<ReadonlyArray<Finding>> => {
  const servers = await Promise.all(
    patient.masters.map(async (server) => {
      const findings = await ofServer(server, patient.isCluster)
      if (patient.masters.length === 1) return findings
      const { host, port } = server.options
      return findings.map((finding) => ({ ...finding, found: `${host}:${port}: ${finding.found}` }))
    })
  )
  return [
    ...servers.flat(),
    ...(await permissions(patient)),
    await routing(patient),
    await otherKeys(patient)
  ]
}

const count = 20

/** A lock that is taken and given back, some times. */
const cycles = (connection: Connection): Effect.Effect<Finding, CliFailure> => {
  const key = `doctor:${randomBytes(6).toString("hex")}`
  const one = Effect.timed(Lock.withLock(Effect.void, key, { name: "cli" }))
  return Effect.replicateEffect(one, count).pipe(
    Effect.map((times): Finding => {
      const millis = times.map(([took]) => Duration.toMillis(took)).sort((a, b) => a - b)
      const median = millis[Math.floor(count / 2)]!
      const found = `median ${age(median)}, slowest ${age(millis.at(-1)!)}, of ${count}`
      return median < 100
        ? ok("latency", found)
        : note(
            "latency",
            found,
            "Each wait for a lock costs that much; a ttl of less than ten times that is lost easily.",
            "Run the server nearer to its clients, or give locks a longer ttl."
          )
    }),
    Effect.catchAll((error) =>
      Effect.succeed(
        wrong(
          "latency",
          shown(messageOf(error)),
          "No lock can be taken.",
          "See what is said above."
        )
      )
    ),
    Effect.provide(storeOf(connection))
  )
}

// -----------------------------------------------------------------------------
// the connection
// -----------------------------------------------------------------------------

const patience = 5_000

const connect = (target: Target, prefix: string): Effect.Effect<Patient, CliFailure> =>
  Effect.tryPromise({
    try: async () => {
      const client = clientOf(target)
      let last: unknown
      client.on("error", (error) => {
        last = error
      })
      try {
        await client.connect()
        const masters = client instanceof Cluster ? client.nodes("master") : [client]
        await Promise.all(masters.map(answers))
        return { client, masters, isCluster: client instanceof Cluster, prefix }
      } catch (error) {
        client.disconnect()
        throw last ?? error
      }
    },
    catch: (error) => {
      const advice = isOfLogin(messageOf(error)) ? " Check the user name and the password." : ""
      return new CliFailure({
        exitCode: ExitCode.unavailable,
        message: `Redis cannot be reached: ${shown(messageOf(error))}${advice}`
      })
    }
  })

const isOfLogin = (message: string): boolean => /^(NOAUTH|WRONGPASS)/.test(message)

/** Whatever it answers, but that it does not know who asks. */
const answers = async (server: Redis): Promise<void> => {
  try {
    await server.call("INFO")
  } catch (error) {
    if (error instanceof ReplyError && !isOfLogin(messageOf(error))) return
    throw messageOf(error) === "Command timed out"
      ? new Error(`it did not answer within ${patience} ms.`)
      : error
  }
}

const clientOf = ({ name, nodes, redis, sentinels, url }: Target): Redis | Cluster => {
  const options = {
    ...redis,
    lazyConnect: true,
    connectTimeout: patience,
    commandTimeout: patience,
    maxRetriesPerRequest: 0,
    // (INFO may be denied, and something between may know only what is old)
    enableReadyCheck: false,
    protocol: 2 as const,
    retryStrategy: () => null
  }
  if (nodes.length > 0) {
    return new Cluster([...nodes], {
      lazyConnect: true,
      redisOptions: options,
      clusterRetryStrategy: () => null
    })
  }
  return sentinels.length > 0
    ? new Redis({ ...options, sentinels: [...sentinels], name, sentinelRetryStrategy: () => null })
    : new Redis(url!, options)
}

// -----------------------------------------------------------------------------
// in words
// -----------------------------------------------------------------------------

const words: Record<Level, string> = {
  ok: green("ok     "),
  note: yellow("note   "),
  wrong: red("WRONG  "),
  unknown: yellow("unknown")
}

const linesOf = ({ advice, check, found, level, why }: Finding): string =>
  [
    `${words[level]}  ${bold(check.padEnd(11))}  ${shown(found)}`,
    ...[why, advice].flatMap((text) => (text === undefined ? [] : [`${" ".repeat(22)}${text}`]))
  ].join("\n")
