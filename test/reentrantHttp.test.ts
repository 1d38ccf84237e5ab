/** The lock of a request, taken again by what handles it: by itself, since HttpLock is of Effect 3's HTTP. */
import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { describe, expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Lock, LockStore } from "effect-redis-lock"
import * as HttpLock from "effect-redis-lock/HttpLock"
import { untilFree } from "./support/several.js"
import { freshKey, stores } from "./support/stores.js"

describe.each(stores)("%s", (_, store) => {
  layer(store, { excludeTestServices: true })("a lock inside of its own", (it) => {
    it.scoped("under a lock of a request", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const store = yield* LockStore.LockStore
        const perKey = HttpLock.make({ key: () => key, reentrant: true, waitAtMost: 0 })
        const app = HttpLock.CurrentLease.pipe(
          Effect.flatMap(({ fencingToken }) =>
            Effect.map(
              Lock.withLock(key, { reentrant: true })((lease) => Effect.succeed(lease)),
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
  })
})
