/**
 * A command in a process group of its own. Where there is a terminal, and this process has it, the group
 * gets it, as the job of a shell does; without one, or in a pipeline, it is in a session of its own.
 */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Readline from "node:readline"
import type { Readable, Writable } from "node:stream"
import { setTimeout as sleep } from "node:timers/promises"
import { ofSignal } from "./exitCode.js"
import * as Shell from "./shell.js"
import { hasOnlyDead, isInForeground, isInPipeline, openTerminal, stateOf } from "./processes.js"

export interface Options {
  readonly command: ReadonlyArray<string>
  readonly env: NodeJS.ProcessEnv
  /** What the group gets to end in, where this process is killed. */
  readonly graceMillis: number
  /** Whether the command may go on after it was stopped. */
  readonly mayGoOn: () => boolean
}

/** A group that waits to become its command. */
export interface Group {
  /** What is typed goes to it, and not to this process and those that have started it. */
  readonly inTerminal: boolean
  /** Starts the command. */
  readonly begin: () => void
  /** The command's exit code, once it has ended. Others of the group may still run. */
  readonly ended: Promise<number>
  /** Sends a signal to the whole group. */
  readonly signal: (signal: NodeJS.Signals) => void
  /**
   * Sends the signal to the whole group, and SIGKILL after the grace to what is left of it. Resolves when
   * nothing is left.
   */
  readonly end: (signal: NodeJS.Signals, graceMillis: number) => Promise<void>
  /** For how long the command may run, from now on, if this process says no more. */
  readonly allow: (millis: number) => void
  /** This process was told to stop (SIGTSTP), or to go on (SIGCONT). */
  readonly stop: () => void
  readonly goOn: () => void
  /**
   * Ends what is left of it, and its watchdog. Resolves when the terminal has been given back: a shell that
   * did so later would take it from whoever has it by then.
   */
  readonly close: () => Promise<void>
}

const shell = "/bin/sh"
const name = "effect-redis-lock"

/** Resolves with the signal, if one (of the terminal) has ended what was to become the group. */
export const start = async (options: Options): Promise<Group | NodeJS.Signals> => {
  const watchdog = ChildProcess.spawn(shell, ["-c", Shell.watchdog, name], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"]
  })
  const tell = writer(watchdog.stdin)
  try {
    const tty = isInForeground() && !isInPipeline() ? openTerminal() : undefined
    const inTerminal = tty === undefined ? undefined : await startInTerminal(options, tty)
    const started = inTerminal ?? (await startAlone(options))
    if (typeof started === "string") {
      tell("done")
      return started
    }
    tell(`${started.group} ${seconds(options.graceMillis)}`)
    return groupOf(started, options, tell)
  } catch (error) {
    tell("done")
    throw error
  }
}

interface Started {
  readonly group: number
  readonly process: ChildProcess.ChildProcess
  readonly lines: Readline.Interface
  readonly say: (line: string) => void
  readonly inTerminal: boolean
}

const startInTerminal = async (
  { command, env }: Options,
  tty: number
): Promise<Started | NodeJS.Signals | undefined> => {
  const args = ["-c", Shell.jobControl, name, Shell.starter, ...command]
  const child = ChildProcess.spawn(shell, args, {
    env,
    stdio: ["inherit", "inherit", tty, "pipe", "pipe", 2, "pipe"]
  })
  Fs.closeSync(tty)
  const script = (child.stdio as ReadonlyArray<unknown>)[6] as Writable
  script.on("error", () => {})
  script.end(Shell.terminal)
  const started = await firstLine(child)
  if (typeof started === "string") return started
  // a shell without job control has made no group
  if (isThere(started.group)) return { ...started, inTerminal: true }
  child.kill("SIGKILL")
  return undefined
}

const startAlone = async ({ command, env }: Options): Promise<Started | NodeJS.Signals> => {
  const child = ChildProcess.spawn(shell, ["-c", Shell.starter, name, ...command], {
    env,
    detached: true,
    // (outside of the terminal's session nothing would keep it from reading what is typed for others)
    stdio: [process.stdin.isTTY ? "ignore" : "inherit", "inherit", "inherit", "pipe", "pipe"]
  })
  const started = await firstLine(child)
  return typeof started === "string" ? started : { ...started, inTerminal: false }
}

const firstLine = (
  child: ChildProcess.ChildProcess
): Promise<Omit<Started, "inTerminal"> | NodeJS.Signals> =>
  new Promise((resolve, reject) => {
    const [, , , input, output] = child.stdio as [null, null, null, Writable, Readable]
    const lines = Readline.createInterface({ input: output })
    const say = writer(input)
    lines.once("line", (line) => resolve({ group: Number(line), process: child, lines, say }))
    child.once("error", reject)
    child.once("exit", (_, by) => {
      // (the starter may have been started: it ends where nobody can say "go")
      input.destroy()
      if (by === null) reject(new Error(`${shell} cannot start a command`))
      else resolve(by)
    })
  })

/** One whose reader may be gone. */
const writer = (stream: Writable): ((line: string) => void) => {
  stream.on("error", () => {})
  return (line) => void stream.write(`${line}\n`)
}

const seconds = (millis: number): string => (Math.max(0, millis) / 1_000).toFixed(2)

const isThere = (group: number): boolean => send(group, 0)

/** Answers whether there is such a group; it may be one of another user, which is not reached. */
const send = (group: number, signal: NodeJS.Signals | 0): boolean => {
  try {
    return process.kill(-group, signal)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH"
  }
}

const groupOf = (
  { group, inTerminal, lines, process: child, say }: Started,
  { mayGoOn }: Options,
  tell: (line: string) => void
): Group => {
  /**
   * What the shell of the terminal does: it waits for the command, or has said that it was stopped, and
   * asks what to do. It is left asking while the command runs in the background: a shell that waits there
   * can take the terminal from whoever has it.
   */
  let shellIs: "waiting" | "asking" | "exiting" = "waiting"
  let looking: NodeJS.Timeout | undefined
  let ending: Promise<void> | undefined
  let begun = false
  let isOver = false

  const signal = (signal: NodeJS.Signals) => {
    if (!isOver) send(group, signal)
  }
  const answer = (word: "fg" | "wait" | "exit") => {
    clearInterval(looking)
    shellIs = word === "exit" ? "exiting" : "waiting"
    say(word)
  }

  /** The whole group and this process stop, as the job of a shell that they are together. */
  const suspend = () => {
    signal("SIGSTOP")
    // (outside of the terminal's group the others have been told by it, or by nobody)
    stopBy(inTerminal ? 0 : process.pid)
    setImmediate(resume)
  }
  /** What was stopped goes on only while the lock is held; a loss ends it otherwise. */
  const resume = () => {
    if (ending !== undefined || isOver || !mayGoOn()) return
    if (inTerminal && shellIs === "asking" && isInForeground()) return answer("fg")
    signal("SIGCONT")
    if (shellIs === "asking") lookAtBackground()
  }
  const lookAtBackground = () => {
    clearInterval(looking)
    looking = setInterval(() => {
      const state = stateOf(group)
      if (state === "T") {
        clearInterval(looking)
        suspend()
      } else if (state === undefined || state === "Z") answer("wait")
    }, 100)
  }

  let isStopped = false
  lines.on("line", (line) => {
    const state = /^\[\d+\]\s*[+-]?\s*(\w+)/.exec(line)?.[1]?.toLowerCase()
    if (state === "stopped" || state === "suspended") isStopped = true
    if (!line.startsWith("status ")) return
    shellIs = "asking"
    if (!isStopped) answer("exit")
    else if (ending !== undefined) answer("wait")
    else suspend()
    isStopped = false
  })

  const ended = new Promise<number>((resolve) => {
    child.once("exit", (code, by) => {
      shellIs = "exiting"
      clearInterval(looking)
      resolve(by === null ? (code ?? 0) : ofSignal(by))
    })
  })

  const end = (signal: NodeJS.Signals, graceMillis: number): Promise<void> => {
    if (graceMillis > 0) send(group, signal)
    const kill = () => send(group, "SIGKILL")
    if (graceMillis <= 0) kill()
    // a stopped process is told by that, too; and the shell sees the end of it
    if (shellIs === "asking") answer("wait")
    else send(group, "SIGCONT")
    return new Promise((resolve) => {
      const killing = setTimeout(kill, Math.max(0, graceMillis))
      const endsAt = performance.now() + Math.max(0, graceMillis) + afterKill
      let looks = 0
      const watching = setInterval(() => {
        // (that reads of all processes of the host, and seldom says more)
        const isDead = !isThere(group) || (looks++ % 10 === 0 && hasOnlyDead(group))
        if (!isDead && performance.now() < endsAt) return
        clearInterval(watching)
        clearTimeout(killing)
        isOver = true
        resolve()
      }, 20)
    })
  }

  return {
    inTerminal,
    begin: () => {
      begun = true
      say("go")
    },
    ended,
    signal,
    end: (signal, graceMillis) => {
      // (its number may be another's by now)
      if (isOver) return Promise.resolve()
      const soon = end(signal, graceMillis)
      ending = ending === undefined ? soon : Promise.race([ending, soon])
      return ending
    },
    allow: (millis) => tell(seconds(millis)),
    stop: () => (inTerminal ? signal("SIGTSTP") : suspend()),
    goOn: resume,
    close: async () => {
      // (some shells tell the user of a job that was killed)
      if (begun) signal("SIGKILL")
      else say("no")
      tell("done")
      await Promise.race([ended, sleep(afterKill, undefined, { ref: false })])
    }
  }
}

/** Nothing outlives SIGKILL but what the kernel holds, or nobody waits for. */
const afterKill = 1_000

/** As the terminal's own SIGTSTP does it: nothing happens where nobody could let them go on. */
const stopBy = (target: number) => {
  const listeners = process.listeners("SIGTSTP")
  process.removeAllListeners("SIGTSTP")
  process.kill(target, "SIGTSTP")
  for (const listener of listeners) process.on("SIGTSTP", listener)
}
