/** `ui`: a page to look at in a browser. */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as LockInspectorHttp from "effect-redis-lock/LockInspectorHttp"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import type { Connection } from "./connection.js"
import { CliFailure, ExitCode, usage } from "./exitCode.js"
import { withStore } from "./look.js"
import { shown } from "./output.js"

export interface Ui extends Connection {
  readonly keys: string
  readonly port: number
  readonly every: Duration.Duration
  readonly allowRelease: boolean
  readonly leaders: ReadonlyArray<string>
}

/** Nobody but this machine: there is no authentication. */
const host = "127.0.0.1"

/** (What is freed by force is said; a page that was closed is no news.) */
const logger = Logger.make(({ annotations, message }) => {
  const more = [...annotations].map(([name, value]) => `${name} ${shown(String(value))}`)
  process.stderr.write(`effect-redis-lock: ${[message].flat().join(" ")} (${more.join(", ")})\n`)
})

export const ui = (options: Ui): Effect.Effect<number, CliFailure> => {
  const { allowRelease, every, keys, leaders, port } = options
  if (port < 0 || port > 65_535) return usage(`--port ${port}: it must be from 0 to 65535.`)
  return withStore(
    options,
    Effect.gen(function* () {
      const server = createServer()
      const http = yield* NodeHttpServer.make(() => server, { host, port }).pipe(
        Effect.catchTag("ServeError", ({ cause }) => notListening(port, cause))
      )
      // (a page that is open listens for ever)
      yield* Effect.addFinalizer(() => Effect.sync(() => server.closeAllConnections()))
      const { port: bound } = server.address() as AddressInfo
      const app = yield* LockInspectorHttp.make({
        prefix: keys,
        every,
        allowRelease,
        leaders,
        idleAfter: Duration.infinity,
        // a page of another site, under a name of its own that leads to this machine, is told nothing
        hosts: [`${host}:${bound}`, `localhost:${bound}`]
      })
      yield* http.serve(app)
      yield* Console.log(`http://${host}:${bound}/`)
      return yield* Effect.never
    }).pipe(
      Effect.scoped,
      Effect.provide(NodeHttpServer.layerContext),
      Effect.provide(Logger.replace(Logger.defaultLogger, logger))
    )
  )
}

const notListening = (port: number, cause: unknown): CliFailure =>
  new CliFailure({
    exitCode: ExitCode.unavailable,
    message:
      cause instanceof Error && "code" in cause && cause.code === "EADDRINUSE"
        ? `Port ${port} of ${host} is taken by another program. Give another one with --port; 0 is any that is free.`
        : `It cannot listen on port ${port} of ${host}: ${shown(String(cause))}`
  })
