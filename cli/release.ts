/** `release`: frees a key whose holder does not. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { Lock, LockInspector } from "effect-redis-lock"
import * as Readline from "node:readline/promises"
import type { Connection } from "./connection.js"
import { type CliFailure, ExitCode, usage } from "./exitCode.js"
import { withStore } from "./look.js"
import { age, shown } from "./output.js"
import * as Duration from "effect/Duration"

export interface Release extends Connection {
  readonly key: string
  readonly fencingToken: number
  readonly yes: boolean
}

export const release = (options: Release): Effect.Effect<number, CliFailure> =>
  withStore(
    options,
    Effect.gen(function* () {
      const { fencingToken, key, yes } = options
      const { held } = yield* LockInspector.inspect(key)
      const holder = held.find((one) => one.fencingToken === fencingToken)
      const notThere = `Nobody holds ${shown(key)} with the fencing token ${fencingToken}. Nothing was changed.`
      if (holder === undefined) {
        yield* Console.error(notThere)
        return ExitCode.found
      }
      if (!yes) {
        if (!process.stdin.isTTY) {
          return yield* usage(
            "release asks before it frees a key: give --yes where nobody can answer."
          )
        }
        const since =
          holder.heldFor === undefined ? "" : ` for ${age(Duration.toMillis(holder.heldFor))}`
        const answer = yield* ask(
          `${shown(holder.owner ?? "(no name)")} has held ${shown(key)}${since}. Its work goes on until it notices; another one may run at the same time. Free it? [y/N] `
        )
        if (!/^y(es)?$/i.test(answer.trim())) {
          yield* Console.error("Nothing was changed.")
          return ExitCode.found
        }
      }
      const done = yield* Lock.forceRelease(key, fencingToken)
      yield* done ? Console.log(`${shown(key)} is free.`) : Console.error(notThere)
      return done ? 0 : ExitCode.found
    })
  )

/** The end of the input is a no. */
const ask = (question: string): Effect.Effect<string> =>
  Effect.promise(async (signal) => {
    const terminal = Readline.createInterface({ input: process.stdin, output: process.stderr })
    try {
      return await Promise.race([
        terminal.question(question, { signal }),
        new Promise<string>((resolve) => terminal.once("close", () => resolve("")))
      ])
    } finally {
      terminal.close()
    }
  })
