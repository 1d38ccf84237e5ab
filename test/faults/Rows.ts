/**
 * The kinds of lock and the stores that are put under faults. Another one joins as a value here: a
 * kind says how a critical section is taken, a row says where.
 */
import * as Cause from "effect/Cause"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import {
  CronJob,
  Leader,
  type Lease,
  Lock,
  type LockStore,
  type LockError,
  MemoryLockStore,
  MultiLock,
  QuorumLockStore,
  ReadWriteLock,
  RedisLockStore,
  Semaphore
} from "effect-redis-lock"
import { Cluster, Redis } from "ioredis"
import { fileURLToPath } from "node:url"
import { flags } from "../support/RedisServer.js"
import type { FaultName } from "./faults.js"

// -----------------------------------------------------------------------------
// kinds of lock
// -----------------------------------------------------------------------------

export interface Tagged {
  readonly _tag: string
}

/** What a critical section is given; of a lock, it is alone. */
export type AnyLease = Lease.Lease | Semaphore.SemaphoreLease

/** One way to a critical section. */
export interface Way {
  readonly name: string
  /** How often it is chosen, against the others. */
  readonly share: number
  /** It never gives up by itself: of those, first come, first served is asked. */
  readonly patient: boolean
  /** How much of the key it takes, and how much of it may be taken while it has that. */
  readonly weight: number
  readonly limit: number
  readonly run: (
    key: string,
    options: Lock.Options,
    /** In milliseconds, for those who do not wait for ever. */
    patience: number,
    /**
     * A second time, it is the rest of a section that goes on with less: a part of its own. Of a job it is
     * told the tick.
     */
    body: (lease: AnyLease, tick?: number) => Effect.Effect<void, Tagged>
  ) => Effect.Effect<unknown, Tagged, LockStore.LockStore>
  /** It waits for a time, and only then for the key: it asks when its section begins. */
  readonly timed?: boolean
}

export interface Kind {
  readonly name: string
  /** How much of a key can be held at a time. */
  readonly capacity: number
  /** Who has all of it writes, and who has less reads: the resource tells them apart. */
  readonly hasReaders?: boolean
  readonly ways: ReadonlyArray<Way>
}

/** A way to permits: what it runs with is told how many, and within which limit. */
function permits(
  name: string,
  share: number,
  patient: boolean,
  weight: number,
  limit: number,
  run: (
    key: string,
    options: Semaphore.Options,
    patience: number,
    body: (lease: AnyLease) => Effect.Effect<void, Tagged>
  ) => Effect.Effect<unknown, Tagged, LockStore.LockStore>
): Way {
  return {
    name,
    share,
    patient,
    weight,
    limit,
    run: (key, options, patience, body) =>
      run(key, { ...options, limit, permits: weight }, patience, body)
  }
}

export const mutex: Kind = {
  name: "mutex",
  capacity: 1,
  ways: [
    {
      name: "withLock",
      share: 6,
      patient: true,
      weight: 1,
      limit: 1,
      run: (key, options, _, body) => Lock.withLock(key, options)(body)
    },
    {
      name: "acquire",
      share: 2,
      patient: true,
      weight: 1,
      limit: 1,
      run: (key, options, _, body) =>
        Effect.scoped(
          Effect.flatMap(Lock.acquire(key, options), (lease) => lease.guard(body(lease)))
        )
    },
    {
      name: "withLock, waitAtMost",
      share: 2,
      patient: false,
      weight: 1,
      limit: 1,
      run: (key, options, patience, body) =>
        Lock.withLock(key, { ...options, waitAtMost: patience })(body)
    },
    {
      name: "acquire, interrupted",
      share: 2,
      patient: false,
      weight: 1,
      limit: 1,
      run: (key, options, patience, body) =>
        Effect.scoped(
          Effect.flatMap(Effect.timeout(Lock.acquire(key, options), patience), (lease) =>
            lease.guard(body(lease))
          )
        )
    },
    {
      // both can be granted by one answer: then a grant and an interruption cross
      name: "acquire, the first of two",
      share: 2,
      patient: false,
      weight: 1,
      limit: 1,
      run: (key, options, _, body) =>
        Effect.scoped(
          Effect.flatMap(
            Effect.raceFirst(Lock.acquire(key, options), Lock.acquire(`${key}+`, options)),
            (lease) => (lease.key === key ? lease.guard(body(lease)) : Effect.void)
          )
        )
    },
    {
      name: "withLockIfAvailable",
      share: 1,
      patient: false,
      weight: 1,
      limit: 1,
      run: (key, options, _, body) => Lock.withLockIfAvailable(key, options)(body)
    },
    {
      name: "released early",
      share: 1,
      patient: false,
      weight: 1,
      limit: 1,
      run: (key, options, patience, body) =>
        Effect.scoped(
          Effect.flatMap(Lock.acquire(key, { ...options, waitAtMost: patience }), (lease) =>
            Effect.zipRight(lease.guard(body(lease)), lease.release)
          )
        )
    }
  ]
}

/** Some take two at once, and some are told of a smaller limit than the others. */
export const semaphore: Kind = {
  name: "semaphore",
  capacity: 3,
  ways: [
    permits("withPermits", 5, true, 1, 3, (key, options, _, body) =>
      Semaphore.withPermits(key, options)(body)
    ),
    permits("withPermits, of two", 2, true, 2, 3, (key, options, _, body) =>
      Semaphore.withPermits(key, options)(body)
    ),
    permits("withPermits, within two", 1, true, 1, 2, (key, options, _, body) =>
      Semaphore.withPermits(key, options)(body)
    ),
    permits("acquire", 2, true, 1, 3, (key, options, _, body) =>
      Effect.scoped(
        Effect.flatMap(Semaphore.acquire(key, options), (lease) => lease.guard(body(lease)))
      )
    ),
    permits("withPermits of two, waitAtMost", 2, false, 2, 3, (key, options, patience, body) =>
      Semaphore.withPermits(key, { ...options, waitAtMost: patience })(body)
    ),
    permits("acquire, interrupted", 2, false, 1, 3, (key, options, patience, body) =>
      Effect.scoped(
        Effect.flatMap(Effect.timeout(Semaphore.acquire(key, options), patience), (lease) =>
          lease.guard(body(lease))
        )
      )
    ),
    permits("acquire, the first of two", 2, false, 1, 3, (key, options, _, body) =>
      Effect.scoped(
        Effect.flatMap(
          Effect.raceFirst(Semaphore.acquire(key, options), Semaphore.acquire(`${key}+`, options)),
          (lease) => (lease.key === key ? lease.guard(body(lease)) : Effect.void)
        )
      )
    ),
    permits("withPermitsIfAvailable", 1, false, 1, 3, (key, options, _, body) =>
      Semaphore.withPermitsIfAvailable(key, options)(body)
    ),
    permits("released early", 1, false, 2, 3, (key, options, patience, body) =>
      Effect.scoped(
        Effect.flatMap(Semaphore.acquire(key, { ...options, waitAtMost: patience }), (lease) =>
          Effect.zipRight(lease.guard(body(lease)), lease.release)
        )
      )
    )
  ]
}

const everything = 1_000_000

const way = (
  name: string,
  share: number,
  patient: boolean,
  weight: number,
  run: Way["run"]
): Way => ({ name, share, patient, weight, limit: everything, run })

/** Mostly readers, and writers among them. */
export const readWriteLock: Kind = {
  name: "read-write lock",
  capacity: everything,
  hasReaders: true,
  ways: [
    way("withReadLock", 12, true, 1, (key, options, _, body) =>
      ReadWriteLock.withReadLock(key, options)(body)
    ),
    way("readLock", 4, true, 1, (key, options, _, body) =>
      Effect.scoped(
        Effect.flatMap(ReadWriteLock.readLock(key, options), (lease) => lease.guard(body(lease)))
      )
    ),
    way("withReadLock, nested", 1, true, 1, (key, options, _, body) =>
      ReadWriteLock.withReadLock(
        key,
        options
      )(ReadWriteLock.withReadLock(key, options)((lease) => body(lease)))
    ),
    way("withWriteLock", 3, true, everything, (key, options, _, body) =>
      ReadWriteLock.withWriteLock(key, options)(body)
    ),
    way("withWriteLock, downgraded", 2, true, everything, (key, options, _, body) =>
      ReadWriteLock.withWriteLock(
        key,
        options
      )((lease) =>
        body(lease).pipe(
          Effect.zipRight(
            // (whatever is answered, it is a read from then on)
            Effect.catchTag(lease.downgrade, "LockStoreError", () => Effect.void)
          ),
          Effect.zipRight(body(lease))
        )
      )
    ),
    way("withReadLock, waitAtMost", 3, false, 1, (key, options, patience, body) =>
      ReadWriteLock.withReadLock(key, { ...options, waitAtMost: patience })(body)
    ),
    way("withWriteLock, waitAtMost", 2, false, everything, (key, options, patience, body) =>
      ReadWriteLock.withWriteLock(key, { ...options, waitAtMost: patience })(body)
    ),
    way("readLock, interrupted", 2, false, 1, (key, options, patience, body) =>
      Effect.scoped(
        Effect.flatMap(Effect.timeout(ReadWriteLock.readLock(key, options), patience), (lease) =>
          lease.guard(body(lease))
        )
      )
    ),
    way("withReadLockIfAvailable", 1, false, 1, (key, options, _, body) =>
      ReadWriteLock.withReadLockIfAvailable(key, options)(body)
    ),
    way("writeLock, released early", 1, false, everything, (key, options, patience, body) =>
      Effect.scoped(
        Effect.flatMap(
          ReadWriteLock.writeLock(key, { ...options, waitAtMost: patience }),
          (lease) => Effect.zipRight(lease.guard(body(lease)), lease.release)
        )
      )
    )
  ]
}

/**
 * A way to several keys. What is judged is the last of them, in the order in which they are taken: it is
 * idle while one of the others is waited for, but only if whoever has that one is on its way.
 */
function together(
  name: string,
  share: number,
  patient: boolean,
  run: (
    keys: ReadonlyArray<string>,
    options: Lock.Options,
    patience: number,
    body: (lease: MultiLock.MultiLease) => Effect.Effect<void, Tagged>
  ) => Effect.Effect<unknown, Tagged, LockStore.LockStore>
): Way {
  return {
    name,
    share,
    patient,
    weight: 1,
    limit: 1,
    run: (key, options, patience, body) =>
      // (named in another order than that in which they are taken)
      run([key, `+${key}`, `++${key}`], options, patience, ({ leases }) => body(leases[0]!))
  }
}

/** Several keys at once, among locks of one of them. */
export const several: Kind = {
  name: "several",
  capacity: 1,
  ways: [
    // (few: else a key that nobody gives back would not be idle for them)
    ...mutex.ways
      .filter(({ name }) => name === "withLock" || name === "withLock, waitAtMost")
      .map((way) => ({ ...way, share: 1 })),
    together("withLocks", 4, true, (keys, options, _, body) =>
      MultiLock.withLocks(keys, options)(body)
    ),
    together("withLocks of two", 3, true, (keys, options, _, body) =>
      MultiLock.withLocks(keys.slice(0, 2), options)(body)
    ),
    together("acquire of several", 2, true, (keys, options, _, body) =>
      Effect.scoped(
        Effect.flatMap(MultiLock.acquire(keys, options), (lease) => lease.guard(body(lease)))
      )
    ),
    together("withLocks, waitAtMost", 2, false, (keys, options, patience, body) =>
      MultiLock.withLocks(keys, { ...options, waitAtMost: patience })(body)
    ),
    together("acquire of several, interrupted", 2, false, (keys, options, patience, body) =>
      Effect.scoped(
        Effect.flatMap(Effect.timeout(MultiLock.acquire(keys, options), patience), (lease) =>
          lease.guard(body(lease))
        )
      )
    ),
    together("withLocksIfAvailable", 1, false, (keys, options, _, body) =>
      MultiLock.withLocksIfAvailable(keys, options)(body)
    )
  ]
}

/**
 * One section of what goes on for ever: it ends when that has ended, or with the loss of its lease, or if it
 * has not begun in time. What is begun after it does nothing.
 */
const once = (
  body: (lease: AnyLease, tick?: number) => Effect.Effect<void, Tagged>,
  patience: number,
  runs: (
    section: (lease: Lease.Lease, tick?: number) => Effect.Effect<void>
  ) => Effect.Effect<unknown, Tagged, LockStore.LockStore>
): Effect.Effect<unknown, Tagged, LockStore.LockStore> =>
  Effect.gen(function* () {
    const begun = yield* Deferred.make<Lease.Lease>()
    const done = yield* Deferred.make<void, Tagged>()
    const section = (lease: Lease.Lease, tick?: number) =>
      Effect.flatMap(Deferred.succeed(begun, lease), (isFirst) =>
        isFirst
          ? Effect.flatMap(Effect.either(body(lease, tick)), (ended) =>
              Effect.zipRight(Deferred.complete(done, ended), Effect.interruptible(Effect.never))
            )
          : Effect.never
      )
    const lost = Effect.flatMap(Deferred.await(begun), ({ awaitLost }) => awaitLost)
    const late = Effect.flatMap(Effect.delay(Deferred.isDone(begun), patience), (isBegun) =>
      isBegun ? Effect.never : new Cause.TimeoutException()
    )
    return yield* Effect.raceFirst(
      Effect.raceFirst(runs(section), Deferred.await(done)),
      Effect.raceFirst(lost, late)
    )
  })

/** Leaders, among locks of the same key. */
export const leader: Kind = {
  name: "leader",
  capacity: 1,
  ways: [
    { ...mutex.ways[0]!, share: 3 },
    {
      name: "Leader.run",
      share: 4,
      patient: true,
      weight: 1,
      limit: 1,
      run: (key, options, _, body) =>
        once(body, Number.POSITIVE_INFINITY, (section) =>
          Leader.run(key, { ...options, retry: Schedule.stop })(section)
        )
    },
    {
      name: "Leader.run, through outages",
      share: 2,
      patient: false,
      weight: 1,
      limit: 1,
      run: (key, options, patience, body) =>
        once(body, 5 * patience, (section) => Leader.run(key, options)(section))
    }
  ]
}

/** Jobs of every second, among locks of the same key. */
export const job: Kind = {
  name: "job",
  capacity: 1,
  ways: [
    { ...mutex.ways[0]!, share: 1 },
    ...(["wait", "skip"] as const).map((whenRunning): Way => ({
      name: `CronJob.run, ${whenRunning}`,
      share: 2,
      patient: false,
      weight: 1,
      limit: 1,
      timed: true,
      run: (key, options, patience, body) =>
        once(body, 1_000 + patience, (section) =>
          CronJob.run(key, { ...options, cron: "* * * * * *", whenRunning })(
            ({ lease, scheduledAt }) => section(lease, DateTime.toEpochMillis(scheduledAt))
          )
        )
    }))
  ]
}

// -----------------------------------------------------------------------------
// rows
// -----------------------------------------------------------------------------

export type Topology = "none" | "redis" | "redis behind proxies" | "cluster" | "sentinel" | "quorum"

/** Where a worker finds its store. */
export interface Place {
  /** Of one Redis, or of the worker's own proxy to it. */
  readonly url: string
  /** Of a Cluster's nodes, of the Sentinels, or of the nodes of a quorum. */
  readonly addresses: ReadonlyArray<{ readonly host: string; readonly port: number }>
}

/** A major version of Effect. */
export type Face = 3 | 4

export interface Row {
  readonly name: string
  readonly kind: Kind
  readonly topology: Topology
  readonly processes: number
  readonly layer: (place: Place) => Layer.Layer<LockStore.LockStore, LockError.LockStoreError>
  readonly redisArgs: ReadonlyArray<string>
  /** The environment of its processes. */
  readonly env: Readonly<Record<string, string>>
  /** Faults that its store does not know, or cannot be given. */
  readonly without: ReadonlyArray<FaultName>
  /** Which Effect its processes run on, in turn. */
  readonly faces: ReadonlyArray<Face>
  /** First come, first served between processes. */
  readonly inOrder: boolean
}

const root = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))

/** A restart keeps the data, and a holder its lease. */
const persistent = flags({
  appendonly: "yes",
  appendfsync: "always",
  "enable-debug-command": "yes"
})

const direct: Row = {
  name: "mutex, one Redis",
  kind: mutex,
  topology: "redis",
  processes: 3,
  layer: ({ url }) => RedisLockStore.layer({ url }),
  redisArgs: persistent,
  env: {},
  without: [],
  faces: [3],
  inOrder: false
}

const proxied: Row = {
  ...direct,
  name: "mutex, one Redis through proxies",
  topology: "redis behind proxies"
}

const strict: Row = {
  ...proxied,
  name: "mutex without local handoff, through proxies",
  layer: ({ url }) => RedisLockStore.layer({ url, localHandoff: 0 }),
  inOrder: true
}

const ioredis5: Row = {
  ...proxied,
  name: "mutex, one Redis through proxies, ioredis 5",
  env: { IOREDIS_MAJOR: "5", TSX_TSCONFIG_PATH: root("tsconfig.ioredis-5.json") }
}

/** Sentinels and a Cluster's nodes are clients as well, and talk by messages. */
const everySubscriber = ["subscribers forbidden", "no more clients"] as const

/** A client of the user's, and how it ends with the worker. */
const onClient = <Client extends Redis | Cluster>(make: () => Client) =>
  Layer.unwrapScoped(
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => {
          const client = make()
          client.on("error", () => {})
          return client
        }),
        (client) => Effect.sync(() => client.disconnect())
      ),
      (client) => RedisLockStore.layerFromClient(client)
    )
  )

/** A node of a Cluster cannot be made read-only, and would forget its slots' keys as any other. */
const cluster: Row = {
  ...direct,
  name: "mutex, Redis Cluster",
  topology: "cluster",
  layer: ({ addresses }) => RedisLockStore.layerCluster({ nodes: [...addresses] }),
  without: ["readonly", ...everySubscriber]
}

const clusterClient: Row = {
  ...cluster,
  name: "mutex, Redis Cluster, on a client",
  layer: ({ addresses }) =>
    onClient(
      () =>
        new Cluster([...addresses], {
          clusterRetryStrategy: (times) => Math.min(50 * times, 500)
        })
    )
}

const sentinel: Row = {
  ...direct,
  name: "mutex, Sentinel",
  topology: "sentinel",
  layer: ({ addresses }) =>
    RedisLockStore.layer({ redis: { sentinels: [...addresses], name: "mymaster" } }),
  without: [
    "readonly",
    "restart",
    "restart empty",
    "redis stopped",
    "debug sleep",
    "client pause",
    ...everySubscriber
  ]
}

const sentinelClient: Row = {
  ...sentinel,
  name: "mutex, Sentinel, on a client",
  layer: ({ addresses }) =>
    onClient(() => new Redis({ sentinels: [...addresses], name: "mymaster" }))
}

/**
 * Of three nodes one at a time has a fault. It may forget everything: it comes back empty, and with another
 * one's leases in what it had saved.
 */
const quorum: Row = {
  ...direct,
  name: "mutex, quorum of three",
  topology: "quorum",
  layer: ({ addresses }) =>
    QuorumLockStore.layer({
      nodes: addresses.map(({ host, port }) =>
        RedisLockStore.layer({ url: `redis://${host}:${port}` })
      ),
      longestTtl: "5 seconds"
    }),
  without: ["readonly"]
}

const memory: Row = {
  ...direct,
  name: "mutex in memory",
  topology: "none",
  processes: 1,
  layer: () => MemoryLockStore.layer,
  // it ends with its process
  without: ["killed"]
}

const withPermits = (row: Row): Row => ({
  ...row,
  kind: semaphore,
  name: row.name.replace("mutex", "semaphore")
})

const withReaders = (row: Row): Row => ({
  ...row,
  kind: readWriteLock,
  name: row.name.replace("mutex", "read-write lock")
})

const ofSeveral = (row: Row): Row => ({
  ...row,
  kind: several,
  name: row.name.replace("mutex", "several"),
  // (who waits for several asks for one after the other)
  inOrder: false
})

const ofLeaders = (row: Row): Row => ({
  ...row,
  kind: leader,
  name: row.name.replace("mutex", "leader"),
  // (a fiber of its own asks for it, a moment later than a lock that is asked for in between)
  inOrder: false
})

const ofJobs = (row: Row): Row => ({
  ...row,
  kind: job,
  name: row.name.replace("mutex", "job"),
  inOrder: false
})

/** The same, by another version of Effect, or by both on the same keys. */
const onEffect4 = (row: Row): Row => ({ ...row, name: `${row.name}, Effect 4`, faces: [4] })
const onBoth = (row: Row): Row => ({ ...row, name: `${row.name}, Effect 3 and 4`, faces: [3, 4] })

export const rows: ReadonlyArray<Row> = [
  proxied,
  strict,
  direct,
  ioredis5,
  cluster,
  clusterClient,
  sentinel,
  sentinelClient,
  quorum,
  memory,
  ...[proxied, strict, direct, cluster, clusterClient, sentinel, memory].map(withPermits),
  ...[proxied, strict, direct, cluster, sentinel, sentinelClient, memory].map(withReaders),
  ...[proxied, direct, cluster, clusterClient, sentinel, quorum, memory].map(ofSeveral),
  ...[proxied, direct, cluster, sentinel, quorum, memory].map(ofLeaders),
  ...[proxied, direct, cluster, sentinel, quorum, memory].map(ofJobs),
  ...[proxied, direct, memory].map(onEffect4),
  ...[proxied, direct].map(onBoth),
  ...[withPermits(proxied), withReaders(proxied), ofSeveral(proxied)].map(onBoth)
]

export const rowNamed = (name: string): Row => {
  const row = rows.find((row) => row.name === name)
  if (row === undefined) {
    throw new Error(`no row is named "${name}": ${rows.map(({ name }) => name).join("; ")}`)
  }
  return row
}
