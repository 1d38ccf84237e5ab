/** The store as its face asks it, without effects: a claim can be cancelled at any time. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { setImmediate } from "node:timers/promises"
import type { AcquireExit, Claim, Store } from "../../src/internal/engine.js"
import { inside } from "../support/inside.js"
import { environments, idle, internals, nothing, strict } from "../support/Queue.js"
import { environment, nothingLeft, RedisServer, seeded } from "./support.js"

const claim = (waitMillis: number, more?: Partial<Claim>): Claim => ({
  key: "k",
  kind: "lock",
  share: 1,
  limit: 1,
  ttlMillis: 60_000,
  waitMillis,
  owner: undefined,
  ...more
})

layer(RedisServer.layer(), { excludeTestServices: true })("a claim that is cancelled", (it) => {
  for (const [how, waitMillis] of [
    ["a single attempt", 0],
    ["in its turn", Number.POSITIVE_INFINITY]
  ] as const) {
    const start = Effect.gen(function* () {
      const { server, store } = yield* environment()
      const exits: Array<AcquireExit> = []
      const cancel = inside<Store>(store).acquire(claim(waitMillis), (exit) => exits.push(exit))
      const isFree = RedisServer.eventually(
        Effect.map(
          server.command("EXISTS", "k"),
          (exists) =>
            exists === 0 && Object.values(internals(store).size()).every((size) => size === 0)
        )
      )
      return { cancel, exits, isFree, store }
    })

    it.scoped(`before its answer came leaves nothing (${how})`, () =>
      Effect.gen(function* () {
        const { cancel, exits, isFree, store } = yield* start
        yield* Effect.yieldNow()
        cancel()
        yield* isFree
        expect(exits).toEqual([])
        expect(internals(store).size()).toEqual(nothing)
      })
    )

    it.scoped(`when nobody has taken its grant gives that back (${how})`, () =>
      Effect.gen(function* () {
        const { cancel, exits, isFree, store } = yield* start
        yield* RedisServer.eventually(Effect.sync(() => exits.length === 1))
        expect(exits[0]!._tag).toBe("Granted")
        cancel()
        yield* isFree
        expect(internals(store).size()).toEqual(nothing)
      })
    )
  }

  for (const [kind, limit] of [
    ["lock", 1],
    ["semaphore", 4]
  ] as const) {
    it.scoped(`of three thousand, at random moments, leaves nothing (${kind})`, () =>
      Effect.gen(function* () {
        const made = yield* environments([{}, {}, strict])
        const { server } = made[0]
        const stores = made.map(({ store }) => inside<Store>(store))
        const random = seeded(limit)
        const below = (count: number) => Math.floor(random() * count)
        const turns = async (count: number) => {
          for (let turn = 0; turn < count; turn++) await setImmediate()
        }
        const inUse = new Map<string, number>()
        const seen = { cancelled: 0, released: 0, most: 0 }
        /** Asks, and cancels after some turns of the event loop, or releases what was granted by then. */
        const one = async (): Promise<void> => {
          const key = `${kind} ${below(12)}`
          const share = Math.min(limit, 1 + below(3))
          const waitMillis = below(4) === 0 ? 0 : Number.POSITIVE_INFINITY
          let exit: AcquireExit | undefined
          let hear: () => void
          const answered = new Promise<void>((resolve) => (hear = resolve))
          const cancel = stores[below(3)]!.acquire(
            claim(waitMillis, { key, kind, share, limit }),
            (answer) => {
              exit = answer
              hear()
              if (answer._tag !== "Granted") return
              inUse.set(key, (inUse.get(key) ?? 0) + share)
              seen.most = Math.max(seen.most, inUse.get(key)!)
            }
          )
          const patience = below(4)
          // (some wait until they have an answer, however slow that is)
          if (patience === 0) await answered
          await turns(patience < 2 ? below(8) : below(200))
          const grant = exit?._tag === "Granted" ? exit.grant : undefined
          if (grant !== undefined) inUse.set(key, inUse.get(key)! - share)
          if (grant === undefined || below(2) === 0) {
            seen.cancelled++
            cancel()
          } else {
            seen.released++
            grant.release(stores[0]!.clock.unsafeNow(), () => undefined)
          }
        }
        yield* Effect.forEach(Array.from({ length: 3_000 }), () => Effect.promise(one), {
          concurrency: 60,
          discard: true
        })
        expect(seen.cancelled).toBeGreaterThan(500)
        expect(seen.released).toBeGreaterThan(100)
        expect(seen.most).toBe(limit)
        for (const { store } of made) yield* idle(store)
        yield* nothingLeft(server)
      })
    )
  }
})
