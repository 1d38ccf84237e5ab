/** The callers of one process that want one key: nobody is forgotten, and nobody runs beside another. */
import { expect, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { Lock, type LockStore, RedisLockStore } from "effect-redis-lock"
import type { Outcome } from "../../src/internal/redis/call.js"
import { noScript, type RedisClient } from "../../src/internal/redis/client.js"
import { Commands } from "../../src/internal/redis/commands.js"
import { GivenClient } from "../../src/internal/redis/given.js"
import { lockProtocol } from "../../src/internal/redis/protocol.js"
import * as scripts from "../../src/internal/redis/scripts.js"
import { processClock } from "../../src/internal/common/timers.js"
import { awaitQueued, caller, idle, keysOf, strangeToken } from "../support/Queue.js"
import {
  connectedClient,
  environment,
  failure,
  FaultProxy,
  nothingLeft,
  pttl,
  quietly,
  RedisServer,
  seeded,
  storeOf,
  touching,
  turns,
  untilTogether
} from "./support.js"
import { inside } from "../support/inside.js"

/** Whether a script was sent by its text, and which. */
const isText =
  (script: scripts.Script) =>
  (args: ReadonlyArray<string>): boolean =>
    args[0]?.toLowerCase() === "eval" && args[1] === script.lua

const isScript =
  (script: scripts.Script) =>
  (args: ReadonlyArray<string>): boolean =>
    isText(script)(args) || (args[0]?.toLowerCase() === "evalsha" && args[1] === script.sha)

/** Of a caller that nobody has forgotten. */
const soon = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.timeout(effect, "5 seconds")

layer(RedisServer.layer(), { excludeTestServices: true })("nobody is forgotten", (it) => {
  // the handoff within the process overtakes the second try of an acquire
  for (const variant of ["in a batch", "forgotten by the server"] as const) {
    it.scoped(`who were passed a lease while their own acquire was under way, ${variant}`, () =>
      Effect.gen(function* () {
        const { proxy, server, store, use } = yield* environment()
        yield* untilTogether({ store, use })
        proxy.forget()
        proxy.holdReplies()
        const first = yield* Effect.fork(
          use(Lock.withLockIfAvailable("k", { ttl: 300 })(Effect.void))
        )
        yield* proxy.awaitReply(touching("k"))
        proxy.holdRequests()
        const second = Lock.withLock("k", { ttl: 300 })(Effect.sleep(500))
        const others = yield* Effect.fork(
          variant === "in a batch"
            ? Effect.all([second, Lock.withLock("z")(Effect.void)], { concurrency: 2 }).pipe(use)
            : use(second)
        )
        yield* proxy.heldRequests
        expect(proxy.commands.filter(isScript(scripts.batch))).toHaveLength(
          variant === "in a batch" ? 1 : 0
        )
        if (variant !== "in a batch") yield* server.command("SCRIPT", "FLUSH")
        proxy.releaseReplies()
        yield* proxy.awaitCommand(isScript(scripts.pass))
        proxy.releaseRequests()
        yield* Fiber.join(first)
        yield* soon(Fiber.join(others))
        // neither a place, nor anybody behind it
        yield* nothingLeft(server)
        yield* idle(store)
        yield* soon(Lock.withLock("k", { ttl: 300 })(Effect.void).pipe(use))
      })
    )
  }

  it.scoped("whose place is lost behind a lease that is dead, and was not released", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment()
        yield* Lock.withLock("warm")(Effect.void).pipe(use)
        const scope = yield* Scope.make()
        // in one tick: the waiter has a place although the lock is this process's
        const taking = yield* Effect.fork(
          Lock.tryAcquire("k", { ttl: 600 }).pipe(use, Scope.extend(scope))
        )
        const waiting = yield* Effect.fork(
          Lock.withLock("k", { ttl: 1_200 })(Effect.succeed("in")).pipe(use)
        )
        const lease = yield* Fiber.join(taking)
        yield* awaitQueued(server, "k", 1)
        proxy.blackHole({ drop: true })
        expect(yield* Effect.flip(lease.awaitLost)).toMatchObject({ reason: "Unreachable" })
        yield* server.flush
        proxy.heal()
        expect(yield* soon(Fiber.join(waiting))).toBe("in")
        yield* Effect.exit(Scope.close(scope, Exit.void))
      })
    )
  )

  it.scoped("a line is where somebody waits or holds, and whoever waits has a next step", () =>
    quietly(
      Effect.gen(function* () {
        const { server, store, use } = yield* environment()
        interface Insides {
          readonly key: string
          readonly waiters: ReadonlySet<unknown>
          readonly tenures: ReadonlyArray<{ readonly watch: unknown }>
          readonly places: ReadonlyArray<unknown>
        }
        const wrong: Array<string> = []
        const look = () => {
          const { lines } = inside<{ readonly lines: ReadonlyArray<Insides> }>(store)
          for (const { key, places, tenures, waiters } of lines) {
            const watched = tenures.filter(({ watch }) => watch !== undefined).length
            const has = `${key}: ${waiters.size} waiters, ${places.length} places, ${tenures.length} tenures, ${watched} watched`
            const idleLine = waiters.size === 0 && tenures.length === 0
            const ghost = waiters.size < places.length
            const stuck =
              waiters.size > places.length &&
              places.length === 0 &&
              (tenures.length === 0 || watched < tenures.length)
            if (idleLine || ghost || stuck) wrong.push(has)
          }
        }
        const random = seeded(20)
        const pick = <A>(...of: ReadonlyArray<A>): A => of[Math.floor(random() * of.length)]!
        const one = Effect.gen(function* () {
          const key = pick("a", "b", "c")
          const ttl = pick(200, 200, 5_000)
          const body = pick(Effect.void, turns(2), Effect.sleep(pick(1, 5, 20)))
          const what = random()
          const locked =
            what < 0.25
              ? Lock.withLockIfAvailable(key, { ttl })(body)
              : what < 0.5
                ? Lock.withLock(key, { ttl, waitAtMost: pick(1, 5, 20) })(body)
                : Lock.withLock(key, { ttl })(body)
          const cut = what > 0.75 ? Effect.timeoutOption(locked, pick(0, 1, 3, 10)) : locked
          yield* Effect.exit<unknown, unknown, LockStore.LockStore>(cut).pipe(use)
          look()
          if (random() < 0.02) yield* server.command("DEL", key)
          look()
        })
        yield* Effect.forEach(
          Array.from({ length: 20 }),
          () => Effect.repeatN(Effect.zipRight(one, turns(1)), 19),
          { concurrency: "unbounded", discard: true }
        ).pipe(Effect.timeout("20 seconds"))
        expect(wrong).toEqual([])
        yield* idle(store)
        yield* nothingLeft(server)
      })
    )
  )
})

layer(RedisServer.layer(), { excludeTestServices: true })("what was granted to nobody", (it) => {
  for (const [way, take] of Object.entries({
    acquire: Lock.acquire,
    tryAcquire: Lock.tryAcquire
  })) {
    it.scoped(`is given back after an outage, however long, while its ttl lasts (${way})`, () =>
      quietly(
        Effect.gen(function* () {
          const server = yield* RedisServer.RedisServer
          yield* server.flush
          const proxy = yield* FaultProxy.make(server.port)
          const client = yield* connectedClient(proxy.port, {
            maxRetriesPerRequest: 0,
            enableOfflineQueue: false,
            retryStrategy: () => 50
          })
          const { store, use } = yield* storeOf(RedisLockStore.layerFromClient(client))
          // a claim window of 150 ms instead of three seconds
          Object.assign(inside<{ readonly around: object }>(store).around, {
            heartbeatMillis: 50
          })
          yield* Lock.withLock("warm")(Effect.void).pipe(use)
          const trap = proxy.resetAfterApply(touching("k"))
          const asking = yield* Effect.fork(
            Effect.exit(Effect.scoped(take("k", { ttl: 30_000 })).pipe(use))
          )
          yield* trap.fired
          proxy.refuse()
          expect(failure(yield* Fiber.join(asking))).toMatchObject({ _tag: "LockStoreError" })
          // longer than the claim window and the pause between two attempts
          yield* Effect.sleep(600)
          expect(yield* pttl(server, "k")).toBeGreaterThan(20_000)
          proxy.accept()
          yield* soon(nothingLeft(server))
        })
      )
    )
  }
})

layer(RedisServer.layer(), { excludeTestServices: true })("a release", (it) => {
  /** What a server says that has done nothing. */
  const refusals = [
    "READONLY You can't write against a read only replica.",
    "LOADING",
    "CLUSTERDOWN"
  ]

  const withRefusal = (
    message: string,
    meanwhile: (server: RedisServer.RedisProcess) => Effect.Effect<unknown>
  ) =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const client = yield* connectedClient(server.port)
      const { use } = yield* storeOf(RedisLockStore.layerFromClient(client))
      yield* Lock.withLock("warm")(Effect.void).pipe(use)
      const evalsha = client.evalsha.bind(client) as (
        ...args: ReadonlyArray<unknown>
      ) => Promise<unknown>
      const refuse = Effect.sync(() => {
        let refused = false
        Object.assign(client, {
          evalsha: async (...args: ReadonlyArray<unknown>) => {
            if (refused) return evalsha(...args)
            refused = true
            await Effect.runPromise(meanwhile(server))
            throw Object.assign(new Error(message), { name: "ReplyError" })
          }
        })
      })
      return yield* Effect.exit(Lock.withLock("k", { ttl: 30_000 })(refuse).pipe(use))
    })

  for (const message of refusals) {
    const name = message.split(" ")[0]!
    it.scoped(`that was refused, and then finds another there, tells of the loss (${name})`, () =>
      quietly(
        Effect.gen(function* () {
          const taken = yield* withRefusal(message, (server) =>
            server.command("SET", "k", strangeToken(), "PX", 60_000)
          )
          expect(failure(taken)).toMatchObject({ _tag: "LockLost", reason: "Taken" })
          const gone = yield* withRefusal(message, (server) => server.command("DEL", "k"))
          expect(failure(gone)).toMatchObject({ _tag: "LockLost", reason: "Missing" })
        })
      )
    )
  }

  it.scoped("that was refused, and then does its work, is a release", () =>
    Effect.gen(function* () {
      expect(yield* withRefusal(refusals[0]!, () => Effect.void)).toEqual(Exit.void)
      yield* nothingLeft(yield* RedisServer.RedisServer)
    })
  )
})

layer(RedisServer.layer(), { excludeTestServices: true })("nobody runs beside another", (it) => {
  it.scoped("a renewal that comes behind a handoff does not shorten the next one's ttl", () =>
    Effect.gen(function* () {
      const { proxy, server, use } = yield* environment()
      // the renewal goes by its digest, the handoff by its text
      yield* Lock.withLock("k", { ttl: 300, renewEvery: 20 })(
        proxy.awaitReply(isScript(scripts.renew))
      ).pipe(use)
      const done = yield* Deferred.make<void>()
      yield* Effect.fork(
        Lock.withLock("k", { ttl: 1_000, renewEvery: 100 })(Deferred.await(done)).pipe(use)
      )
      yield* RedisServer.eventually(Effect.map(pttl(server, "k"), (left) => left > 0))
      const next = yield* caller(use, "k", { ttl: 20_000 })
      proxy.forget()
      proxy.holdRequests()
      yield* proxy.awaitCommand(isScript(scripts.renew))
      yield* Deferred.succeed(done, undefined)
      yield* proxy.awaitCommand(isText(scripts.pass))
      yield* server.command("SCRIPT", "FLUSH")
      proxy.releaseRequests()
      const lease = yield* next.lease
      yield* proxy.awaitReply(isText(scripts.renew))
      expect(yield* pttl(server, "k")).toBeGreaterThan(15_000)
      yield* lease.verify
    })
  )

  it.scoped("a renewal never shortens what the key has, and prolongs it where it has less", () =>
    Effect.gen(function* () {
      const { server } = yield* environment()
      const token = strangeToken()
      const renew = (ttl: number) => server.command("EVAL", scripts.renew.lua, 1, "k", token, ttl)
      yield* server.command("SET", "k", token, "PX", 20_000)
      expect(yield* renew(1_000)).toBe(1)
      expect(yield* pttl(server, "k")).toBeGreaterThan(15_000)
      expect(yield* renew(60_000)).toBe(1)
      expect(yield* pttl(server, "k")).toBeGreaterThan(55_000)
    })
  )

  for (const [reason, theft] of [
    ["Missing", (server: RedisServer.RedisProcess) => server.command("DEL", "k")],
    [
      "Taken",
      (server: RedisServer.RedisProcess) => server.command("SET", "k", strangeToken(), "PX", 1_000)
    ]
  ] as const) {
    it.scoped(`a loss that a waiter's question finds is told to the holder first: ${reason}`, () =>
      quietly(
        Effect.gen(function* () {
          const { server, use } = yield* environment()
          const order: Array<string> = []
          const holding = yield* Deferred.make<void>()
          const holder = yield* Effect.fork(
            Lock.withLock("k", { ttl: 900, renewEvery: 500 })(
              Effect.onInterrupt(
                Effect.zipRight(Deferred.succeed(holding, undefined), Effect.never),
                () => Effect.sync(() => order.push("the holder is interrupted"))
              )
            ).pipe(use, Effect.exit)
          )
          yield* Deferred.await(holding)
          const next = yield* Effect.fork(
            Lock.withLock("k", { ttl: 900, renewEvery: 500 })(
              Effect.sync(() => order.push("the next one is in"))
            ).pipe(use)
          )
          yield* turns(3)
          yield* theft(server)
          expect(failure(yield* soon(Fiber.join(holder)))).toMatchObject({
            _tag: "LockLost",
            reason
          })
          yield* soon(Fiber.join(next))
          expect(order).toEqual(["the holder is interrupted", "the next one is in"])
        })
      )
    )
  }

  it.scoped("another token of this process is granted: the holder of the first is told", () =>
    quietly(
      Effect.gen(function* () {
        const { server, use } = yield* environment()
        for (const again of [
          Lock.tryAcquire("k"),
          Lock.acquire("k", { waitAtMost: "2 seconds" })
        ]) {
          yield* Effect.scoped(
            Effect.gen(function* () {
              const first = yield* use(Lock.tryAcquire("k", { ttl: 30_000 }))
              yield* server.command("DEL", "k")
              const second = yield* use(again)
              expect(yield* first.isHeld).toBe(false)
              expect(yield* second.isHeld).toBe(true)
              expect((yield* Effect.flip(first.awaitLost)).fencingToken).toBeLessThan(
                second.fencingToken
              )
            })
          )
        }
      })
    )
  )
})

layer(RedisServer.layer(), { excludeTestServices: true })("a call that was given up", (it) => {
  /** A client whose answers are the test's, and which forgets what was sent before a reconnection. */
  const makeClient = () => {
    const listeners = new Map<string, (...args: Array<unknown>) => void>()
    const sent: Array<{
      readonly script: string
      readonly keysAndArgs: ReadonlyArray<string>
      readonly answer: (reply: unknown) => void
      readonly fail: (error: Error) => void
    }> = []
    const ask = (script: string, _: number, ...keysAndArgs: Array<string>) =>
      // (a store's look whether there are scripts is no call)
      script === noScript
        ? Promise.reject(Object.assign(new Error("NOSCRIPT"), { name: "ReplyError" }))
        : new Promise<unknown>((answer, fail) => sent.push({ script, keysAndArgs, answer, fail }))
    const client: RedisClient = {
      status: "ready",
      evalsha: ask,
      eval: ask,
      on: (event, listener) => listeners.set(event, listener),
      off: () => {},
      disconnect: () => {},
      connect: () => Promise.reject(new Error("not here")),
      scan: () => Promise.reject(new Error("not here")),
      duplicate: () => {
        throw new Error("not here")
      }
    }
    const emit = (event: string) => listeners.get(event)?.()
    return { client, sent, emit }
  }

  const patience = 40
  const settled = (call: { whenSettled(observer: (outcome: Outcome) => void): void }) =>
    Effect.async<Outcome>((resume) =>
      call.whenSettled((outcome) => resume(Effect.succeed(outcome)))
    )

  it.scoped("is not sent again by itself when its batch is answered in the end", () =>
    Effect.gen(function* () {
      const { client, emit, sent } = makeClient()
      const transport = new GivenClient(client, processClock, patience)
      const commands = new Commands(transport, { batch: true, prefix: "" })
      transport.together = true
      const tokens = [strangeToken(), strangeToken()]
      const calls = tokens.map((token, i) =>
        commands.call(scripts.acquire, keysOf(`k${i}`), [token, "30000", "lock/1 30000 me"])
      )
      yield* turns(1)
      expect(sent.map(({ script }) => script)).toEqual([scripts.batch.lua])
      emit("close")
      emit("ready")
      for (const call of calls) expect((yield* settled(call))._tag).toBe("Failed")
      calls.forEach((call, i) =>
        commands.giveBack(call, lockProtocol, keysOf(`k${i}`), tokens[i]!, 1)
      )
      yield* turns(1)
      const before = sent.length
      sent[0]!.answer([null, null])
      yield* turns(3)
      expect(sent).toHaveLength(before)
    })
  )

  it.scoped("is not sent by its text when the server turns out to have forgotten it", () =>
    Effect.gen(function* () {
      const { client, emit, sent } = makeClient()
      const commands = new Commands(new GivenClient(client, processClock, patience))
      const ask = () =>
        commands.call(scripts.acquire, keysOf("k"), [strangeToken(), "30000", "lock/1 30000 me"])
      const first = ask()
      yield* turns(1)
      sent[0]!.answer(1)
      yield* settled(first)
      const second = ask()
      yield* turns(1)
      emit("close")
      emit("ready")
      expect((yield* settled(second))._tag).toBe("Failed")
      expect(sent).toHaveLength(2)
      sent[1]!.fail(Object.assign(new Error("NOSCRIPT"), { name: "ReplyError" }))
      yield* turns(3)
      expect(sent).toHaveLength(2)
    })
  )
})
