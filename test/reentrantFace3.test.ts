/** The option `reentrant`, where Effect 3 differs from Effect 4: requests of @effect/platform, and FiberRefs. */
import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { describe, expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import * as Layer from "effect/Layer"
import { type Lease, Lock, LockStore } from "effect-redis-lock"
import * as HttpLock from "effect-redis-lock/HttpLock"
import { untilFree } from "./support/several.js"
import { freshKey, quiet, stores } from "./support/stores.js"

const reentrant = { reentrant: true } as const
const fenceOf = ({ fencingToken, token }: Lease.Lease) => Effect.succeed({ fencingToken, token })
const mark = FiberRef.unsafeMake(0)

describe.each(stores)("%s", (_, rawStore) => {
  layer(Layer.merge(rawStore, quiet), { excludeTestServices: true })(
    "a lock inside of itself",
    (it) => {
      it.scoped("under a lock of a request", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const store = yield* LockStore.LockStore
          const perKey = HttpLock.make({ key: () => key, ...reentrant, waitAtMost: 0 })
          const app = HttpLock.CurrentLease.pipe(
            Effect.flatMap(({ fencingToken }) =>
              Effect.map(
                Lock.withLock(key, reentrant)(fenceOf),
                (inner) => inner.fencingToken === fencingToken
              )
            ),
            Effect.map((isSame) => HttpServerResponse.text(String(isSame)))
          )
          const handler = HttpApp.toWebHandler(
            Effect.provideService(perKey(perKey(app)), LockStore.LockStore, store)
          )
          const response = yield* Effect.promise(() => handler(new Request("http://localhost/")))
          expect([response.status, yield* Effect.promise(() => response.text())]).toEqual([
            200,
            "true"
          ])
          yield* untilFree(key)
        })
      )

      it.scoped("gives back the FiberRefs that it has set", () =>
        Effect.gen(function* () {
          const key = freshKey()
          yield* Lock.withLock(key)(Lock.withLock(key, reentrant)(FiberRef.set(mark, 7)))
          expect(yield* FiberRef.get(mark)).toBe(7)
        })
      )
    }
  )
})
