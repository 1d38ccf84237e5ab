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
  /** How many may hold a key at once, for those who can let several in; one, if it is not said. */
  readonly limit?: number
  /**
   * Every so many turns of a process, one writes, and the others read: for those who can let readers in
   * together. For a lock each turn is one that writes.
   */
  readonly writeEvery?: number
  /** How many places of others there are in the queue in Redis, for those who have one. */
  readonly places?: number
}

/** What a contender tells while it works; the meter is the same for all. */
export interface Meter {
  /** The key to lock next, or undefined when the round is over. Waiting is counted from here. */
  readonly begin: (caller: number) => string | undefined
  /** Whether the turn that was begun writes; each turn of those who do not ask does. Ask once. */
  readonly writes: (caller: number) => boolean
  /** The first thing done under the lock. */
  readonly enter: (caller: number) => void
  /** The last thing done under the lock. */
  readonly leave: (caller: number) => void
  readonly failed: (caller: number, error: unknown) => void
  /** The work between `enter` and `leave`; undefined if there is none. */
  readonly work: (() => Promise<unknown>) | undefined
}

/** Locks that are held for a while; renewed, if the contender renews. */
export interface Holding {
  /** How many of them the contender itself knows to be lost. */
  readonly lost: () => number | Promise<number>
  readonly release: () => Promise<unknown>
  /** How many fibers a lease takes; undefined where there are no fibers. */
  readonly fibersPerLease?: () => number
}

/** A contender that is connected. */
export interface Session {
  /** What is to be there before the round begins. */
  readonly prepare?: (load: Load) => Promise<void>
  /** Ends when the meter has told every caller that the round is over. */
  readonly run: (load: Load, meter: Meter) => Promise<void>
  /** Takes a lock on each of the keys, and keeps it. */
  readonly hold?: (keys: ReadonlyArray<string>) => Promise<Holding>
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

export const sessionOf = (
  lock: PromiseLock,
  close: () => Promise<void>,
  hold?: (key: string) => Promise<HeldLock>
): Session => {
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
    ...(hold === undefined ? {} : { hold: holdEach(hold) }),
    close
  }
}

/** One of the locks that are held. */
export interface HeldLock {
  readonly isLost: () => boolean
  readonly release: () => PromiseLike<unknown>
}

/** How many of the locks that are to be held are asked for at a time. */
export const holdConcurrency = 64

const holdEach =
  (take: (key: string) => Promise<HeldLock>) =>
  async (keys: ReadonlyArray<string>): Promise<Holding> => {
    const held: Array<HeldLock> = []
    const each = async (doing: (index: number) => PromiseLike<unknown>) => {
      let next = 0
      const one = async () => {
        while (next < keys.length) await doing(next++)
      }
      await Promise.all(Array.from({ length: holdConcurrency }, one))
    }
    await each(async (index) => held.push(await take(keys[index]!)))
    return {
      lost: () => held.filter((lock) => lock.isLost()).length,
      release: () => each((index) => held[index]!.release())
    }
  }

/** For libraries that hold a lock around a function, and tell it of a loss by a signal. */
export const heldAround = (
  around: (work: (signal: { readonly aborted: boolean }) => Promise<void>) => Promise<unknown>
): Promise<HeldLock> =>
  new Promise((resolve, reject) => {
    const ended = around(
      (signal) =>
        new Promise((end) => {
          resolve({
            isLost: () => signal.aborted,
            release: () => {
              end()
              return ended
            }
          })
        })
    )
    ended.catch(reject)
  })

export const pause = (millis: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, millis))

/** Cuts the connection, whatever it does. */
export const disconnect = (client: { readonly disconnect: () => void }) => async () =>
  client.disconnect()
