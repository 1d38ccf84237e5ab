/**
 * What becomes of the signals that this process gets: until somebody else takes them, they interrupt the
 * command, which gives back what it has and leaves the queue.
 */

const handled = [
  "SIGINT",
  "SIGTERM",
  "SIGHUP",
  "SIGQUIT",
  "SIGTSTP",
  "SIGCONT",
  "SIGUSR1",
  "SIGUSR2"
] as const

export type Handled = (typeof handled)[number]

/** Takes all signals until it is called back to stop. */
export const take = (listener: (signal: Handled) => void): (() => void) => {
  for (const signal of handled) process.on(signal, listener)
  return () => {
    for (const signal of handled) process.off(signal, listener)
  }
}

const ends = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const

/** Takes those that end a process, as long as nobody takes all. */
export const whenTold = (listener: (signal: Handled) => void): void => {
  for (const signal of ends) {
    process.on(signal, () => {
      if (process.listenerCount(signal) === 1) listener(signal)
    })
  }
}

/** Ends this process, or (0) its group with the script that has started it, as the terminal's ^C does. */
export const interrupt = (target: number): void => {
  process.removeAllListeners("SIGINT")
  process.kill(target, "SIGINT")
}
