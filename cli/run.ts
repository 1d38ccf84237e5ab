/** `run`: a command under a lock. */
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import {
  type Lease,
  Lock,
  type LockError,
  type LockStore,
  MultiLock,
  ReadWriteLock,
  Semaphore
} from "effect-redis-lock"
import * as ChildProcess from "node:child_process"
import { once } from "node:events"
import { type Connection, storeOf, unavailable } from "./connection.js"
import { CliFailure, ExitCode, isImpossible, ofSignal, usage } from "./exitCode.js"
import * as Group from "./group.js"
import { shown } from "./output.js"
import * as Signals from "./signals.js"

export interface Run extends Connection {
  readonly key: string
  readonly command: ReadonlyArray<string>
  readonly wait: Option.Option<Duration.Duration>
  readonly noWait: boolean
  readonly ttl: Duration.Duration
  readonly maxHold: Option.Option<Duration.Duration>
  readonly holdAtLeast: Option.Option<Duration.Duration>
  readonly permits: Option.Option<{ readonly permits: number; readonly limit: number }>
  readonly shared: boolean
  readonly exclusive: boolean
  readonly keys: ReadonlyArray<string>
  readonly owner: Option.Option<string>
  readonly grace: Duration.Duration
  readonly onLost: Option.Option<string>
}

interface Held {
  /** What all kinds of lease have. */
  readonly lease: Pick<Lease.Lease, "awaitLost" | "isHeld" | "release" | "remaining">
  readonly fencingTokens: ReadonlyArray<readonly [key: string, fencingToken: number]>
}

/** Succeeds with the exit code. */
export const run = (options: Run): Effect.Effect<number, CliFailure> =>
  Effect.scoped(
    Effect.gen(function* () {
      const held = yield* acquire(options)
      yield* untilFullyProven(held, options)
      return yield* underLease(held, options)
    })
  ).pipe(
    Effect.provide(storeOf(options)),
    Effect.map(({ inTerminal, status }) => {
      // (^C went to the command alone; a script ends by it as if they had been together)
      if (inTerminal && status === ofSignal("SIGINT")) Signals.interrupt(0)
      return status
    })
  )

// -----------------------------------------------------------------------------
// the lease
// -----------------------------------------------------------------------------

/**
 * The lease is given up so long before the end of its proof that the command's grace is over some time
 * before that, where the ttl has room for it and for a renewal.
 */
const timesOf = ({ grace, ttl }: Run) => {
  const ttlMillis = Duration.toMillis(ttl)
  const renewEvery = ttlMillis / 3
  const room = ttlMillis * 0.99 - 2 - renewEvery
  return {
    ttl,
    renewEvery,
    margin: Math.min(Duration.toMillis(grace) + ttlMillis / 50, room * 0.75)
  }
}

/** (A timer of Node.js that is longer than 24 days ends at once.) */
const longestGrace = Duration.days(1)

const acquire = (
  options: Run
): Effect.Effect<Held, CliFailure, LockStore.LockStore | Scope.Scope> => {
  const { exclusive, holdAtLeast, key, keys, maxHold, noWait, owner, permits, shared, wait } =
    options
  const given = [shared, exclusive, Option.isSome(permits), keys.length > 0]
  if (given.filter(Boolean).length > 1) {
    return usage("Only one of --shared, --exclusive, --permits and --key can be given.")
  }
  if (noWait && Option.isSome(wait)) return usage("--wait and --no-wait exclude each other.")
  if (Duration.greaterThan(options.grace, longestGrace)) {
    return usage("--grace: it can be a day at most.")
  }
  const all = {
    ...timesOf(options),
    waitAtMost: noWait ? 0 : Option.getOrUndefined(wait),
    warnAfter: Duration.infinity,
    maxHold: Option.getOrUndefined(maxHold),
    holdAtLeast: Option.getOrUndefined(holdAtLeast),
    owner: Option.getOrUndefined(owner),
    name: "cli"
  }
  const several = Effect.map(
    Effect.suspend(() => MultiLock.acquire([key, ...keys], all)),
    (lease): Held => ({
      lease,
      fencingTokens: lease.leases.map(({ fencingToken, key }) => [key, fencingToken])
    })
  )
  const single = Option.isSome(permits)
    ? Semaphore.acquire(key, { ...all, ...permits.value })
    : shared
      ? ReadWriteLock.readLock(key, all)
      : exclusive
        ? ReadWriteLock.writeLock(key, all)
        : Lock.acquire(key, all)
  return (keys.length > 0 ? several : Effect.map(single, heldOf)).pipe(
    Effect.catchTags({
      LockUnavailable: ({ message }) => new CliFailure({ exitCode: ExitCode.busy, message }),
      LockStoreError: (error) => unavailable(error)
    }),
    Effect.catchAllDefect((defect) =>
      isImpossible(defect) ? usage(shown(defect.message)) : Effect.die(defect)
    )
  )
}

const heldOf = (lease: Lease.Lease): Held => ({
  lease,
  fencingTokens: [[lease.key, lease.fencingToken]]
})

/**
 * A lease that was handed over is proven for a shorter time until its first renewal, which comes within
 * a heartbeat. (Where renewals take so long that none proves that much, the command starts all the same.)
 */
const untilFullyProven = (
  { fencingTokens, lease }: Held,
  { ttl }: Run
): Effect.Effect<void, CliFailure> => {
  const enough = Duration.toMillis(ttl) * 0.75
  const look: Effect.Effect<void> = Effect.flatMap(lease.remaining, (left) =>
    Duration.toMillis(left) >= enough ? Effect.void : Effect.delay(look, 10)
  )
  return look.pipe(
    Effect.timeoutOption(ttl),
    Effect.raceFirst(lease.awaitLost),
    Effect.mapError(
      ({ message }) =>
        new CliFailure({
          exitCode: ExitCode.lost,
          message: `${message} The command was not started (${fencingTokens[0]![0]}).`
        })
    ),
    Effect.asVoid
  )
}

// -----------------------------------------------------------------------------
// the command
// -----------------------------------------------------------------------------

interface Ended {
  readonly status: number
  readonly inTerminal: boolean
}

const underLease = (held: Held, options: Run): Effect.Effect<Ended, CliFailure, Scope.Scope> =>
  Effect.gen(function* () {
    const { lease } = held
    const graceMillis = Duration.toMillis(options.grace)
    const env = { ...process.env, ...variablesOf(held) }
    const group = yield* Effect.acquireRelease(
      Effect.promise(() =>
        Group.start({
          command: options.command,
          env,
          graceMillis,
          mayGoOn: () => Effect.runSync(lease.isHeld)
        })
      ),
      (group) => (typeof group === "string" ? Effect.void : Effect.promise(group.close))
    )
    if (typeof group === "string") return { status: ofSignal(group), inTerminal: true }
    yield* Effect.forkScoped(passProofOn(lease, group, options))
    const told = yield* passSignalsOn(group, graceMillis)
    yield* passProof(lease, group)
    group.begin()

    return yield* orLost(lease, () => group.ended).pipe(
      // what it has started and left runs under the lock as well
      Effect.zipLeft(orLost(lease, () => told.ending ?? group.end("SIGTERM", graceMillis))),
      Effect.zipLeft(orLost(lease, () => group.ended)),
      Effect.tap(() => giveBack(lease)),
      Effect.catchTag("LockLost", (error) => whenLost(error, held, group, options)),
      Effect.map((status): Ended => ({ status, inTerminal: group.inTerminal }))
    )
  })

const variablesOf = ({ fencingTokens }: Held): Record<string, string> => {
  const [key, fencingToken] = fencingTokens[0]!
  return {
    LOCK_KEY: key,
    LOCK_FENCING_TOKEN: `${fencingToken}`,
    ...(fencingTokens.length === 1
      ? {}
      : { LOCK_FENCING_TOKENS: JSON.stringify(Object.fromEntries(fencingTokens)) })
  }
}

const orLost = <A>(
  lease: Held["lease"],
  promise: () => Promise<A>
): Effect.Effect<A, LockError.LockLost> =>
  Effect.raceFirst(Effect.promise(promise), lease.awaitLost)

const passProof = (lease: Held["lease"], group: Group.Group): Effect.Effect<number> =>
  Effect.map(lease.remaining, (remaining) => {
    const left = Duration.toMillis(remaining)
    group.allow(left)
    return performance.now() + left
  })

/** Tells the watchdog about each renewal, for the case that this process is stopped. */
const passProofOn = (
  lease: Held["lease"],
  group: Group.Group,
  { ttl }: Run
): Effect.Effect<never> => {
  const every = Math.min(1_000, Duration.toMillis(ttl) / 10)
  const look = (until: number): Effect.Effect<never> =>
    Effect.flatMap(Effect.delay(lease.remaining, every), (remaining) =>
      performance.now() + Duration.toMillis(remaining) > until + 10
        ? Effect.flatMap(passProof(lease, group), look)
        : look(until)
    )
  return look(Number.NEGATIVE_INFINITY)
}

const passSignalsOn = (group: Group.Group, graceMillis: number) =>
  Effect.gen(function* () {
    const told: { ending: Promise<void> | undefined } = { ending: undefined }
    const listener = (signal: Signals.Handled): void => {
      if (signal === "SIGTSTP") group.stop()
      else if (signal === "SIGCONT") group.goOn()
      else if (signal === "SIGTERM" || signal === "SIGHUP") {
        told.ending ??= group.end(signal, graceMillis)
      } else group.signal(signal)
    }
    yield* Effect.acquireRelease(
      Effect.sync(() => Signals.take(listener)),
      (stop) => Effect.sync(stop)
    )
    return told
  })

/** Ends the group while nobody else can have the lock: at once, where somebody can. */
const whenLost = (
  error: LockError.LockLost,
  held: Held,
  group: Group.Group,
  { grace, onLost }: Run
): Effect.Effect<number> =>
  Effect.gen(function* () {
    const left = Duration.toMillis(yield* held.lease.remaining)
    const graceMillis = Math.min(Duration.toMillis(grace), left - beforeTheEnd)
    yield* Effect.promise(() => group.end("SIGTERM", graceMillis))
    // (its terminal is given back)
    yield* Effect.timeoutOption(
      Effect.promise(() => group.ended),
      1_000
    )
    yield* Console.error(error.message)
    if (Option.isNone(onLost)) return ExitCode.lost
    const env = { ...process.env, ...variablesOf(held), LOCK_LOST_REASON: error.reason }
    yield* Effect.promise(async () => {
      const child = ChildProcess.spawn("/bin/sh", ["-c", onLost.value], { env, stdio: "inherit" })
      const stop = Signals.take((signal) => {
        if (signal === "SIGTERM" || signal === "SIGINT" || signal === "SIGHUP") child.kill(signal)
      })
      await once(child, "exit").finally(stop)
    })
    return ExitCode.lost
  })

/** For how long before the end of the proof SIGKILL is sent. */
const beforeTheEnd = 20

const giveBack = (lease: Held["lease"]): Effect.Effect<void, LockError.LockLost> =>
  lease.release.pipe(
    // it was held for as long as the command ran
    Effect.catchTag("LockStoreError", ({ message }) => Console.error(message)),
    Effect.asVoid
  )
