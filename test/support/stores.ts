/**
 * The stores that a contract runs against, each behind the same controls: what a store answers to
 * the holder of one key can be held back, refused or taken away, in the same way for all of them.
 *
 * @example
 * ```ts
 * describe.each(stores)("%s", (_, store) => {
 *   layer(store, { excludeTestServices: true })((it) => {
 *     it.scoped("is lost when nobody renews it", () =>
 *       Effect.gen(function* () {
 *         const { silenceRenewals } = yield* StoreControls
 *         …
 * ```
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as Scope from "effect/Scope"
import {
  type Lease,
  Lock,
  LockError,
  LockStore,
  MemoryLockStore,
  QuorumLockStore,
  RedisLockStore
} from "effect-redis-lock"
import * as Changes from "./Changes.js"
import { isOlderClient } from "./client.js"
import * as RedisServer from "./RedisServer.js"

/** What was asked of a store, or what it answered. */
export type Event =
  "acquire" | "granted" | "not granted" | "renew" | "renewed" | "verify" | "release" | "released"

export interface Controls {
  /** The store as it is without controls. */
  readonly bare: LockStore.LockStore
  /** What happened to a key so far. */
  readonly events: (key: string) => ReadonlyArray<Event>
  readonly count: (key: string, event: Event) => number
  /** Waits until an event has happened so often. */
  readonly until: (key: string, event: Event, times?: number) => Effect.Effect<void>
  /** From now on no renewal of the key is sent, and none is answered. */
  readonly silenceRenewals: (key: string) => void
  /** From now on every renewal of the key fails. */
  readonly failRenewals: (key: string) => void
  /** From now on every release of the key fails, and does nothing. */
  readonly failReleases: (key: string) => void
  readonly heal: (key: string) => void
  /** Behind the holder's back: the key is gone. */
  readonly takeAway: (lease: Lease.Lease) => Effect.Effect<void>
  /** Behind the holder's back: somebody else has the key, until the scope closes. */
  readonly giveToAnother: (lease: Lease.Lease) => Effect.Effect<LockStore.Grant, never, Scope.Scope>
}

export class StoreControls extends Context.Tag("test/StoreControls")<StoreControls, Controls>() {}

interface KeyState {
  readonly events: Array<Event>
  readonly grants: Map<number, LockStore.Grant>
  renewals: "answered" | "silent" | "failing"
  releases: "answered" | "failing"
}

/** Puts the controls around a store, and around each of its grants: copies with members replaced. */
export const controlled = (
  store: LockStore.LockStore
): { readonly store: LockStore.LockStore; readonly controls: Controls } => {
  const changes = Changes.make()
  const states = new Map<string, KeyState>()
  const stateOf = (key: string): KeyState => {
    let state = states.get(key)
    if (state === undefined) {
      state = { events: [], grants: new Map(), renewals: "answered", releases: "answered" }
      states.set(key, state)
    }
    return state
  }
  const happened = (key: string, event: Event) => {
    stateOf(key).events.push(event)
    changes.announce()
  }
  const count = (key: string, event: Event) =>
    stateOf(key).events.filter((other) => other === event).length
  const fault = (operation: LockError.LockStoreOperation, key: string) =>
    Effect.fail(
      new LockError.LockStoreError({
        operation,
        key,
        detail: "made to fail by a test",
        transient: true
      })
    )

  const control = (key: string, grant: LockStore.Grant): LockStore.Grant => ({
    ...grant,
    renew: Effect.suspend(() => {
      happened(key, "renew")
      switch (stateOf(key).renewals) {
        case "silent":
          return Effect.never
        case "failing":
          return fault("renew", key)
        case "answered":
          return Effect.tap(grant.renew, () => happened(key, "renewed"))
      }
    }),
    verify: Effect.suspend(() => {
      happened(key, "verify")
      return grant.verify
    }),
    release: Effect.suspend(() => {
      happened(key, "release")
      return stateOf(key).releases === "failing"
        ? fault("release", key)
        : Effect.tap(grant.release, () => happened(key, "released"))
    })
  })
  const takeAway = ({ fencingToken, key }: Lease.Lease) =>
    Effect.orDie(Effect.asVoid(stateOf(key).grants.get(fencingToken)!.release))

  return {
    store: {
      ...store,
      acquire: (claim: LockStore.Claim, restore: LockStore.Restore) =>
        Effect.suspend(() => {
          happened(claim.key, "acquire")
          return store.acquire(claim, restore)
        }).pipe(
          Effect.tapErrorCause(() => Effect.sync(() => happened(claim.key, "not granted"))),
          Effect.map((grant) => {
            stateOf(claim.key).grants.set(grant.fencingToken, grant)
            happened(claim.key, "granted")
            return control(claim.key, grant)
          })
        )
    },
    controls: {
      bare: store,
      events: (key) => stateOf(key).events,
      count,
      until: (key, event, times = 1) => changes.until(() => count(key, event) >= times),
      silenceRenewals: (key) => {
        stateOf(key).renewals = "silent"
      },
      failRenewals: (key) => {
        stateOf(key).renewals = "failing"
      },
      failReleases: (key) => {
        stateOf(key).releases = "failing"
      },
      heal: (key) => {
        stateOf(key).renewals = "answered"
        stateOf(key).releases = "answered"
      },
      takeAway,
      giveToAnother: (lease) =>
        Effect.zipRight(
          takeAway(lease),
          Effect.acquireRelease(
            Effect.orDie(
              store.acquire(
                claimOf(lease.key, { ttlMillis: 30_000, owner: "somebody else" }),
                (effect) => effect
              )
            ),
            (grant) => Effect.ignore(grant.release)
          )
        )
    }
  }
}

const withControls = <E, R>(
  store: Layer.Layer<LockStore.LockStore, E, R>
): Layer.Layer<LockStore.LockStore | StoreControls, E, R> =>
  Layer.flatMap(store, (context) => {
    const { controls, store } = controlled(Context.get(context, LockStore.LockStore))
    return Layer.merge(
      Layer.succeed(LockStore.LockStore, store),
      Layer.succeed(StoreControls, controls)
    )
  })

/** In memory, under the clock of whoever builds the layer. */
export const memory: Layer.Layer<LockStore.LockStore | StoreControls> = withControls(
  MemoryLockStore.layer
)

/** In a real server of its own. */
export const redis: Layer.Layer<
  LockStore.LockStore | StoreControls | RedisServer.RedisServer,
  LockError.LockStoreError
> = withControls(
  Layer.unwrapEffect(
    Effect.map(RedisServer.RedisServer, ({ url }) => RedisLockStore.layer({ url }))
  )
).pipe(Layer.provideMerge(RedisServer.layer()))

/** Of three stores in memory. */
export const quorum: Layer.Layer<LockStore.LockStore | StoreControls> = withControls(
  QuorumLockStore.layer({
    nodes: [MemoryLockStore.layer, MemoryLockStore.layer, MemoryLockStore.layer],
    longestTtl: "1 hour"
  })
)

/** All that there are. */
export const allCapabilities = [
  "semaphore",
  "readWriteLock",
  "reshare",
  "look",
  "keys",
  "revoke",
  "tick",
  "maxHold",
  "holdAtLeast",
  "handOver"
] as const

/** Those of a quorum: of several holders at once it promises nothing, and it hands nothing over. */
export const quorumCapabilities = [
  "look",
  "keys",
  "revoke",
  "tick",
  "maxHold",
  "holdAtLeast"
] as const

type Entry = readonly [
  name: string,
  store: Layer.Layer<LockStore.LockStore | StoreControls, LockError.LockStoreError>,
  capabilities: ReadonlyArray<LockStore.Capability>
]

/** Those that keep all kinds of locks. */
export const stores: ReadonlyArray<Entry> = [
  ...(isOlderClient ? [] : [["memory", memory, allCapabilities] as const]),
  ["redis", redis, allCapabilities]
]

/** And those that do not. */
export const everyStore: ReadonlyArray<Entry> = [
  ...stores,
  ...(isOlderClient ? [] : [["quorum", quorum, quorumCapabilities] as const])
]

/** What a store with those capabilities keeps claims of. */
export const kindsOf = (
  capabilities: ReadonlyArray<LockStore.Capability>
): ReadonlyArray<LockStore.Kind> =>
  (["lock", "semaphore", "readWriteLock"] as const).filter(
    (kind) => kind === "lock" || capabilities.includes(kind)
  )

/** Those that keep claims of that kind, and can do what is needed. */
export const storesOf = (kind: LockStore.Kind, needed?: LockStore.Capability) =>
  everyStore.filter(
    ([, , capabilities]) =>
      kindsOf(capabilities).includes(kind) &&
      (needed === undefined || capabilities.includes(needed))
  )

let keys = 0

/** A key that no other test uses. */
export const freshKey = (): string => `key-${process.pid}-${++keys}`

// -----------------------------------------------------------------------------
// what tests ask and do
// -----------------------------------------------------------------------------

/** Losses and unconfirmed releases are logged; tests make them on purpose. */
export const quiet = Logger.remove(Logger.defaultLogger)

/** A claim of a lock for 10 seconds, without waiting, where nothing else is said. */
export const claimOf = (key: string, more?: Partial<LockStore.Claim>): LockStore.Claim => ({
  key,
  kind: "lock",
  share: 1,
  limit: 1,
  ttlMillis: 10_000,
  waitMillis: 0,
  owner: undefined,
  ...more
})

/** That store; the proof of the first lease of it is over when its holder has it. */
export const lateAtFirst = (store: LockStore.LockStore): LockStore.LockStore => {
  let isFirst = true
  return {
    ...store,
    acquire: (claim, restore) =>
      Effect.map(store.acquire(claim, restore), (grant) => {
        if (!isFirst) return grant
        isFirst = false
        return { ...grant, validUntil: store.clock.unsafeNow() }
      })
  }
}

/** A grant, asked of the store itself. */
export const ask = (key: string, more?: Partial<LockStore.Claim>) =>
  Effect.flatMap(LockStore.LockStore, (store) =>
    Effect.uninterruptibleMask((restore) => store.acquire(claimOf(key, more), restore))
  )

/** Waits until this many acquisitions were asked for and, since replies come in order, answered. */
export const untilAsked = (holder: Lease.Lease, times: number) =>
  Effect.flatMap(StoreControls, ({ until }) =>
    Effect.zipRight(until(holder.key, "acquire", times), Effect.orDie(holder.verify))
  )

/** The key is taken away behind the holder's back, who hears of it at once. */
export const lose = (lease: Lease.Lease) =>
  Effect.flatMap(StoreControls, ({ takeAway }) =>
    Effect.zipRight(takeAway(lease), Effect.exit(lease.verify))
  )

/** Fails if anybody has the key, or will have it for any time that comes near a ttl. */
export const expectFree = (key: string) =>
  Effect.orDie(Effect.asVoid(Effect.scoped(Lock.acquire(key, { waitAtMost: "2 seconds" }))))

/** Fails if anybody has the key at this moment. */
export const expectFreeNow = (key: string) =>
  Effect.orDie(Effect.asVoid(Effect.scoped(Lock.tryAcquire(key))))
