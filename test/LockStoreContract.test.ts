/** The store contract, run against a store that knows nothing of this library but its docs, and against broken ones. */
import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { LockError, LockStore, MemoryLockStore } from "effect-redis-lock"
import * as LockStoreContract from "effect-redis-lock/LockStoreContract"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import * as MapStore from "./support/mapStore.js"
import { undisturbed } from "./redis/support.js"

const cases = LockStoreContract.cases()

// (cases may share a store, and run at the same time)
describe.concurrent("a store that was written from the docs alone", () => {
  const store = MapStore.make(2)
  for (const { effect, name, timeoutMillis } of cases) {
    it.live(
      name,
      () => undisturbed(30, Effect.provideService(effect, LockStore.LockStore, store)),
      3 * timeoutMillis
    )
  }
})

describe("a case", () => {
  it.effect("runs by the live clock, also in a test with another one", () =>
    Effect.gen(function* () {
      const { effect } = cases.find(({ name }) => name.includes("a wait ends when"))!
      yield* Effect.provideService(effect, LockStore.LockStore, MapStore.make(1))
    })
  )

  it.effect("fails with its name where a store fails in a way that it does not expect", () =>
    Effect.gen(function* () {
      const store = MapStore.make(0)
      const error = new LockError.LockStoreError({
        operation: "verify",
        detail: "It broke.",
        transient: false
      })
      const { effect, name } = cases.find((one) => one.name.includes("renews, verifies"))!
      const broken: LockStore.LockStore = {
        ...store,
        acquire: (claim, restore) =>
          Effect.map(store.acquire(claim, restore), (grant) => ({
            ...grant,
            verify: Effect.fail(error)
          }))
      }
      expect(
        yield* Effect.flip(Effect.provideService(effect, LockStore.LockStore, broken))
      ).toMatchObject({
        _tag: "ContractBroken",
        promise: `"${name}"`,
        message: `"${name}": expected no such error, found LockStoreError: The lock store failed (verify): It broke.`,
        cause: error
      })
    })
  )
})

// ---------------------------------------------------------------- mistakes

interface Mistake {
  readonly name: string
  /** Of mapStore.ts: what is there once, and what is there instead. */
  readonly edits: ReadonlyArray<readonly [find: string, replace: string]>
  /** The end of the name of the case that finds it. */
  readonly found: string
}

const mistakes: ReadonlyArray<Mistake> = [
  {
    name: "a release frees whoever has the key",
    edits: [[`if (found === "Ours") entries.delete(key)`, `entries.delete(key)`]],
    found: "renews, verifies and releases for the holder, and nobody else"
  },
  {
    name: "a release does not serve the next",
    edits: [
      [
        `entries.delete(key)
    serve(key)
    return found`,
        `entries.delete(key)
    return found`
      ]
    ],
    found: "waiters are served in the order in which they came, those that left aside"
  },
  {
    name: "a claim steps in while the key is free and others wait",
    edits: [
      [
        `entries.delete(key)
    serve(key)
    return found`,
        `entries.delete(key)
    setTimeout(() => serve(key), 100)
    return found`
      ],
      [
        `if (holderOf(key) === undefined && queue.length === 0) {`,
        `if (holderOf(key) === undefined) {`
      ]
    ],
    found: "a release serves the waiter before it ends, so that nobody can step in"
  },
  {
    name: "a claim that does not wait takes what somebody has",
    edits: [
      [
        `if (holderOf(key) === undefined && queue.length === 0) {`,
        `if (holderOf(key) === undefined || claim.waitMillis === 0) {`
      ]
    ],
    found: "a wait of 0 fails at once, and says who is in the way"
  },
  {
    name: "fencing tokens begin again",
    edits: [[`fencingToken: ++fence`, `fencingToken: entries.size + 1`]],
    found: "fencing tokens also grow without contention, faster than a clock can tell"
  },
  {
    name: "fencing tokens come from a clock",
    edits: [[`fencingToken: ++fence`, `fencingToken: Math.floor(Date.now() / 100)`]],
    found: "fencing tokens also grow without contention, faster than a clock can tell"
  },
  {
    name: "fencing tokens have fractions",
    edits: [[`fencingToken: ++fence`, `fencingToken: (fence += 0.5)`]],
    found: "grants a free key at the first attempt, for no longer than its ttl"
  },
  {
    name: "the last that comes is the first that is served",
    edits: [[`queue.shift()`, `queue.pop()`]],
    found: "waiters are served in the order in which they came, those that left aside"
  },
  {
    name: "an interrupted waiter keeps its place",
    edits: [[`if (place >= 0) queue.splice(place, 1)`, ``]],
    found: "a waiter that is interrupted leaves nothing behind, and the one behind it is served"
  },
  {
    name: "a grant that comes as its waiter leaves is kept",
    edits: [[`else release(key, waiter.granted.token)`, ``]],
    found: "waiters that are interrupted just as the key becomes free leave nothing behind"
  },
  {
    name: "a grant whose caller is interrupted while the answer comes is kept",
    edits: [[`yield* Effect.onInterrupt(restore(delay), () => undo)`, `yield* restore(delay)`]],
    found: "an acquisition that is interrupted at any moment leaves nothing behind"
  },
  {
    name: "a wait cannot be interrupted",
    edits: [
      [
        `Effect.onInterrupt(restore(patience), () => gone)`,
        `Effect.onInterrupt(patience, () => gone)`
      ]
    ],
    found: "a waiter that is interrupted leaves nothing behind, and the one behind it is served"
  },
  {
    name: "a wait is interrupted though its caller cannot be",
    edits: [
      [
        `Effect.onInterrupt(restore(patience), () => gone)`,
        `Effect.onInterrupt(Effect.interruptible(patience), () => gone)`
      ]
    ],
    found: "a caller that cannot be interrupted keeps its place, and its grant"
  },
  {
    name: "a wait has no end",
    edits: [
      [
        `Number.isFinite(waitMillis) ? Duration.millis(waitMillis) : Duration.infinity`,
        `Duration.infinity`
      ]
    ],
    found: "a wait ends when the claim says, and leaves nothing behind"
  },
  {
    name: "who has waited in vain stays in the queue",
    edits: [
      [
        `yield* gone
        return`,
        `return`
      ]
    ],
    found: "a wait ends when the claim says, and leaves nothing behind"
  },
  {
    name: "a claim that does not wait waits",
    edits: [
      [`if (waitMillis === 0) {`, `if (waitMillis < 0) {`],
      [`Number.isFinite(waitMillis) ?`, `waitMillis > 0 && Number.isFinite(waitMillis) ?`]
    ],
    found: "a wait of 0 fails at once, and says who is in the way"
  },
  {
    name: "nobody is told that a claim waits",
    edits: [[`claim.whenWaiting?.(`, `void (`]],
    found: "says once that a claim has to wait, and who has the key"
  },
  {
    name: "a grant does not say who was in the way",
    edits: [
      [
        `return grantOf(claim, entry.value, contention)`,
        `return grantOf(claim, entry.value, undefined)`
      ]
    ],
    found: "says once that a claim has to wait, and who has the key"
  },
  {
    name: "the ttl never ends",
    edits: [[`expiresAt: since + ttlMillis`, `expiresAt: since + ttlMillis + 60_000`]],
    found: "a key expires when its ttl is over, and the next holder's fencing token is greater"
  },
  {
    name: "an expiry serves nobody",
    edits: [[`() => serve(key))`, `() => {})`]],
    found: "a key expires when its ttl is over, and the next holder's fencing token is greater"
  },
  {
    name: "an expired lease is still ours",
    edits: [
      [
        `if (entry !== undefined && entry.expiresAt > now()) return entry`,
        `if (entry !== undefined && (entry.expiresAt > now() || queueOf(key).length === 0)) return entry`
      ]
    ],
    found: "what has expired is not renewed, though nobody else has asked for it"
  },
  {
    name: "a proof is longer than the ttl",
    edits: [[`entry.expiresAt - ttlMillis * 0.01 - 2`, `entry.expiresAt + ttlMillis`]],
    found: "grants a free key at the first attempt, for no longer than its ttl"
  },
  {
    name: "a proof is on the wall clock",
    edits: [
      [`entry.expiresAt - ttlMillis * 0.01 - 2`, `entry.expiresAt - performance.now() + Date.now()`]
    ],
    found: "grants a free key at the first attempt, for no longer than its ttl"
  },
  {
    name: "a renewal proves more than the map keeps",
    edits: [
      [`entry.expiresAt = now() + ttlMillis`, `entry = { ...entry, expiresAt: now() + ttlMillis }`]
    ],
    found: "renewals keep a lease past its ttl, while others wait"
  },
  {
    name: "a renewal renews nothing",
    edits: [[`entry.expiresAt = now() + ttlMillis`, ``]],
    found: "a renewal gives the full ttl again"
  },
  {
    name: "a renewal does not look at the token",
    edits: [[`if (found !== "Ours") return { _tag: "NotOurs", reason: found }`, ``]],
    found: "renews, verifies and releases for the holder, and nobody else"
  },
  {
    name: "a renewal brings back what has expired",
    edits: [
      [
        `if (found !== "Ours") return { _tag: "NotOurs", reason: found }`,
        `if (found === "Taken") return { _tag: "NotOurs", reason: found }
        entries.set(key, entry)`
      ]
    ],
    found: "what has expired is not renewed, though nobody else has asked for it"
  },
  {
    name: "verifying renews",
    edits: [
      [
        `verify: asked(() => ownershipOf(key, token))`,
        `verify: asked(() => {
        entry.expiresAt = now() + ttlMillis
        return ownershipOf(key, token)
      })`
      ]
    ],
    found: "asking whether a lease is ours does not prolong it"
  },
  {
    name: "keys are not told apart by what is around them",
    edits: [
      [
        `const { key, waitMillis } = claim`,
        `const { waitMillis } = claim
      const key = claim.key.trim()`
      ]
    ],
    found: "keys do not exclude each other, whatever their characters"
  },
  {
    name: "a store is the instance of a class",
    edits: [
      [
        `return { clock, acquire }`,
        `return Object.create({ clock, acquire }) as LockStore.LockStore`
      ]
    ],
    found: "and its grants can be copied with members replaced"
  },
  {
    name: "a grant is the instance of a class",
    edits: [
      [
        `return grantOf(claim, entry, undefined)`,
        `return Object.create(grantOf(claim, entry, undefined)) as LockStore.Grant`
      ]
    ],
    found: "and its grants can be copied with members replaced"
  },
  {
    name: "the clock forgets to call back",
    edits: [[`const timer = setTimeout(callback,`, `const timer = setTimeout(() => {},`]],
    found: "its clock goes on, and calls back when the time has come, unless that is cancelled"
  },
  {
    name: "what is cancelled is called all the same",
    edits: [[`cancel: () => clearTimeout(timer)`, `cancel: () => void timer`]],
    found: "its clock goes on, and calls back when the time has come, unless that is cancelled"
  },
  {
    name: "a member is promised that is not there",
    edits: [
      [
        `return { clock, acquire }`,
        `return { clock, acquire, capabilities: new Set(["look"] as const) }`
      ]
    ],
    found: "has the capabilities that it is tested for, and their members"
  }
]

const source = Fs.readFileSync(
  fileURLToPath(new URL("support/mapStore.ts", import.meta.url)),
  "utf8"
)
const copies = fileURLToPath(new URL("../.cache/mistakes/", import.meta.url))

const broken = async ({ edits, name }: Mistake): Promise<LockStore.LockStore> => {
  let text = source
  for (const [find, replace] of edits) {
    expect(source.split(find).length - 1, `how often there is ${find}`).toBe(1)
    text = text.replace(find, () => replace)
  }
  Fs.mkdirSync(copies, { recursive: true })
  const file = Path.join(copies, `${name.replaceAll(/\W+/g, "-")}.ts`)
  Fs.writeFileSync(file, text)
  const { make } = (await import(pathToFileURL(file).href)) as typeof MapStore
  return make(2)
}

describe.concurrent("a mistake that the contract finds", () => {
  for (const mistake of mistakes) {
    it.live(
      mistake.name,
      () =>
        Effect.gen(function* () {
          const store = yield* Effect.promise(() => broken(mistake))
          const found = cases.filter(({ name }) => name.endsWith(`: ${mistake.found}`))
          expect(found).toHaveLength(1)
          // (a machine that stands still for longer than a ttl can hide a mistake)
          const error = yield* Effect.provideService(
            found[0]!.effect,
            LockStore.LockStore,
            store
          ).pipe(Effect.flip, Effect.retry({ times: 2 }))
          expect(error).toBeInstanceOf(LockStoreContract.ContractBroken)
          expect(error.message).toMatch(/^.+: expected .+, found .*[^.]\.$/s)
          // where a failure is shown, a token is not
          expect(error.message).not.toContain("token: '")
        }),
      30_000
    )
  }
})

// ---------------------------------------------------------------- mistakes of what is more than a lock

/** A store that has everything, with a part of it replaced. */
interface Wrong {
  readonly name: string
  readonly wrong: (store: LockStore.LockStore) => Partial<LockStore.LockStore>
  /** The name of the case that finds it. */
  readonly found: string
}

const withClaim =
  (change: (claim: LockStore.Claim) => Partial<LockStore.Claim>): Wrong["wrong"] =>
  ({ acquire }) => ({
    acquire: (claim, restore) => acquire({ ...claim, ...change(claim) }, restore)
  })

const withGrant =
  (change: (grant: LockStore.Grant) => Partial<LockStore.Grant>): Wrong["wrong"] =>
  ({ acquire }) => ({
    acquire: (claim, restore) =>
      Effect.map(acquire(claim, restore), (grant) => ({ ...grant, ...change(grant) }))
  })

const more: ReadonlyArray<Wrong> = [
  {
    name: "shares are not counted",
    wrong: withClaim(() => ({ share: 1 })),
    found: "of a semaphore: grants what fits, and no more"
  },
  {
    name: "a limit is not one",
    wrong: withClaim(({ limit }) => ({ limit: limit + 1 })),
    found: "of a semaphore: grants what fits, and no more"
  },
  {
    name: "a semaphore has one holder",
    wrong: withClaim(({ limit }) => ({ share: limit })),
    found: "of a semaphore: grants what fits, and no more"
  },
  {
    name: "a claim that does not fit polls, and small ones overtake it",
    wrong: ({ acquire }) => ({
      acquire: (claim, restore) =>
        acquire({ ...claim, waitMillis: 0 }, restore).pipe(
          Effect.tapError(() => Effect.sync(() => claim.whenWaiting?.(() => null as never))),
          Effect.retry({
            while: (error) => error._tag === "LockUnavailable" && claim.waitMillis > 0,
            schedule: Schedule.spaced(5)
          }),
          restore
        )
    }),
    found:
      "of a semaphore: a large claim at the head of the queue is not overtaken, and blocks small ones"
  },
  {
    name: "what fits waits for another's end",
    wrong: withClaim(({ limit, waitMillis }) => (waitMillis > 0 ? { share: limit } : {})),
    found:
      "of a semaphore: all that fit are granted when there is room, without one waiting for another's end"
  },
  {
    name: "the greatest limit counts",
    wrong: withClaim(({ kind, limit }) => (kind === "semaphore" && limit > 1 ? { limit: 5 } : {})),
    found:
      "of a semaphore: nobody's limit is exceeded while it holds, and a limit that differs is told"
  },
  {
    name: "nobody is told that limits differ",
    wrong: withClaim(() => ({ whenLimitDiffers: undefined })),
    found:
      "of a semaphore: nobody's limit is exceeded while it holds, and a limit that differs is told"
  },
  {
    name: "a fencing floor is the grant's own number",
    wrong: withGrant(({ fencingToken }) => ({ fencingFloor: fencingToken })),
    found: "of a semaphore: the fencing floor is no greater than a live holder's fencing token"
  },
  {
    name: "readers exclude each other",
    wrong: withClaim(({ limit }) => ({ share: limit })),
    found: "of a readWriteLock: many read at a time, and a writer is alone"
  },
  {
    name: "a writer enters beside readers",
    wrong: withClaim(() => ({ share: 1 })),
    found: "of a readWriteLock: many read at a time, and a writer is alone"
  },
  {
    name: "making a share smaller is a renewal, and nothing else",
    wrong: withGrant(({ renew }) => ({ reshare: () => renew })),
    found:
      "of a semaphore: a share that is made smaller lets those behind in, and nobody in between"
  },
  {
    name: "kinds have keys of their own",
    wrong: withClaim(({ key, kind }) => ({ key: `${kind}:${key}` })),
    found: "of a lock, and a semaphore: a claim of another kind fails, and changes nothing"
  },
  {
    name: "a look shows tokens",
    wrong: ({ acquire, look }) => {
      let token = ""
      return {
        acquire: (claim, restore) =>
          Effect.tap(acquire(claim, restore), (grant) => Effect.sync(() => (token = grant.token))),
        look: (key, atMost) => Effect.map(look!(key, atMost), (found) => ({ ...found, token }))
      }
    },
    found: "of a lock: look says who holds a key and who waits, and changes nothing"
  },
  {
    name: "a look lists all",
    wrong: ({ look }) => ({ look: (key) => look!(key, 10) }),
    found: "of a lock: look says who holds a key and who waits, and changes nothing"
  },
  {
    name: "a look at a free key says that it is a lock",
    wrong: ({ look }) => ({
      look: (key, atMost) =>
        Effect.map(look!(key, atMost), (found) => ({ ...found, kind: found.kind ?? "lock" }))
    }),
    found: "of a lock: look says who holds a key and who waits, and changes nothing"
  },
  {
    name: "a look names a holder anew each time",
    wrong: ({ look }) => ({
      look: (...question) =>
        Effect.map(look!(...question), (found) => ({
          ...found,
          held: found.held.map((entry) => ({ ...entry, id: `${performance.now()}` }))
        }))
    }),
    found: "of a lock: a look names a holder as it has named the one who waited, if it has names"
  },
  {
    name: "what is asked about has been revoked",
    wrong: ({ look }) => ({
      look: (key, atMost, ended) =>
        Effect.map(look!(key, atMost), (found) => ({ ...found, revoked: ended }))
    }),
    found: "of a lock: revoke ends the lease with that fencing token, and no other"
  },
  {
    name: "keys are all keys",
    wrong: ({ keys }) => ({ keys: () => keys!("") }),
    found: "of a lock: keys lists what is held or waited for, by its beginning"
  },
  {
    name: "keys takes a pattern",
    wrong: ({ keys }) => ({
      keys: (prefix) => Stream.filter(keys!(""), (key) => new RegExp(`^${prefix}`).test(key))
    }),
    found: "of a lock: keys lists what is held or waited for, by its beginning"
  },
  {
    name: "revoke does not look at the number",
    wrong: ({ look, revoke }) => ({
      revoke: (key) =>
        Effect.flatMap(look!(key, 1), ({ held: [first] }) =>
          first === undefined ? Effect.succeed(false) : revoke!(key, first.fencingToken!)
        )
    }),
    found: "of a lock: revoke ends the lease with that fencing token, and no other"
  },
  {
    name: "who was revoked is told that its key is gone",
    wrong: withGrant(({ renew }) => ({
      renew: Effect.map(renew, (renewal) =>
        renewal._tag === "NotOurs" ? { ...renewal, reason: "Missing" as const } : renewal
      )
    })),
    found: "of a lock: revoke ends the lease with that fencing token, and no other"
  }
]

/** An answer that is on its way for some milliseconds: whoever is interrupted then releases the grant. */
const delayed: Wrong["wrong"] = ({ acquire }) => ({
  acquire: (claim, restore) =>
    Effect.tap(acquire(claim, restore), ({ release }) =>
      Effect.onInterrupt(restore(Effect.sleep(3)), () => Effect.orDie(release))
    )
})

const renewedUntil =
  (until: (renewed: number) => number) =>
  (renewal: LockStore.Renewal): LockStore.Renewal =>
    renewal._tag === "Renewed" ? { ...renewal, validUntil: until(renewal.validUntil) } : renewal

const tickRefused = ({ key, tick }: LockStore.Claim) =>
  new LockError.LockUnavailable({
    key,
    waited: Duration.zero,
    holder: { owner: undefined, heldFor: undefined, foreign: false },
    retryAfter: Duration.zero,
    ahead: undefined,
    lastTick: tick
  })

const ofTicks: ReadonlyArray<Wrong> = [
  {
    name: "a tick is granted twice",
    wrong: withClaim(() => ({ tick: undefined })),
    found: "of a lock: a tick is granted once, and then only a later one"
  },
  {
    name: "an earlier tick is granted after a later one",
    wrong: ({ acquire }) => {
      const granted = new Set<string>()
      return {
        acquire: (claim, restore) => {
          const name = `${claim.key} ${claim.tick}`
          return claim.tick !== undefined && granted.has(name)
            ? Effect.fail(tickRefused(claim))
            : Effect.tap(acquire({ ...claim, tick: undefined }, restore), () =>
                Effect.sync(() => granted.add(name))
              )
        }
      }
    },
    found: "of a lock: a tick is granted once, and then only a later one"
  },
  {
    name: "who is refused a tick is not told the last one",
    wrong: ({ acquire }) => ({
      acquire: (claim, restore) =>
        Effect.mapError(acquire(claim, restore), (error) =>
          error._tag === "LockUnavailable"
            ? new LockError.LockUnavailable({ ...error, lastTick: undefined })
            : error
        )
    }),
    found: "of a lock: a tick is granted once, and then only a later one"
  },
  {
    name: "whoever is refused is told a last tick",
    wrong: ({ acquire }) => ({
      acquire: (claim, restore) =>
        Effect.mapError(acquire(claim, restore), (error) =>
          error._tag === "LockUnavailable" ? tickRefused(claim) : error
        )
    }),
    found: "of a lock: a tick is granted once, and then only a later one"
  },
  {
    name: "ticks are kept in 32 bits",
    wrong: withClaim(({ tick }) => ({ tick: tick && tick | 0 })),
    found: "of a lock: ticks are whole numbers of one key, however small or great"
  },
  {
    name: "ticks are those of all keys",
    wrong: ({ acquire }) => {
      let last = Number.NEGATIVE_INFINITY
      return {
        acquire: (claim, restore) => {
          const { tick } = claim
          if (tick === undefined) return acquire(claim, restore)
          if (tick <= last) return Effect.fail(tickRefused({ ...claim, tick: last }))
          return Effect.tap(acquire({ ...claim, tick: undefined }, restore), () =>
            Effect.sync(() => (last = tick))
          )
        }
      }
    },
    found: "of a lock: ticks are whole numbers of one key, however small or great"
  },
  {
    name: "who waits for a tick is told when it is its turn",
    wrong: ({ acquire }) => ({
      acquire: (claim, restore) =>
        claim.waitMillis === 0
          ? acquire(claim, restore)
          : Effect.flatMap(acquire({ ...claim, tick: undefined }, restore), ({ release }) =>
              Effect.zipRight(
                release,
                acquire({ ...claim, waitMillis: 0, whenWaiting: undefined }, restore)
              )
            )
    }),
    found: "of a lock: of those who wait for one tick one is served, and the others fail then"
  },
  {
    name: "who waits for an earlier tick goes on waiting",
    wrong: ({ acquire }) => ({
      acquire: (claim, restore) =>
        Effect.catchAll(acquire(claim, restore), (error) =>
          error._tag === "LockUnavailable" && error.lastTick !== undefined && claim.waitMillis > 0
            ? restore(Effect.never)
            : Effect.fail(error)
        )
    }),
    found: "of a lock: who waits for an earlier tick than one that is granted meanwhile fails then"
  },
  {
    name: "a tick is forgotten with its lease",
    wrong: withClaim(({ ttlMillis }) => ({ tickKeptMillis: ttlMillis })),
    found: "of a lock: a tick is remembered when its lease has expired"
  },
  {
    name: "a grant that nobody has keeps its tick",
    wrong: delayed,
    found: "of a lock: a grant that did not come to its caller leaves its tick to another one"
  }
]

const most = "no renewal reaches beyond maxHoldMillis, and the next waiter is served then"
const least = "a release before holdAtLeastMillis leaves the key held until then, by nobody"

const ofBounds: ReadonlyArray<Wrong> = [
  {
    name: "maxHold is not looked at",
    wrong: withClaim(() => ({ maxHoldMillis: undefined })),
    found: `of a lock: ${most}`
  },
  {
    name: "a renewal proves more than what is left of maxHold",
    wrong: withGrant(({ renew }) => ({
      renew: Effect.map(
        renew,
        renewedUntil((until) => until + 1_000)
      )
    })),
    found: `of a semaphore: ${most}`
  },
  {
    name: "holdUntil is a ttl more",
    wrong: withGrant(({ holdUntil }) => ({ holdUntil: holdUntil! + 2_000 })),
    found: `of a readWriteLock: ${most}`
  },
  {
    name: "at maxHold renewals end, and the key is held for another ttl",
    wrong: ({ acquire, clock }) => ({
      acquire: (claim, restore) =>
        Effect.map(acquire({ ...claim, maxHoldMillis: undefined }, restore), (grant) => {
          const { maxHoldMillis = Number.POSITIVE_INFINITY } = claim
          const until = clock.unsafeNow() + maxHoldMillis
          const renew = Effect.map(
            grant.renew,
            renewedUntil((renewed) => Math.min(renewed, until))
          )
          const over: LockStore.Renewal = { _tag: "NotOurs", reason: "Missing" }
          return {
            ...grant,
            renew: Effect.suspend(() => (clock.unsafeNow() < until ? renew : Effect.succeed(over)))
          }
        })
    }),
    found: `of a lock: ${most}`
  },
  {
    name: "maxHold ends a lease before its time",
    wrong: withClaim(({ maxHoldMillis }) => ({
      maxHoldMillis: maxHoldMillis && maxHoldMillis - 500
    })),
    found: `of a lock: ${most}`
  },
  {
    name: "maxHold is counted from the question",
    wrong: ({ acquire, clock }) => ({
      acquire: (claim, restore) =>
        Effect.suspend(() => {
          const until = clock.unsafeNow() + (claim.maxHoldMillis ?? Number.POSITIVE_INFINITY)
          const over: LockStore.Renewal = { _tag: "NotOurs", reason: "Missing" }
          return Effect.map(acquire(claim, restore), (grant) => ({
            ...grant,
            renew: Effect.suspend(() =>
              clock.unsafeNow() < until ? grant.renew : Effect.succeed(over)
            )
          }))
        })
    }),
    found: "of a lock: maxHoldMillis is counted from the grant of each claim"
  },
  {
    name: "a release before holdAtLeast frees the key",
    wrong: withClaim(() => ({ holdAtLeastMillis: undefined })),
    found: `of a lock: ${least}`
  },
  {
    name: "a release before holdAtLeast is told as a loss",
    wrong: withGrant(({ release }) => ({ release: Effect.as(release, "Missing" as const) })),
    found: `of a semaphore: ${least}`
  },
  {
    name: "a release before holdAtLeast does nothing",
    wrong: withGrant(() => ({ release: Effect.succeed("Ours" as const) })),
    found: `of a lock: ${least}`
  },
  {
    name: "what is held by nobody can be renewed",
    wrong: withGrant(({ renew, validUntil }) => ({
      renew: Effect.as(renew, { _tag: "Renewed" as const, validUntil })
    })),
    found: `of a readWriteLock: ${least}`
  },
  {
    name: "a lease is proven for as long as holdAtLeast",
    wrong: withGrant(({ validUntil }) => ({ validUntil: validUntil + 2_000 })),
    found: `of a lock: ${least}`
  },
  {
    name: "holdAtLeast is twice as long",
    wrong: withClaim(({ holdAtLeastMillis }) => ({
      holdAtLeastMillis: holdAtLeastMillis && 2 * holdAtLeastMillis
    })),
    found: `of a lock: ${least}`
  },
  {
    name: "only claims that do not wait have holdAtLeast",
    wrong: withClaim(({ holdAtLeastMillis, waitMillis }) => ({
      holdAtLeastMillis: waitMillis === 0 ? holdAtLeastMillis : undefined
    })),
    found: "of a lock: of a claim that has waited, holdAtLeastMillis is counted from its grant"
  },
  {
    name: "a renewal shortens holdAtLeast to the ttl",
    wrong: ({ acquire, revoke }) => ({
      acquire: (claim, restore) =>
        Effect.map(acquire(claim, restore), (grant) => ({
          ...grant,
          renew: Effect.tap(grant.renew, () =>
            Effect.forkDaemon(Effect.delay(revoke!(claim.key, grant.fencingToken), claim.ttlMillis))
          )
        }))
    }),
    found: "of a semaphore: a holder that dies leaves the key held for holdAtLeastMillis as well"
  },
  {
    name: "a release after holdAtLeast leaves the key held",
    wrong: withClaim(({ holdAtLeastMillis }) => ({
      holdAtLeastMillis: holdAtLeastMillis && holdAtLeastMillis + 8_000
    })),
    found: "of a lock: a release after holdAtLeastMillis serves the next"
  },
  {
    name: "a grant that nobody has is held for as long as holdAtLeast",
    wrong: delayed,
    found: "of a lock: what did not come to its caller is not held for holdAtLeastMillis"
  }
]

/** Adopts in another way. */
const adoptingBy =
  (
    adopt: (
      store: LockStore.LockStore,
      claim: LockStore.Claim,
      restore: LockStore.Restore,
      grants: ReadonlyMap<string, LockStore.Grant>
    ) => ReturnType<LockStore.LockStore["acquire"]>
  ): Wrong["wrong"] =>
  (store) => {
    const grants = new Map<string, LockStore.Grant>()
    return {
      acquire: (claim, restore) =>
        Effect.tap(
          claim.adopt === undefined
            ? store.acquire(claim, restore)
            : adopt(store, claim, restore, grants),
          (grant) => Effect.sync(() => grants.set(grant.token, grant))
        )
    }
  }

const before =
  "a lease that is handed over is adopted before who waits, and its old holder has it no more"

const ofHandingOver: ReadonlyArray<Wrong> = [
  {
    name: "an adoption leaves the old token valid",
    wrong: adoptingBy((_, { adopt }, __, grants) => {
      const old = grants.get(adopt!.token)!
      return Effect.succeed({ ...old, token: "another", fencingToken: old.fencingToken + 1 })
    }),
    found: `of a lock: ${before}`
  },
  {
    name: "an adoption goes on with the old token",
    wrong: adoptingBy((_, { adopt }, __, grants) => {
      const old = grants.get(adopt!.token)!
      return Effect.succeed({ ...old, fencingToken: old.fencingToken + 1 })
    }),
    found: `of a lock: ${before}`
  },
  {
    name: "an adoption goes on with the old fencing token",
    wrong: adoptingBy((store, claim, restore) =>
      Effect.map(store.acquire(claim, restore), (grant) => ({
        ...grant,
        fencingToken: claim.adopt!.fencingToken
      }))
    ),
    found: `of a semaphore: ${before}`
  },
  {
    name: "handing over gives back",
    wrong: withGrant(({ handOver, release }) => ({ handOver: Effect.zipLeft(handOver!, release) })),
    found: `of a readWriteLock: ${before}`
  },
  {
    name: "who adopts waits behind those who waited before",
    wrong: adoptingBy((store, { adopt, ...claim }, restore) =>
      Effect.zipRight(
        store.revoke!(claim.key, adopt!.fencingToken),
        store.acquire({ ...claim, waitMillis: Number.POSITIVE_INFINITY }, restore)
      )
    ),
    found: `of a lock: ${before}`
  },
  {
    name: "a grant has no handOver",
    wrong: withGrant(() => ({ handOver: undefined as never })),
    found: `of a lock: ${before}`
  },
  {
    name: "what was handed over is adopted twice",
    wrong: (store) => {
      const adoptions = new Map<string, LockStore.Grant>()
      return adoptingBy((_, claim, restore) => {
        const { token } = claim.adopt!
        const adopted = adoptions.get(token)
        return adopted === undefined
          ? Effect.tap(store.acquire(claim, restore), (grant) =>
              Effect.sync(() => adoptions.set(token, grant))
            )
          : Effect.succeed(adopted)
      })(store)
    },
    found: "of a lock: what was handed over is adopted once"
  },
  {
    name: "who adopts in vain asks for the key, as any other",
    wrong: adoptingBy((store, claim, restore) =>
      Effect.catchTag(store.acquire(claim, restore), "LockLost", () =>
        store.acquire({ ...claim, adopt: undefined }, restore)
      )
    ),
    found: "of a lock: what was handed over is adopted once"
  },
  {
    name: "who adopts in vain is told that the key is busy",
    wrong: adoptingBy((store, claim, restore) =>
      Effect.catchTag(store.acquire(claim, restore), "LockLost", () =>
        Effect.fail(tickRefused(claim))
      )
    ),
    found: "of a semaphore: what was handed over is adopted once"
  },
  {
    name: "handing over does not renew",
    wrong: withGrant(({ validUntil }) => ({
      handOver: Effect.succeed({ _tag: "Renewed", validUntil })
    })),
    found: "of a lock: what was handed over ends by its full ttl, and is not adopted then"
  },
  {
    name: "handing over proves more than it renews",
    wrong: withGrant(({ validUntil }) => ({
      handOver: Effect.succeed({ _tag: "Renewed", validUntil: validUntil + 500 })
    })),
    found: "of a lock: what was handed over ends by its full ttl, and is not adopted then"
  },
  {
    name: "what has expired is handed over",
    wrong: withGrant(({ handOver, validUntil }) => ({
      handOver: Effect.as(handOver!, { _tag: "Renewed" as const, validUntil })
    })),
    found: "of a lock: what has expired is not handed over, nor adopted"
  },
  {
    name: "a lease is adopted with the ttl that it had",
    wrong: adoptingBy((store, claim, restore) =>
      store.acquire({ ...claim, ttlMillis: 60_000 }, restore)
    ),
    found: "of a lock: a lease is adopted with the ttl of who adopts it"
  },
  {
    name: "an adoption that is interrupted goes on",
    wrong: ({ acquire }) => ({
      acquire: (claim, restore) =>
        Effect.zipLeft(
          acquire(claim, restore),
          claim.adopt === undefined ? Effect.void : restore(Effect.sleep(3))
        )
    }),
    found:
      "of a lock: an adoption that is interrupted at any moment locks nothing for longer than its ttl"
  },
  {
    name: "a lease is adopted with the share that its claim says",
    wrong: adoptingBy((store, claim, restore) =>
      Effect.tap(store.acquire(claim, restore), ({ reshare }) =>
        Effect.orDie(reshare!(claim.share))
      )
    ),
    found: "of a semaphore: a lease is adopted with the share and the limit that it has"
  },
  {
    name: "a lease is adopted with the limit that its claim says",
    wrong: adoptingBy((store, { adopt, ...claim }, restore) =>
      Effect.zipRight(
        store.revoke!(claim.key, adopt!.fencingToken),
        store.acquire({ ...claim, share: 2, limit: 3 }, restore)
      )
    ),
    found: "of a semaphore: a lease is adopted with the share and the limit that it has"
  }
]

describe.concurrent("a mistake in what is more than a lock", () => {
  for (const { found, name, wrong } of [...more, ...ofTicks, ...ofBounds, ...ofHandingOver]) {
    it.live(
      name,
      () =>
        Effect.gen(function* () {
          const store = yield* MemoryLockStore.make
          const [one, ...others] = LockStoreContract.cases(store).filter(
            (other) => other.name === found
          )
          expect(others).toEqual([])
          const run = (tried: LockStore.LockStore) =>
            Effect.provideService(one!.effect, LockStore.LockStore, tried)
          yield* run(store)
          const error = yield* Effect.flip(run({ ...store, ...wrong(store) }))
          expect(error).toBeInstanceOf(LockStoreContract.ContractBroken)
          expect(error.message).not.toContain("token: '")
        }),
      60_000
    )
  }
})
