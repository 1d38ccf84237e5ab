/** What is measured: a way of taking a lock, as a program would use it. */

/** What every contender is given, so that all work under the same conditions. */
export interface Settings {
  readonly url: string
  readonly ttlMillis: number
  /** How long those who poll sleep between two tries: evenly spread over this range. */
  readonly pollMillis: readonly [least: number, most: number]
}

/** The work of one process in one round. */
export interface Load {
  /** Each takes a lock, does its work, gives the lock back, and begins again. */
  readonly callers: number
  /** A key for each caller, or this many for all of them, the n-th 1/n as popular as the first. */
  readonly keys: "own" | { readonly shared: number }
  /**
   * What is done under the lock. `empty`: nothing. `suspends`: waits for a promise that is resolved
   * already. `hold`: a timer of this many milliseconds. `counter`: reads a counter in Redis, and
   * writes it back plus one, which comes out right only under a lock.
   */
  readonly body: "empty" | "suspends" | "counter" | { readonly holdMillis: number }
  /** A function around the work, or an acquire and a release (in Effect: by a scope). */
  readonly shape: "withLock" | "scoped"
}

/** What a contender tells while it works; the meter is the same for all. */
export interface Meter {
  /** The key to lock next, or undefined when the round is over. Waiting is counted from here. */
  readonly begin: (caller: number) => string | undefined
  /** The first thing done under the lock. */
  readonly enter: (caller: number) => void
  /** The last thing done under the lock. */
  readonly leave: (caller: number) => void
  readonly failed: (caller: number, error: unknown) => void
  /** The work between `enter` and `leave`; undefined if there is none. */
  readonly work: (() => Promise<unknown>) | undefined
}

/** A contender that is connected. */
export interface Session {
  /** Ends when the meter has told every caller that the round is over. */
  readonly run: (load: Load, meter: Meter) => Promise<void>
  readonly close: () => Promise<void>
}

export interface Contender {
  readonly id: string
  /** The npm package of which the version is reported. */
  readonly package: string
  /** In a few words, how it was set up and how it waits. */
  readonly setUp: string
  /** Of what effect-redis-lock does, what this one does not do. */
  readonly leavesOut: string
  /** The index tells processes of one row apart. */
  readonly open: (settings: Settings, index: number) => Promise<Session>
}

/** A lock library that is made of promises. */
export interface PromiseLock {
  readonly withLock: (key: string, work: () => Promise<void>) => Promise<unknown>
  /** Gives what releases it. */
  readonly acquire: (key: string) => Promise<() => PromiseLike<unknown>>
}

export const sessionOf = (lock: PromiseLock, close: () => Promise<void>): Session => {
  const cycles = async (caller: number, { shape }: Load, meter: Meter): Promise<void> => {
    const { work } = meter
    const critical = async () => {
      meter.enter(caller)
      if (work !== undefined) await work()
      meter.leave(caller)
    }
    for (let key = meter.begin(caller); key !== undefined; key = meter.begin(caller)) {
      if (shape === "withLock") {
        await lock.withLock(key, critical)
      } else {
        const release = await lock.acquire(key)
        try {
          await critical()
        } finally {
          await release()
        }
      }
    }
  }
  const caller = async (index: number, load: Load, meter: Meter): Promise<void> => {
    for (;;) {
      try {
        return await cycles(index, load, meter)
      } catch (error) {
        meter.failed(index, error)
        await pause(10)
      }
    }
  }
  return {
    run: async (load, meter) => {
      await Promise.all(
        Array.from({ length: load.callers }, (_, index) => caller(index, load, meter))
      )
    },
    close
  }
}

export const pause = (millis: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, millis))

/** Cuts the connection, whatever it does. */
export const disconnect = (client: { readonly disconnect: () => void }) => async () =>
  client.disconnect()
