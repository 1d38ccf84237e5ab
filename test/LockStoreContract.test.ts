/** The store contract, run against a store that knows nothing of this library but its docs, and against broken ones. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { LockStore } from "effect-redis-lock"
import * as LockStoreContract from "effect-redis-lock/LockStoreContract"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import * as MapStore from "./support/mapStore.js"

const cases = LockStoreContract.cases()

describe("a store that was written from the docs alone", () => {
  const store = MapStore.make(2)
  for (const { effect, name, timeoutMillis } of cases) {
    it.live(name, () => Effect.provideService(effect, LockStore.LockStore, store), timeoutMillis)
  }
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
          const error = yield* Effect.flip(
            Effect.provideService(found[0]!.effect, LockStore.LockStore, store)
          )
          expect(error).toBeInstanceOf(LockStoreContract.ContractBroken)
          expect(error.message).toMatch(/: expected .*, found .*\.$/s)
        }),
      30_000
    )
  }
})
