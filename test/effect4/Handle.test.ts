/** A lease on its way from one process to another, on Effect 4. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import {
  type Lease,
  Lock,
  type LockStore,
  MemoryLockStore,
  RedisLockStore
} from "effect-redis-lock/effect4"
import { Handle, type HandleEncoded } from "effect-redis-lock/effect4/Handle"
import { expect, expectTypeOf, it } from "vitest"
import { writtenHandle } from "../support/writtenHandle.js"
import { redisServer, run, storeOf } from "./support.js"

const Json = Schema.fromJsonString(Handle)

const sent = (handle: Handle) =>
  Effect.flatMap(Schema.encodeEffect(Json)(handle), Schema.decodeEffect(Json))

it("a lease goes on in another process, through JSON, with a greater fencing token", () =>
  run(
    Effect.gen(function* () {
      const server = yield* redisServer()
      const old = yield* storeOf(RedisLockStore.layer({ url: server.url }))
      const next = yield* storeOf(RedisLockStore.layer({ url: server.url }))
      const lease = yield* old.use(Lock.acquire("k", { ttl: "1 minute", maxHold: "1 hour" }))
      const handle = yield* lease.handOver
      expect(yield* lease.isHeld).toBe(false)
      const adopted = yield* next.use(Effect.flatMap(sent(handle), (handle) => Lock.adopt(handle)))
      expect(adopted.fencingToken).toBeGreaterThan(lease.fencingToken)
      yield* adopted.verify
      const again = yield* next.use(Effect.flip(Effect.flatMap(sent(handle), Lock.adopt)))
      expect(again).toMatchObject({ _tag: "LockLost" })
    })
  ))

it("a handle is the same after it was sent; what has been changed is refused, and no token told", () =>
  run(
    Effect.gen(function* () {
      const lease = yield* Lock.acquire("k", {
        ttl: "1 minute",
        maxHold: "1 hour",
        holdAtLeast: "1 second"
      })
      const handle = yield* lease.handOver
      const again = yield* sent(handle)
      expect(Redacted.value(again.token)).toBe(Redacted.value(handle.token))
      expect({ ...again, token: handle.token }).toEqual(handle)
      const encoded = yield* Schema.encodeEffect(Handle)(handle)
      expect(encoded).toMatchObject({ ttl: 60_000, maxHold: 3_600_000, holdAtLeast: 1_000 })
      const changes: ReadonlyArray<Record<string, unknown>> = [
        { key: "other" },
        { token: `${encoded.token}x` },
        { token: 7 },
        { fencingToken: encoded.fencingToken + 1 },
        { fencingToken: String(encoded.fencingToken) },
        { share: 2 },
        { ttl: 3_600_000 },
        { ttl: -1 },
        { store: "elsewhere" },
        { maxHold: undefined },
        { holdAtLeast: 1 },
        { firstFencingToken: 1 },
        { kind: "semaphore" },
        { kind: "other" },
        { seal: "" },
        { version: 2 }
      ]
      for (const change of changes) {
        const error = yield* Effect.flip(
          Schema.decodeUnknownEffect(Handle)({ ...encoded, ...change })
        )
        expect(error._tag).toBe("SchemaError")
        expect(String(error)).not.toContain(encoded.token)
      }
      const changed = yield* Effect.flip(Schema.decodeEffect(Handle)({ ...encoded, limit: 2 }))
      expect(String(changed)).toContain("its seal does not fit")
    }).pipe(Effect.provide(MemoryLockStore.layer))
  ))

it("what a process on Effect 3 has written is read, and written the same", () =>
  run(
    Effect.gen(function* () {
      const handle = yield* Schema.decodeEffect(Json)(writtenHandle)
      expect(handle.key).toBe("invoice:42")
      expect(JSON.parse(yield* Schema.encodeEffect(Json)(handle))).toEqual(
        JSON.parse(writtenHandle)
      )
    })
  ))

it("its types are those that are documented", () => {
  expectTypeOf<Effect.Success<Lease.Lease["handOver"]>>().toExtend<Handle>()
  expectTypeOf(Schema.encodeEffect(Handle)).returns.toEqualTypeOf<
    Effect.Effect<HandleEncoded, Schema.SchemaError>
  >()
  expectTypeOf<Handle["maxHold"]>().toEqualTypeOf<Duration.Duration | undefined>()
  expectTypeOf(Lock.adopt).returns.toExtend<
    Effect.Effect<Lease.Lease, unknown, LockStore.LockStore | Scope.Scope>
  >()
  expect(Handle).toBeDefined()
})
