/** The way to the server: direct, or through a process that makes it longer. */
import { fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as RawConnection from "../../test/support/RawConnection.js"
import { now } from "./Clock.js"
import { quantiles } from "./Stats.js"

export interface Network {
  readonly url: string
  /** The median time of a PING, on a connection of no client. */
  readonly pingMillis: number
}

const program = fileURLToPath(new URL("delay.js", import.meta.url))

export const make = (
  serverPort: number,
  oneWayMillis: number
): Effect.Effect<Network, never, Scope.Scope> =>
  Effect.gen(function* () {
    const port = oneWayMillis === 0 ? serverPort : yield* delayed(serverPort, oneWayMillis)
    return { url: `redis://127.0.0.1:${port}`, pingMillis: yield* ping(port) }
  })

const delayed = (
  serverPort: number,
  oneWayMillis: number
): Effect.Effect<number, never, Scope.Scope> =>
  Effect.flatMap(
    Effect.acquireRelease(
      Effect.sync(() => fork(program, [String(serverPort), String(oneWayMillis)])),
      (child) => Effect.sync(() => child.kill())
    ),
    (child) =>
      Effect.async<number>((resume) => {
        child.once("message", (port) => resume(Effect.succeed(port as number)))
        child.once("exit", (code) => resume(Effect.dieMessage(`delay.js ended with ${code}`)))
      })
  )

const ping = (port: number): Effect.Effect<number> =>
  Effect.gen(function* () {
    const connection = yield* RawConnection.make({ host: "127.0.0.1", port })
    const times: Array<number> = []
    for (let time = 0; time < 30; time++) {
      const began = now()
      yield* connection.command("PING")
      times.push(now() - began)
    }
    return quantiles(Float64Array.from(times)).p50
  }).pipe(Effect.scoped, Effect.orDie)
