/** Where the command line begins: its arguments, and what it ends with. */
import * as ValidationError from "@effect/cli/ValidationError"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as NodeTerminal from "@effect/platform-node/NodeTerminal"
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { main } from "./commands.js"
import { CliFailure, ExitCode, ofSignal } from "./exitCode.js"
import { console } from "./output.js"
import * as Signals from "./signals.js"

/** What comes after the first `--` is the command of `run`, and nobody's options. */
const split = (all: ReadonlyArray<string>): [ReadonlyArray<string>, ReadonlyArray<string>] => {
  const end = all[0] === "run" ? all.indexOf("--") : -1
  return end < 0 ? [all, []] : [all.slice(0, end), all.slice(end + 1)]
}

const [args, command] = split(process.argv.slice(2))

const Live = Layer.mergeAll(
  NodeFileSystem.layer,
  NodePath.layer,
  NodeTerminal.layer,
  Console.setConsole(console),
  Logger.remove(Logger.defaultLogger)
)

const program = main(args.length === 0 ? ["--help"] : args, command).pipe(
  Effect.zipLeft(
    Effect.sync(() => {
      if (args.length === 0) process.exitCode = ExitCode.usage
    })
  ),
  Effect.catchAll((error) => {
    process.exitCode = error instanceof CliFailure ? error.exitCode : ExitCode.usage
    if (error instanceof CliFailure) return Console.error(error.message)
    // (the message has been printed)
    return ValidationError.isValidationError(error) ? Effect.void : Effect.die(error)
  }),
  Effect.provide(Live)
)

// what ioredis says beside it
globalThis.console.warn = () => {}

const fiber = Effect.runFork(program)
let toldBy: Signals.Handled | undefined
Signals.whenTold((signal) => {
  if (toldBy !== undefined) process.exit(ofSignal(signal))
  toldBy = signal
  Effect.runFork(Fiber.interruptFork(fiber))
})

// whoever reads has seen enough
process.stdout.on("error", () => process.exit(ofSignal("SIGPIPE")))

fiber.addObserver((exit) => {
  // (a script that runs it goes on after ^C, if this ends with a code instead)
  if (toldBy === "SIGINT") Signals.interrupt(process.pid)
  if (toldBy !== undefined) process.exitCode = ofSignal(toldBy)
  else if (Exit.isFailure(exit)) {
    process.stderr.write(`effect-redis-lock: ${Cause.pretty(exit.cause)}\n`)
    process.exitCode = ExitCode.software
  }
  // (nothing keeps the process then; if something does all the same, it is not for long)
  setTimeout(() => process.exit(), 1_000).unref()
})
