/** The store as its face asks it, without effects: a claim can be cancelled at any time. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { AcquireExit, Claim, Store } from "../../src/internal/engine.js"
import { inside } from "../support/inside.js"
import { internals, nothing } from "../support/Queue.js"
import { environment, RedisServer } from "./support.js"

const claim = (waitMillis: number): Claim => ({
  key: "k",
  kind: "lock",
  share: 1,
  limit: 1,
  ttlMillis: 60_000,
  waitMillis,
  owner: undefined
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
})
