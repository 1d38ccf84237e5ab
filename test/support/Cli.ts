/** The command line, built as it is published, in processes of its own: in pipes, or on a terminal. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { buildCli } from "../../scripts/build-cli.js"
import * as Changes from "./Changes.js"

export interface Options {
  /** REDIS_URL. */
  readonly url?: string | undefined
  readonly env?: Readonly<Record<string, string>> | undefined
}

export interface Process {
  readonly pid: number
  /** What it, and what it runs, has printed so far. On a terminal all is in `stdout`. */
  readonly stdout: string
  readonly stderr: string
  /** Ends as soon as that stands in its output. */
  readonly prints: (text: string | RegExp) => Effect.Effect<void>
  /** Types, or writes into the pipe. */
  readonly write: (text: string) => Effect.Effect<void>
  readonly endOfInput: Effect.Effect<void>
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Its exit code, or the signal that it died of. */
  readonly ended: Effect.Effect<number | NodeJS.Signals>
}

/** The built file, for as long as this process lives. */
const file: { path: string | undefined } = { path: undefined }

export const path = (): string => {
  if (file.path === undefined) {
    const dir = Fs.mkdtempSync(Path.join(Os.tmpdir(), "redis-lock-cli-"))
    process.once("exit", () => Fs.rmSync(dir, { recursive: true, force: true }))
    file.path = Path.join(dir, "cli.mjs")
    buildCli(file.path)
  }
  return file.path
}

/** In pipes, and without a terminal. */
export const start = (
  args: ReadonlyArray<string>,
  options?: Options
): Effect.Effect<Process, never, Scope.Scope> => spawn(process.execPath, [path(), ...args], options)

/** Started, and ended. */
export const run = (
  args: ReadonlyArray<string>,
  options?: Options
): Effect.Effect<{ readonly code: number | NodeJS.Signals } & Pick<Process, "stdout" | "stderr">> =>
  Effect.scoped(
    Effect.gen(function* () {
      const cli = yield* start(args, options)
      yield* cli.endOfInput
      const code = yield* cli.ended
      return { code, stdout: cli.stdout, stderr: cli.stderr }
    })
  )

/**
 * A shell command on a terminal of its own, which `script` (util-linux) makes. In it, `$CLI` is the command
 * line, so that a shell can have it as a job.
 */
export const onTerminal = (
  command: string,
  options?: Options
): Effect.Effect<Process, never, Scope.Scope> =>
  spawn("script", ["-qefc", command, "/dev/null"], {
    ...options,
    // (that shell runs the command, and not every one becomes it)
    env: { ...options?.env, CLI: `${process.execPath} ${path()}`, SHELL: "/bin/sh", TERM: "xterm" }
  })

const spawn = (
  command: string,
  args: ReadonlyArray<string>,
  { env, url }: Options = {}
): Effect.Effect<Process, never, Scope.Scope> =>
  Effect.gen(function* () {
    const changes = Changes.make()
    const printed = { stdout: "", stderr: "" }
    let end: number | NodeJS.Signals | undefined
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const child = ChildProcess.spawn(command, args, {
          env: { ...process.env, NO_COLOR: "", REDIS_URL: url ?? "", ...env },
          // (a session of its own: the terminal of whoever runs the tests is none of its business)
          detached: true,
          stdio: "pipe"
        })
        for (const name of ["stdout", "stderr"] as const) {
          child[name].on("data", (chunk: Buffer) => {
            printed[name] += chunk.toString()
            changes.announce()
          })
        }
        child.stdin.on("error", () => {})
        child.once("close", (code, signal) => {
          end = signal ?? code ?? 0
          changes.announce()
        })
        return child
      }),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    const output = () => printed.stdout + printed.stderr
    const stands = (text: string | RegExp) =>
      typeof text === "string" ? output().includes(text) : text.test(output())
    return {
      pid: child.pid!,
      get stdout() {
        return printed.stdout
      },
      get stderr() {
        return printed.stderr
      },
      prints: (text) =>
        changes
          .until(() => stands(text) || end !== undefined)
          .pipe(
            Effect.timeoutOption("20 seconds"),
            Effect.map(() => {
              if (stands(text)) return
              throw new Error(`no ${text}, and ${end ?? "no end"}: ${JSON.stringify(output())}`)
            })
          ),
      write: (text) => Effect.sync(() => void child.stdin.write(text)),
      endOfInput: Effect.sync(() => void child.stdin.end()),
      signal: (signal) => Effect.sync(() => void child.kill(signal)),
      ended: Effect.map(
        changes.until(() => end !== undefined),
        () => end!
      )
    }
  })

/** Whether a process runs: one that has ended, and that nobody has asked about, does not. */
export const isRunning = (pid: number): boolean => {
  try {
    const stat = Fs.readFileSync(`/proc/${pid}/stat`, "utf8")
    return !/^\) [ZX]/.test(stat.slice(stat.lastIndexOf(")")))
  } catch {
    return false
  }
}

/** The processes that it has started, and that have not ended. (Linux) */
export const childrenOf = (pid: number): ReadonlyArray<number> =>
  Fs.readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8")
    .split(" ")
    .filter(Boolean)
    .map(Number)

/** The first of the processes below it that runs the command line. (Linux) */
export const commandLineBelow = (pid: number): number | undefined => {
  for (const child of childrenOf(pid)) {
    const isOne = Fs.readFileSync(`/proc/${child}/cmdline`, "utf8").split("\0")[1] === path()
    const found = isOne ? child : commandLineBelow(child)
    if (found !== undefined) return found
  }
  return undefined
}
