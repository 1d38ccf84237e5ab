/** Grants and renewals count when so many replicas have them, and not before. */
import { describe, expect, layer } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { Lock, type LockStore, ReadWriteLock, RedisLockStore, Semaphore } from "effect-redis-lock"
import { readFileSync } from "node:fs"
import { movable } from "../support/movable.js"
import { inside } from "../support/inside.js"
import { idle, internals, queuedCaller, subscribed } from "../support/Queue.js"
import * as Replicas from "../support/Replicas.js"
import { ask } from "../support/stores.js"
import {
  connectedClient,
  failure,
  FaultProxy,
  nothingLeft,
  pttl,
  quietly,
  RedisServer,
  storeOf
} from "./support.js"

const page = readFileSync(new URL("../../docs/protocol.md", import.meta.url), "utf8")

class Group extends Context.Tag("test/acknowledged/Group")<Group, Replicas.Group>() {}

/** A master with two replicas, which have all that it has. */
const group = Effect.tap(Group, ({ master, replicas }) =>
  Effect.gen(function* () {
    yield* master.flush
    yield* Replicas.caughtUp(master, replicas.length)
  })
)

/** Long enough for a busy machine, where all answer; and what a test waits for, where one does not. */
const terms = (within: number): RedisLockStore.Options => ({
  commandTimeout: 4 * within,
  acknowledged: { replicas: 2, within }
})

/** The same, where all else may take its time. */
const slowly = (within: number) => ({ ...terms(within), commandTimeout: 10_000 })

const storeAt = (url: string, options = terms(2_500)) =>
  storeOf(RedisLockStore.layer({ url, ...options }))

/** One of them answers nothing until it is let go. */
const lagging = (replica: RedisServer.RedisProcess) =>
  Effect.acquireRelease(replica.stop, () => replica.cont)

const unacknowledged = (why = "") =>
  expect.objectContaining({
    _tag: "LockStoreError",
    transient: true,
    message: expect.stringContaining(
      `It was not acknowledged, so it does not count. ${why}`
    ) as string
  })

/** At least one of them. (On a busy machine neither is sure.) */
const tooFew = (within: number) =>
  expect.objectContaining({
    _tag: "LockStoreError",
    transient: true,
    message: expect.stringMatching(
      `It was not acknowledged, so it does not count. [01] of 2 replicas answered within ${within} ms.`
    ) as string
  })

/** How many callers stand in line. */
const waiting = (store: LockStore.LockStore): number =>
  inside<{ readonly lines: ReadonlyArray<{ readonly waiting: number }> }>(store).lines.reduce(
    (sum, line) => sum + line.waiting,
    0
  )

/** The questions whether replicas have what was written. */
const isWait = ([name = ""]: ReadonlyArray<string>) => /^wait$/i.test(name)

const claims: Record<string, Partial<LockStore.Claim>> = {
  lock: {},
  "lock that is waited for": { waitMillis: 60_000 },
  "lock for a tick": { tick: 1 },
  "lock with maxHold": { maxHoldMillis: 60_000 },
  "lock with holdAtLeast": { holdAtLeastMillis: 60_000 },
  permit: { kind: "semaphore", limit: 3 },
  "permit that is waited for": { kind: "semaphore", limit: 3, waitMillis: 60_000 },
  "permit with maxHold": { kind: "semaphore", limit: 3, maxHoldMillis: 60_000 },
  reader: { kind: "readWriteLock", limit: 1_000 },
  writer: { kind: "readWriteLock", limit: 1_000, share: 1_000, waitMillis: 60_000 }
}

layer(Layer.scoped(Group, Replicas.make(2)), { excludeTestServices: true })(
  "a grant counts when replicas have it",
  (it) => {
    describe.each(Object.entries(claims))("of a %s", (_, claim) => {
      it.scoped("and is given back where one of them does not answer", () =>
        Effect.gen(function* () {
          const { master, replicas } = yield* group
          const { store, use } = yield* storeAt(master.url, slowly(300))
          const exit = yield* Effect.scoped(
            Effect.zipRight(lagging(replicas[1]!), Effect.exit(use(ask("k", claim))))
          )
          expect(failure(exit)).toEqual(tooFew(300))
          yield* nothingLeft(master)
          yield* idle(store)
          // (a tick that was not granted can be)
          const patient = yield* storeAt(master.url)
          const grant = yield* patient.use(ask("k", claim))
          expect(yield* grant.renew).toMatchObject({ _tag: "Renewed" })
          expect(yield* grant.verify).toBe("Ours")
          expect(yield* grant.release).toBe("Ours")
        })
      )
    })

    it.scoped("also of those that travel together: one question for all of them", () =>
      Effect.gen(function* () {
        const { master } = yield* group
        const { use } = yield* storeAt(master.url)
        yield* use(Lock.withLock("warm")(Effect.void))
        const monitor = yield* master.monitor
        const keys = Array.from({ length: 32 }, (_, index) => `k${index}`)
        yield* use(
          Effect.forEach(keys, (key) => Lock.withLock(key)(Effect.void), {
            concurrency: "unbounded"
          })
        )
        const asked = (yield* monitor.commands).filter(({ args }) => isWait(args)).length
        expect(asked).toBeGreaterThan(0)
        expect(asked).toBeLessThan(keys.length / 2)
        yield* nothingLeft(master)
      })
    )

    it.scoped("and they are asked behind a write of the same connection", () =>
      Effect.gen(function* () {
        const { master } = yield* group
        const { use } = yield* storeAt(master.url)
        const monitor = yield* master.monitor
        const lease = yield* use(Lock.acquire("k"))
        const commands = yield* monitor.commands
        const at = commands.findIndex(({ args }) => isWait(args))
        // (what the script does comes behind it)
        const names = commands.slice(0, at).map(({ args }) => args[0]!.toUpperCase())
        expect(names.slice(names.lastIndexOf("EVAL"))).toEqual(["EVAL", "GET", "PTTL", "PEXPIRE"])
        yield* lease.release
      })
    )

    it.scoped("and not for what is passed on within the process, or shared", () =>
      Effect.gen(function* () {
        const { master } = yield* group
        const { use } = yield* storeAt(master.url, { ...terms(2_500), localHandoff: "1 minute" })
        const monitor = yield* master.monitor
        const asked = Effect.map(
          monitor.commands,
          (commands) => commands.filter(({ args }) => isWait(args)).length
        )
        const many = { length: 50 }
        yield* use(
          Effect.all(
            Array.from(many, () => Lock.withLock("k")(Effect.void)),
            {
              concurrency: "unbounded"
            }
          )
        )
        // (the first one's, and that of the question whether the process keeps the key)
        expect(yield* asked).toBeLessThanOrEqual(3)
        yield* use(
          ReadWriteLock.withReadLock("r")(
            Effect.all(
              Array.from(many, () => ReadWriteLock.withReadLock("r")(Effect.void)),
              {
                concurrency: "unbounded"
              }
            )
          )
        )
        expect(yield* asked).toBeLessThanOrEqual(6)
      })
    )

    it.scoped("and is claimed first by a waiter that is told of it", () =>
      quietly(
        Effect.gen(function* () {
          const { master, replicas } = yield* group
          const holder = yield* storeAt(master.url)
          const waiting = yield* storeAt(master.url, slowly(500))
          const lease = yield* holder.use(Lock.acquire("k", { ttl: "1 minute" }))
          const waiter = yield* queuedCaller({ server: master, use: waiting.use }, "k", 0)
          yield* subscribed({ server: master, store: waiting.store })
          yield* Effect.scoped(
            Effect.gen(function* () {
              yield* lagging(replicas[0]!)
              const monitor = yield* master.monitor
              // (given back, it needs nobody)
              yield* lease.release
              expect(yield* Effect.flip(Fiber.join(waiter.fiber))).toEqual(tooFew(500))
              const commands = yield* monitor.commands
              expect(commands.filter(({ args }) => isWait(args))).toHaveLength(1)
            })
          )
          yield* nothingLeft(master)
          const again = yield* holder.use(Lock.acquire("k", { ttl: "1 minute" }))
          const next = yield* queuedCaller({ server: master, use: waiting.use }, "k", 0)
          yield* again.release
          expect(yield* (yield* next.lease).isHeld).toBe(true)
        })
      )
    )

    it.scoped(
      "and a release is confirmed where the next caller here has nothing to be acknowledged",
      () =>
        quietly(
          Effect.gen(function* () {
            const { master, replicas } = yield* group
            const options = { ...slowly(400), localHandoff: 1 }
            const { store, use } = yield* storeAt(master.url, options)
            const lease = yield* use(
              Effect.retry(Lock.acquire("k", { ttl: "1 minute" }), {
                while: (error) => error._tag === "LockStoreError" && error.transient
              })
            )
            const next = yield* Effect.fork(
              use(Effect.scoped(Lock.acquire("k", { ttl: "1 minute" })))
            )
            yield* RedisServer.eventually(
              Effect.sync(() => internals(store).size().lines === 1 && waiting(store) === 1)
            )
            yield* Effect.sleep(20)
            yield* Effect.scoped(
              Effect.gen(function* () {
                yield* lagging(replicas[0]!)
                yield* lease.release
                expect(yield* Effect.flip(Fiber.join(next))).toEqual(tooFew(400))
              })
            )
            yield* nothingLeft(master)
            yield* idle(store)
          })
        )
    )

    it.scoped("and a renewal that they do not have does not extend the lease", () =>
      quietly(
        Effect.gen(function* () {
          const { master, replicas } = yield* group
          const { use } = yield* storeAt(master.url, slowly(300))
          const options = { ttl: "3 seconds", renewEvery: "500 millis" } as const
          const lease = yield* use(
            Effect.retry(Lock.acquire("k", options), {
              while: (error) => error._tag === "LockStoreError" && error.transient
            })
          )
          yield* lagging(replicas[0]!)
          expect(yield* Effect.flip(lease.awaitLost)).toMatchObject({
            _tag: "LockLost",
            reason: "Unreachable"
          })
          // on the master it was renewed all the time
          expect(yield* pttl(master, "k")).toBeGreaterThan(1_500)
        })
      )
    )

    it.scoped("and a share that is made smaller, or handed over, is still its holder's", () =>
      Effect.gen(function* () {
        const { master, replicas } = yield* group
        const { use } = yield* storeAt(master.url, slowly(400))
        const grant = yield* use(
          Effect.retry(
            ask("k", { kind: "readWriteLock", limit: 10, share: 10, ttlMillis: 60_000 }),
            {
              times: 10
            }
          )
        )
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* lagging(replicas[0]!)
            expect(yield* Effect.flip(grant.reshare!(1))).toEqual(tooFew(400))
            expect(yield* Effect.flip(grant.handOver!)).toEqual(tooFew(400))
            expect(yield* grant.verify).toBe("Ours")
          })
        )
        yield* Replicas.caughtUp(master, 2)
        expect(yield* Effect.retry(grant.handOver!, { times: 10 })).toMatchObject({
          _tag: "Renewed"
        })
        const adopt = { token: grant.token, fencingToken: grant.fencingToken }
        const claim = { kind: "readWriteLock", limit: 10, adopt } as const
        const adopted = yield* use(ask("k", claim))
        expect(yield* adopted.release).toBe("Ours")
        yield* nothingLeft(master)
      })
    )

    it.scoped("and nothing is left where the wait for them is interrupted", () =>
      Effect.gen(function* () {
        const { master, replicas } = yield* group
        const proxy = yield* FaultProxy.make(master.port)
        const { store, use } = yield* storeAt(proxy.url, terms(5_000))
        yield* use(Lock.withLock("warm")(Effect.void))
        for (const acquire of [
          Lock.tryAcquire("k"),
          Lock.acquire("k"),
          Semaphore.acquire("s", { limit: 2 })
        ]) {
          yield* Effect.scoped(
            Effect.gen(function* () {
              yield* lagging(replicas[0]!)
              proxy.forget()
              const fiber = yield* Effect.fork(use(Effect.scoped(Effect.asVoid(acquire))))
              yield* proxy.awaitCommand(isWait)
              yield* Fiber.interrupt(fiber)
              yield* nothingLeft(master)
              // before they have answered, or have not
              const asked = proxy.requests.filter(({ args }) => isWait(args))
              expect(asked).not.toEqual([])
              expect(asked.filter(({ replied }) => replied)).toEqual([])
              yield* idle(store)
            })
          )
          yield* proxy.awaitReply(isWait)
        }
      })
    )

    it.scoped("and also on a client of the user's, which is left as it is", () =>
      Effect.gen(function* () {
        const { master, replicas } = yield* group
        const client = yield* connectedClient(master.port, { keyPrefix: "app:" })
        const before = yield* master.clientCount
        const { close, use } = yield* storeOf(RedisLockStore.layerFromClient(client, slowly(500)))
        const lockOnce = use(Lock.withLock("k")(Effect.succeed("in")))
        expect(yield* Effect.retry(lockOnce, { times: 10 })).toBe("in")
        expect(yield* master.clientCount).toBe(before + 1)
        const { exit } = yield* Effect.scoped(
          Effect.zipRight(
            lagging(replicas[0]!),
            Effect.map(Effect.exit(lockOnce), (exit) => ({ exit }))
          )
        )
        expect(failure(exit)).toEqual(tooFew(500))
        yield* nothingLeft(master)
        yield* close
        yield* RedisServer.eventually(Effect.map(master.clientCount, (count) => count === before))
        expect(client.status).toBe("ready")
      })
    )

    it.scoped("and the documented ACL allows to ask", () =>
      Effect.gen(function* () {
        const { master } = yield* group
        const [, rules] = /^ACL SETUSER locks (.*)$/m.exec(page) ?? []
        const [, ofSemaphores] = /\*\*Semaphores also need `([^`]*)`\*\*/.exec(page) ?? []
        const [, toAsk] = /`acknowledged`\].* needs `(\+wait)`/.exec(page) ?? []
        yield* master.command(
          "ACL",
          "SETUSER",
          "locks",
          ...[rules!, ofSemaphores!, toAsk!].flatMap((all) => all.split(" "))
        )
        yield* Effect.addFinalizer(() => master.command("ACL", "DELUSER", "locks"))
        const { use } = yield* storeAt(master.url, {
          ...terms(2_500),
          prefix: "locks:",
          redis: { username: "locks", password: "secret", disableClientInfo: true }
        })
        yield* use(Lock.withLock("k")(Effect.void))
        yield* use(Semaphore.withPermits("s", { limit: 2 })(Effect.void))
        yield* nothingLeft(master)
      })
    )

    // ---------------------------------------------------------------- the connection for questions

    it.scoped("also where the connection on which they are asked leads nowhere", () =>
      Effect.gen(function* () {
        const { master } = yield* group
        const proxy = yield* FaultProxy.make(master.port)
        const { use } = yield* storeAt(proxy.url, { ...terms(1_000), commandTimeout: 12_000 })
        yield* use(Lock.withLock("warm")(Effect.void))
        proxy.abandon(({ requests }) => requests.some(({ args }) => isWait(args)))
        yield* use(Lock.withLock("k")(Effect.void))
        yield* nothingLeft(master)
      })
    )

    it.scoped("also where that connection is lost with the answer", () =>
      Effect.gen(function* () {
        const { master } = yield* group
        const proxy = yield* FaultProxy.make(master.port)
        const { use } = yield* storeAt(proxy.url)
        yield* use(Lock.withLock("warm")(Effect.void))
        const trap = proxy.resetAfterApply(isWait)
        yield* use(Lock.withLock("k")(Effect.void))
        expect(trap.count).toBe(1)
        yield* nothingLeft(master)
      })
    )

    it.scoped("and not where the answer never comes", () =>
      Effect.gen(function* () {
        const { master } = yield* group
        const proxy = yield* FaultProxy.make(master.port)
        const { store, use } = yield* storeAt(proxy.url, { ...terms(200), commandTimeout: 2_000 })
        yield* use(Effect.retry(Lock.withLock("warm")(Effect.void), { times: 10 }))
        // (neither on that connection, nor on any that is made)
        const commands = new Set(
          proxy.connections
            .filter(({ requests }) => !requests.some(({ args }) => isWait(args)))
            .map(({ id }) => id)
        )
        proxy.blackHole({ where: ({ id }) => !commands.has(id) })
        expect(failure(yield* Effect.exit(use(Lock.withLock("k")(Effect.void))))).toEqual(
          unacknowledged("There was no answer on the connection")
        )
        yield* nothingLeft(master)
        yield* idle(store)
      })
    )

    // ---------------------------------------------------------------- another master

    it.scoped(
      "and not where the questions go to another master, whatever its replicas answer",
      () =>
        quietly(
          Effect.gen(function* () {
            const { master } = yield* group
            const other = yield* Replicas.make(2)
            const address = yield* movable(master.port)
            const { use } = yield* storeAt(`redis://127.0.0.1:${address.port}`)
            yield* use(Lock.withLock("warm")(Effect.void))
            address.leadTo(other.master.port)
            const asking = (yield* master.clients).find(({ cmd }) => cmd === "wait")!
            yield* master.command("CLIENT", "KILL", "ID", asking.id!)
            yield* RedisServer.eventually(
              Effect.map(other.master.clients, (clients) => clients.length > 0)
            )
            expect(failure(yield* Effect.exit(use(Lock.withLock("k")(Effect.void))))).toEqual(
              unacknowledged("The server that was asked does not have it")
            )
            yield* nothingLeft(master)
            yield* nothingLeft(other.master)
          })
        )
    )

    it.scoped(
      "and the connection for questions is left when its server has none of the grants",
      () =>
        quietly(
          Effect.gen(function* () {
            const { master } = yield* group
            const other = yield* Replicas.make(2)
            const address = yield* movable(master.port)
            const { use } = yield* storeAt(`redis://127.0.0.1:${address.port}`)
            yield* use(Lock.withLock("warm")(Effect.void))
            address.leadTo(other.master.port)
            const commands = (yield* master.clients).find(({ cmd }) => cmd!.startsWith("eval"))!
            yield* master.command("CLIENT", "KILL", "ID", commands.id!)
            yield* RedisServer.eventually(
              Effect.map(Effect.exit(use(Lock.withLock("k")(Effect.void))), Exit.isSuccess)
            )
            const lease = yield* use(Lock.acquire("k"))
            expect(yield* other.master.command("GET", "k")).toBe(lease.token)
          })
        )
    )
  }
)

layer(Layer.scoped(Group, Replicas.make(2)), { excludeTestServices: true })(
  "a master that dies while replicas are asked",
  (it) => {
    it.scoped("has granted nothing", () =>
      quietly(
        Effect.gen(function* () {
          const { master, replicas } = yield* group
          const address = yield* movable(master.port)
          const { use } = yield* storeAt(`redis://127.0.0.1:${address.port}`, terms(1_500))
          yield* use(Lock.withLock("warm")(Effect.void))
          const monitor = yield* master.monitor
          for (const replica of replicas) yield* lagging(replica)
          const fiber = yield* Effect.fork(
            Effect.exit(use(Lock.withLock("k")(Effect.die("is in"))))
          )
          yield* monitor.awaitCommand(({ args }) => isWait(args))
          yield* master.kill
          for (const replica of replicas) yield* replica.cont
          yield* Replicas.promote(replicas[0]!)
          yield* Replicas.follow(replicas[1]!, replicas[0]!)
          address.leadTo(replicas[0]!.port)
          expect(failure(yield* Fiber.join(fiber))).toMatchObject({ _tag: "LockStoreError" })
          yield* nothingLeft(replicas[0]!)
        })
      )
    )
  }
)

layer(RedisServer.layer(), { excludeTestServices: true })("what cannot be acknowledged", (it) => {
  const acquired = (options: RedisLockStore.StoreOptions["acknowledged"], more?: object) =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const { use } = yield* storeAt(server.url, { acknowledged: options, ...more })
      const exit = yield* Effect.exit(use(Lock.withLock("k")(Effect.die("is in"))))
      yield* nothingLeft(server)
      return failure(exit)
    })

  it.scoped("is more replicas than there are", () =>
    Effect.gen(function* () {
      expect(yield* acquired({ replicas: 3, within: 50 })).toEqual(
        unacknowledged(
          "0 of 3 replicas answered within 50 ms. The option acknowledged.replicas is 3, and the server has 0 connected."
        )
      )
    })
  )

  it.scoped("is what the ACL does not allow to ask", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.command("ACL", "SETUSER", "default", "-wait")
      yield* Effect.addFinalizer(() => server.command("ACL", "SETUSER", "default", "+wait"))
      expect(yield* acquired({ replicas: 1 })).toMatchObject({
        _tag: "LockStoreError",
        transient: false,
        message: expect.stringMatching(
          /The option acknowledged.replicas is 1, and the server says: .*wait/
        ) as string
      })
    })
  )

  it.scoped("is named with its value", () =>
    Effect.gen(function* () {
      const refused = (acknowledged: unknown) =>
        Effect.map(
          Effect.flip(
            Effect.scoped(
              RedisLockStore.make({ acknowledged: acknowledged as RedisLockStore.Acknowledged })
            )
          ),
          (error) => error.detail
        )
      expect(yield* refused({ replicas: 0 })).toBe(
        "Impossible option acknowledged.replicas: 0. It must be a whole number from 1 on."
      )
      expect(yield* refused({ replicas: 1.5 })).toContain("acknowledged.replicas: 1.5.")
      expect(yield* refused({ replicas: "2" })).toContain("acknowledged.replicas: 2.")
      expect(yield* refused({ replicas: Number.NaN })).toContain("acknowledged.replicas: NaN.")
      expect(yield* refused({ disk: 1 })).toContain("acknowledged.disk: 1.")
      expect(yield* refused({})).toContain("It must say how many replicas, or disk: true.")
      expect(yield* refused({ disk: false })).toContain("It must say how many replicas")
      expect(yield* refused(2)).toContain("Impossible option acknowledged: 2.")
      expect(yield* refused(null)).toContain("Impossible option acknowledged: null.")
      for (const within of ["for ever", Number.POSITIVE_INFINITY, 0, -1, "2 seconds", null]) {
        expect(yield* refused({ replicas: 1, within })).toMatch(
          /^Impossible option acknowledged\.within: .*half of commandTimeout, which is 1000 ms\.$/
        )
      }
      const fromConfig = (replicas: string) =>
        Effect.scoped(
          Layer.build(
            RedisLockStore.layerConfig({
              acknowledged: {
                replicas: Config.integer("REPLICAS"),
                within: Config.duration("WITHIN")
              }
            })
          )
        ).pipe(
          Effect.withConfigProvider(
            ConfigProvider.fromMap(
              new Map(Object.entries({ REPLICAS: replicas, WITHIN: "100 millis" }))
            )
          )
        )
      expect(String(yield* Effect.flip(fromConfig("0")))).toContain(
        "Impossible option acknowledged.replicas: 0."
      )
      yield* fromConfig("2")
    })
  )
})
