/** `ls`, `show`, `watch` and `leader`: who holds a lock, since when, and who waits. */
import * as Chunk from "effect/Chunk"
import * as Console from "effect/Console"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { Leader, type LockError, LockInspector, type LockStore } from "effect-redis-lock"
import { type Connection, storeOf, unavailable } from "./connection.js"
import { type CliFailure, ExitCode, isImpossible, usage } from "./exitCode.js"
import { age, bold, printJson, shown, table } from "./output.js"

interface Look extends Connection {
  readonly json: boolean
}

/** With the store, and its errors as ends of the command line. */
export const withStore = <A>(
  connection: Connection,
  effect: Effect.Effect<A, LockError.LockStoreError | CliFailure, LockStore.LockStore>
): Effect.Effect<A, CliFailure> =>
  effect.pipe(
    Effect.catchTag("LockStoreError", (error) => unavailable(error)),
    Effect.catchAllDefect((defect) =>
      isImpossible(defect) ? usage(shown(defect.message)) : Effect.die(defect)
    ),
    Effect.provide(storeOf(connection))
  )

// -----------------------------------------------------------------------------
// ls
// -----------------------------------------------------------------------------

export const ls = (options: Look & { readonly keys: string }): Effect.Effect<number, CliFailure> =>
  withStore(
    options,
    Effect.gen(function* () {
      const all = LockInspector.list({ prefix: options.keys })
      if (options.json) {
        yield* Stream.runForEach(all, (snapshot) => printJson(jsonOf(snapshot)))
        return 0
      }
      const snapshots = Chunk.toArray(yield* Stream.runCollect(all)).sort((a, b) =>
        a.key < b.key ? -1 : 1
      )
      const rows = snapshots.map((snapshot) => {
        const [first] = snapshot.held
        return [
          shown(snapshot.key),
          kindOf(snapshot),
          first === undefined ? "-" : holderOf(first) + others(snapshot.heldCount),
          millisOf(first?.heldFor),
          first === undefined ? "-" : ttlOf(first),
          `${snapshot.pendingCount}`
        ]
      })
      if (rows.length > 0) {
        yield* Console.log(table(["KEY", "KIND", "HOLDER", "FOR", "TTL", "WAITING"], rows))
      }
      return 0
    })
  )

// -----------------------------------------------------------------------------
// show
// -----------------------------------------------------------------------------

export const show = (options: Look & { readonly key: string }): Effect.Effect<number, CliFailure> =>
  withStore(
    options,
    Effect.gen(function* () {
      const snapshot = yield* LockInspector.inspect(options.key)
      yield* options.json ? printJson(jsonOf(snapshot)) : Console.log(pageOf(snapshot))
      return 0
    })
  )

const pageOf = (snapshot: LockInspector.Snapshot): string => {
  const { held, heldCount, inUse, kind, limit, pending, pendingCount } = snapshot
  const title = bold(shown(snapshot.key))
  if (kind === undefined) return `${title}  free`
  const use = inUse === undefined ? "" : `, ${inUse} of ${limit ?? "?"} permits in use`
  const parts = [`${title}  ${kindOf(snapshot)}${use}`]
  if (held.length > 0) {
    const rows = held.map((one) => [
      holderOf(one),
      shareOf(one),
      millisOf(one.heldFor),
      ttlOf(one),
      one.fencingToken === undefined ? "-" : `${one.fencingToken}`
    ])
    parts.push(table(["HOLDER", "SHARE", "FOR", "TTL", "FENCING TOKEN"], rows))
    if (heldCount > held.length) parts.push(`and ${heldCount - held.length} more`)
  }
  if (pending.length > 0) {
    const rows = pending.map((one, index) => [
      `${index + 1}`,
      ownerOf(one.owner),
      shareOf(one),
      millisOf(one.waited)
    ])
    parts.push(table(["#", "WAITING", "SHARE", "FOR"], rows))
    if (pendingCount > pending.length) parts.push(`and ${pendingCount - pending.length} more`)
  }
  return parts.join("\n\n")
}

// -----------------------------------------------------------------------------
// watch
// -----------------------------------------------------------------------------

export const watch = (
  options: Look & { readonly keys: string; readonly every: Duration.Duration }
): Effect.Effect<number, CliFailure> =>
  withStore(
    options,
    LockInspector.watch({ prefix: options.keys, every: options.every }).pipe(
      Stream.runForEach((change) =>
        options.json ? printJson(changeJson(change)) : Console.log(lineOf(change))
      ),
      Effect.as(0)
    )
  )

const lineOf = (change: LockInspector.Change): string => {
  const time = DateTime.formatIso(change.at).slice(11, 23)
  const who =
    "held" in change
      ? `${holderOf(change.held)}${change.held.fencingToken === undefined ? "" : `  ${change.held.fencingToken}`}`
      : ownerOf(change.pending.owner)
  const what = change._tag.toLowerCase().padEnd(8)
  return `${time}  ${bold(what)}  ${shown(change.key)}  ${who}`
}

// -----------------------------------------------------------------------------
// leader
// -----------------------------------------------------------------------------

export const leader = (
  options: Look & { readonly key: string }
): Effect.Effect<number, CliFailure> =>
  withStore(
    options,
    Effect.gen(function* () {
      const found = yield* Leader.current(options.key)
      const current = Option.getOrUndefined(found)
      if (options.json) {
        yield* printJson(
          current === undefined
            ? { key: options.key, leader: null }
            : {
                key: options.key,
                leader: {
                  owner: current.owner ?? null,
                  term: current.term,
                  since: DateTime.formatIso(current.since)
                }
              }
        )
      } else if (current === undefined) {
        yield* Console.error(`Nobody leads ${shown(options.key)}.`)
      } else {
        yield* Console.log(
          `${bold(ownerOf(current.owner))}  since ${DateTime.formatIso(current.since)}, term ${current.term}`
        )
      }
      return current === undefined ? ExitCode.found : 0
    })
  )

// -----------------------------------------------------------------------------
// in words
// -----------------------------------------------------------------------------

const kinds = {
  lock: "lock",
  semaphore: "semaphore",
  readWriteLock: "read-write lock"
} as const

const kindOf = ({ held, kind }: LockInspector.Snapshot): string =>
  kind === undefined
    ? "-"
    : held.length > 0 && held.every((one) => one.foreign)
      ? "key"
      : kinds[kind]

const ownerOf = (owner: string | undefined): string =>
  owner === undefined || owner === "" ? "(no name)" : shown(owner)

const holderOf = (held: LockInspector.Held): string =>
  held.foreign
    ? "(a program without this library)"
    : held.isLeft
      ? `${ownerOf(held.owner)} (has ended)`
      : ownerOf(held.owner)

const others = (count: number): string => (count > 1 ? ` and ${count - 1} more` : "")

const shareOf = ({ limit, mode, permits }: LockInspector.Held | LockInspector.Pending): string =>
  permits === undefined ? mode : `${permits}/${limit ?? "?"}`

const millisOf = (duration: Duration.Duration | undefined): string =>
  duration === undefined ? "-" : age(Duration.toMillis(duration))

const ttlOf = ({ ttlLeft }: LockInspector.Held): string =>
  ttlLeft === undefined ? "no ttl" : age(Duration.toMillis(ttlLeft))

// -----------------------------------------------------------------------------
// as JSON: times as ISO 8601, durations in milliseconds, null for what is not known
// -----------------------------------------------------------------------------

const iso = (time: DateTime.Utc | undefined) =>
  time === undefined ? null : DateTime.formatIso(time)

const millis = (duration: Duration.Duration | undefined) =>
  duration === undefined ? null : Math.round(Duration.toMillis(duration))

const heldJson = (held: LockInspector.Held) => ({
  owner: held.owner ?? null,
  mode: held.mode,
  permits: held.permits ?? null,
  limit: held.limit ?? null,
  fencingToken: held.fencingToken ?? null,
  since: iso(held.since),
  ttlMillis: millis(held.ttlLeft),
  foreign: held.foreign,
  isLeft: held.isLeft
})

const pendingJson = (pending: LockInspector.Pending) => ({
  owner: pending.owner ?? null,
  mode: pending.mode,
  permits: pending.permits ?? null,
  limit: pending.limit ?? null,
  since: iso(pending.since)
})

const jsonOf = (snapshot: LockInspector.Snapshot) => ({
  key: snapshot.key,
  kind: snapshot.kind ?? null,
  at: iso(snapshot.at),
  held: snapshot.held.map(heldJson),
  heldCount: snapshot.heldCount,
  pending: snapshot.pending.map(pendingJson),
  pendingCount: snapshot.pendingCount
})

const changeJson = (change: LockInspector.Change) => ({
  change: change._tag.toLowerCase(),
  key: change.key,
  kind: change.kind ?? null,
  at: iso(change.at),
  initial: change.initial,
  ...("held" in change ? { held: heldJson(change.held) } : { pending: pendingJson(change.pending) })
})
