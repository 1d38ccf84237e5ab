/** What Node.js does not say of processes, groups and the terminal. */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"

/** A descriptor of the terminal that controls this process; `undefined` where there is none. */
export const openTerminal = (): number | undefined => {
  try {
    return Fs.openSync("/dev/tty", "r+")
  } catch {
    return undefined
  }
}

/** Whether this process's group is the one that the terminal listens to: it was not started with `&`. */
export const isInForeground = (): boolean => {
  const [group, foreground] = groups()
  return group !== undefined && group === foreground
}

const groups = (): ReadonlyArray<string> => {
  if (process.platform === "linux") {
    const [, , group, , , foreground] = statOf("self")
    return [group!, foreground!]
  }
  const { stdout } = ChildProcess.spawnSync("ps", ["-o", "pgid=,tpgid=", "-p", `${process.pid}`], {
    encoding: "utf8"
  })
  return stdout.trim().split(/\s+/)
}

/** Its state, parent, group, session, terminal and the terminal's group: what comes behind its name. */
const statOf = (pid: string): ReadonlyArray<string> => {
  const stat = Fs.readFileSync(`/proc/${pid}/stat`, "utf8")
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")
}

/**
 * Whether everything in the group has ended, and only waits for somebody to notice: in a container whose
 * first process does not care for orphans, for ever. (Elsewhere than on Linux: not known.)
 */
export const hasOnlyDead = (group: number): boolean =>
  process.platform === "linux" &&
  Fs.readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .every((pid) => {
      try {
        const [state, , itsGroup] = statOf(pid)
        return itsGroup !== `${group}` || state === "Z"
      } catch {
        return true
      }
    })

/**
 * Whether others of this process's group may use the terminal while it waits: a pipeline does. Those that
 * have started it (a script, npx) wait for it.
 */
export const isInPipeline = (): boolean => {
  const all = new Map(listed().map((one) => [one.pid, one]))
  const own = all.get(process.pid)
  if (own === undefined) return false
  const ancestors = new Set<number>()
  for (let one: Listed | undefined = own; one !== undefined && !ancestors.has(one.pid);) {
    ancestors.add(one.pid)
    one = all.get(one.parent)
  }
  return [...all.values()].some(
    ({ group, parent, pid, state }) =>
      group === own.group && state !== "Z" && parent !== process.pid && !ancestors.has(pid)
  )
}

interface Listed {
  readonly pid: number
  readonly parent: number
  readonly group: number
  readonly state: string
}

const listed = (): ReadonlyArray<Listed> => {
  if (process.platform === "linux") {
    return Fs.readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .flatMap((pid) => {
        try {
          const [state, parent, group] = statOf(pid)
          return [{ pid: Number(pid), parent: Number(parent), group: Number(group), state: state! }]
        } catch {
          return []
        }
      })
  }
  const { stdout } = ChildProcess.spawnSync("ps", ["-A", "-o", "pid=,ppid=,pgid=,stat="], {
    encoding: "utf8"
  })
  return stdout
    .trim()
    .split("\n")
    .map((line) => {
      const [pid, parent, group, state] = line.trim().split(/\s+/)
      return { pid: Number(pid), parent: Number(parent), group: Number(group), state: state![0]! }
    })
}

/** One letter: T is stopped, Z has ended; `undefined` if there is no such process. */
export const stateOf = (pid: number): string | undefined => {
  if (process.platform === "linux") {
    try {
      return statOf(`${pid}`)[0]
    } catch {
      return undefined
    }
  }
  const { stdout } = ChildProcess.spawnSync("ps", ["-o", "stat=", "-p", `${pid}`], {
    encoding: "utf8"
  })
  return stdout.trim()[0]
}
