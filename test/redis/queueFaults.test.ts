/** Rule 10 where things go wrong: lost messages, ghosts, waiters and holders that die or leave. */
import { expect } from "@effect/vitest"
import { atOnce } from "../support/atOnce.js"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { Lock, RedisLockStore } from "effect-redis-lock"
import { validUntil } from "../../src/internal/common/timing.js"
import * as Judge from "../support/Judge.js"
import {
  awaitQueued,
  caller,
  deadHolder,
  deadWaiter,
  environments,
  idle,
  internals,
  onGrant,
  pair,
  queuedCaller,
  queueOf,
  strict,
  subscribed
} from "../support/Queue.js"
import {
  collectWarnings,
  type Environment,
  failure,
  FaultProxy,
  leftovers,
  nothingLeft,
  pttl,
  quietly,
  RedisServer,
  storeOf,
  timed,
  touching
} from "./support.js"

const key = "k"

/** A minute: a heartbeat of a second, so that whatever is faster was told. */
const ttl = 60_000

/** A heartbeat of 300 ms, a claim window of 900. */
const brisk = { ttl: 900 }
const beat = 300
const window = 900
/** Of machines that do other things as well. */
const tolerance = 350

/** A store has the key, and another one waits for it, and would hear of a handoff. */
const awaited = (options: Lock.WaitOptions = { ttl }) =>
  Effect.gen(function* () {
    const [a, b] = yield* pair()
    const held = yield* caller(a.use, key, { ttl })
    yield* held.lease
    const waiting = yield* queuedCaller(b, key, 0, options)
    yield* subscribed(b)
    return { a, b, held, waiting }
  })

// -----------------------------------------------------------------------------
// lost wake-ups
// -----------------------------------------------------------------------------

atOnce(RedisServer.layer())("no wake-up is lost", (it) => {
  it.scoped("with messages, a handoff does not wait for a heartbeat", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      for (let round = 0; round < 5; round++) {
        const held = yield* caller(a.use, key, { ttl })
        yield* held.lease
        const waiting = yield* queuedCaller(b, key, 0, { ttl })
        yield* subscribed(b)
        const { millis } = yield* timed(Effect.zipRight(held.release, waiting.lease))
        expect(millis).toBeLessThan(400)
        yield* waiting.release
      }
    })
  )

  /** Four handoffs, one after the other; the first waiter's subscription is made on the way. */
  const handoffs = 4
  const chain = (fault: (b: Environment, handoff: number) => Effect.Effect<void>) =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      const judge = Judge.referee()
      for (let handoff = 0; handoff < handoffs; handoff++) {
        const held = yield* caller(a.use, key, brisk)
        judge.enter((yield* held.lease).fencingToken)
        const waiting = yield* queuedCaller(b, key, 0, brisk)
        yield* fault(b, handoff)
        judge.exit((yield* held.lease).fencingToken)
        const { millis } = yield* timed(Effect.zipRight(held.release, waiting.lease))
        expect(millis).toBeLessThan(beat + tolerance)
        judge.enter((yield* waiting.lease).fencingToken)
        judge.exit((yield* waiting.lease).fencingToken)
        yield* waiting.release
      }
      expect(judge.verdict()).toEqual([])
      expect(judge.entries().length).toBe(2 * handoffs)
      b.proxy.accept()
      yield* idle(b.store)
      yield* nothingLeft(a.server)
    })

  const faults: Readonly<Record<string, (b: Environment) => Effect.Effect<void>>> = {
    "its message is dropped": ({ proxy }) => Effect.sync(() => proxy.dropNextMessage()),
    "its message is dropped once the subscription is there": (b) =>
      Effect.zipRight(
        subscribed(b),
        Effect.sync(() => b.proxy.dropNextMessage())
      ),
    "the subscriber is cut before it": (b) =>
      Effect.zipRight(
        subscribed(b),
        Effect.sync(() => b.proxy.cutSubscribers())
      ),
    "the subscriber is cut before it has subscribed": ({ proxy }) =>
      Effect.sync(() => proxy.cutSubscribers()),
    "the subscriber is cut and cannot come back": (b) =>
      Effect.zipRight(
        subscribed(b),
        Effect.sync(() => {
          b.proxy.refuse()
          b.proxy.cutSubscribers()
        })
      ),
    "the subscriber is silent from then on": (b) =>
      Effect.zipRight(
        subscribed(b),
        Effect.sync(() => b.proxy.blackHole({ where: (connection) => connection.subscriber }))
      )
  }
  for (const [name, fault] of Object.entries(faults)) {
    for (let at = 0; at < handoffs; at++) {
      it.scoped(`at handoff ${at + 1} of ${handoffs}: ${name}`, () =>
        chain((b, handoff) => (handoff === at ? fault(b) : Effect.void))
      )
    }
    it.scoped(`at every handoff: ${name}`, () =>
      chain((b) => {
        b.proxy.accept()
        b.proxy.heal()
        return fault(b)
      })
    )
  }

  for (const [name, matcher] of [
    ["never reached the server", "resetBeforeApply"],
    ["was applied, and its answer lost", "resetAfterApply"]
  ] as const) {
    it.scoped(`a SUBSCRIBE that ${name} is made again, without a warning`, () =>
      collectWarnings((warnings) =>
        Effect.gen(function* () {
          const [a, b] = yield* pair()
          const held = yield* caller(a.use, key, { ttl })
          yield* held.lease
          const cut = b.proxy[matcher]("SUBSCRIBE")
          const waiting = yield* queuedCaller(b, key, 0, { ttl })
          yield* cut.fired
          yield* subscribed(b)
          const { millis } = yield* timed(Effect.zipRight(held.release, waiting.lease))
          expect(millis).toBeLessThan(500)
          expect(warnings).toEqual([])
        })
      )
    )
  }

  it.scoped("what was granted while the subscriber was away is claimed when it is back", () =>
    Effect.gen(function* () {
      const { b, held, waiting } = yield* awaited()
      b.proxy.holdMessages()
      yield* held.release
      yield* b.proxy.heldMessages
      // the message goes with its connection; the next one asks at once, not at the heartbeat
      b.proxy.cutSubscribers()
      b.proxy.releaseMessages()
      const { millis } = yield* timed(waiting.lease)
      expect(millis).toBeLessThan(600)
    })
  )

  it.scoped("a message that overtakes the answer 'queued' is a grant", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      // the subscription is there from an earlier wait
      const earlier = yield* caller(a.use, key, { ttl })
      yield* earlier.lease
      const before = yield* queuedCaller(b, key, 0, { ttl })
      yield* subscribed(b)
      yield* before.interrupt
      yield* awaitQueued(a.server, key, 0)
      b.proxy.holdReplies({ where: (connection) => !connection.subscriber })
      const waiting = yield* queuedCaller(b, key, 0, { ttl })
      b.proxy.forget()
      const { millis } = yield* timed(Effect.zipRight(earlier.release, waiting.lease))
      expect(millis).toBeLessThan(400)
      // its release waits for that answer: what is still under way must not arrive behind it
      const releasing = yield* Effect.fork(waiting.release)
      yield* Effect.sleep(30)
      expect(b.proxy.commands.filter(touching(key))).toEqual([])
      b.proxy.releaseReplies()
      yield* Fiber.join(releasing)
      expect(yield* leftovers(a.server)).toEqual([])
    })
  )

  it.scoped("a message that leaves little of the proof is asked about, for a full ttl", () =>
    Effect.gen(function* () {
      const { b, held, waiting } = yield* awaited(brisk)
      let told = false
      onGrant(b.store, () => {
        told = true
      })
      b.proxy.holdMessages()
      b.proxy.holdRequests({ where: (connection) => !connection.subscriber })
      const heldAt = performance.now()
      yield* held.release
      yield* b.proxy.heldMessages
      // of a window of 900 ms, which began with an answer before that
      yield* Effect.sleep(750)
      b.proxy.releaseMessages()
      yield* RedisServer.eventually(Effect.sync(() => told))
      expect(waiting.state()).toBe("waiting")
      b.proxy.releaseRequests()
      const lease = yield* waiting.lease
      // proven by what was asked after that, and not by what was answered before
      const remaining = Duration.toMillis(yield* lease.remaining)
      expect(remaining).toBeGreaterThanOrEqual(
        Math.floor(validUntil(heldAt, brisk.ttl) - performance.now())
      )
      yield* waiting.release
      yield* idle(b.store)
    })
  )

  it.scoped(
    "a heartbeat that is under way when the grant comes is answered before the release",
    () =>
      Effect.gen(function* () {
        const { a, b, held, waiting } = yield* awaited(brisk)
        b.proxy.forget()
        b.proxy.holdRequests({ where: (connection) => !connection.subscriber })
        yield* b.proxy.awaitCommand(touching(key))
        yield* held.release
        yield* waiting.lease
        const releasing = yield* Effect.fork(waiting.release)
        yield* Effect.sleep(30)
        expect(b.proxy.commands.filter(touching(key)).length).toBe(1)
        b.proxy.releaseRequests()
        yield* Fiber.join(releasing)
        yield* idle(b.store)
        expect(yield* leftovers(a.server)).toEqual([])
      })
  )
})

// -----------------------------------------------------------------------------
// ghosts
// -----------------------------------------------------------------------------

atOnce(RedisServer.layer())("no ghost is believed", (it) => {
  it.scoped("a grant that comes when its window is over and its waiter has queued again", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* pair()
        const judge = Judge.referee()
        const held = yield* caller(a.use, key, { ttl })
        yield* held.lease
        const waiting = yield* queuedCaller(b, key, 0, brisk)
        yield* subscribed(b)
        const [old] = yield* queueOf(a.server, key)
        // the message is late, and so is the heartbeat that would claim the grant
        b.proxy.holdMessages()
        b.proxy.holdRequests({ where: (connection) => !connection.subscriber })
        yield* held.release
        yield* b.proxy.heldMessages
        yield* a.server.command("PEXPIRE", key, 1)
        const taken = yield* caller(a.use, key, { ttl })
        judge.enter((yield* taken.lease).fencingToken)
        b.proxy.releaseRequests()
        // it stands in the queue once more, under a name that is new
        yield* RedisServer.eventually(
          Effect.map(queueOf(a.server, key), (tokens) => tokens.length === 1 && tokens[0] !== old)
        )
        b.proxy.releaseMessages()
        yield* Effect.sleep(100)
        expect(waiting.state()).toBe("waiting")
        expect((yield* queueOf(a.server, key)).length).toBe(1)
        judge.exit((yield* taken.lease).fencingToken)
        yield* taken.release
        judge.enter((yield* waiting.lease).fencingToken)
        expect(judge.verdict()).toEqual([])
      })
    )
  )

  it.scoped("the subscriber cut, the grant delayed, and published again behind everything", () =>
    quietly(
      Effect.gen(function* () {
        const { a, b, held, waiting } = yield* awaited(brisk)
        const { storeId } = internals(b.store)
        const [old] = yield* queueOf(a.server, key)
        b.proxy.refuse()
        b.proxy.cutSubscribers()
        // as if its grant had run out unclaimed: neither queued nor granted
        yield* a.server.command("ZREM", `{${key}}:lock-queue`, old!)
        yield* a.server.command("HDEL", `{${key}}:lock-waiters`, old!)
        yield* RedisServer.eventually(
          Effect.map(queueOf(a.server, key), (tokens) => tokens.length === 1 && tokens[0] !== old)
        )
        const fence = String((yield* held.lease).fencingToken + 1)
        b.proxy.accept()
        yield* subscribed(b)
        for (let i = 0; i < 3; i++) {
          yield* a.server.command("PUBLISH", storeId, `${old} ${fence}`)
        }
        yield* Effect.sleep(50)
        expect(waiting.state()).toBe("waiting")
        expect(yield* a.server.command("GET", key)).toBe((yield* held.lease).token)
        yield* held.release
        yield* waiting.lease
      })
    )
  )

  it.scoped("a grant that is believed too late asks the server instead", () =>
    quietly(
      Effect.gen(function* () {
        const { a, b, held, waiting } = yield* awaited(brisk)
        b.proxy.holdMessages()
        b.proxy.holdReplies({ where: (connection) => !connection.subscriber })
        yield* held.release
        yield* b.proxy.heldMessages
        // the window passes; a thief takes what has expired
        yield* RedisServer.eventually(
          Effect.map(a.server.command("SET", key, "thief", "NX", "PX", 60_000), (ok) => ok === "OK")
        )
        b.proxy.releaseMessages()
        yield* Effect.sleep(50)
        expect(waiting.state()).toBe("waiting")
        b.proxy.releaseReplies()
        yield* Effect.sleep(50)
        expect(waiting.state()).toBe("waiting")
        yield* a.server.command("DEL", key)
        yield* waiting.lease
      })
    )
  )

  it.scoped("strange messages on the channel: noise, other tokens, no numbers", () =>
    Effect.gen(function* () {
      const { a, b, held, waiting } = yield* awaited()
      const { storeId } = internals(b.store)
      const [token] = yield* queueOf(a.server, key)
      for (const message of [
        "",
        " ",
        "noise",
        `${token}`,
        `${token} `,
        `${token} -1`,
        `${token} x`
      ]) {
        yield* a.server.command("PUBLISH", storeId, message)
      }
      yield* a.server.command("PUBLISH", storeId, `${storeId}.other 1700000000000000`)
      yield* Effect.sleep(50)
      expect(waiting.state()).toBe("waiting")
      yield* held.release
      yield* waiting.lease
    })
  )

  it.scoped("a grant whose message was late proves what is left of it", () =>
    Effect.gen(function* () {
      const { a, b, held, waiting } = yield* awaited()
      b.proxy.holdMessages()
      // (a heartbeat would claim the grant, for the full ttl)
      b.proxy.holdRequests({ where: (connection) => !connection.subscriber })
      yield* held.release
      yield* b.proxy.heldMessages
      yield* RedisServer.eventually(Effect.map(pttl(a.server, key), (left) => left < 2_300))
      b.proxy.releaseMessages()
      const lease = yield* waiting.lease
      const left = Duration.toMillis(yield* lease.remaining)
      expect(left).toBeLessThan(2_300)
      expect(left).toBeGreaterThan(0)
      b.proxy.releaseRequests()
      yield* waiting.release
      yield* nothingLeft(a.server)
    })
  )

  it.scoped("a grant by message proves no more than its window", () =>
    Effect.gen(function* () {
      const { a, held, waiting } = yield* awaited({ ttl, renewEvery: "30 seconds" })
      yield* held.release
      const lease = yield* waiting.lease
      const left = Duration.toMillis(yield* lease.remaining)
      // what a waiter that died would cost: three heartbeats, whatever its ttl
      expect(yield* pttl(a.server, key)).toBeLessThanOrEqual(3_000)
      expect(left).toBeLessThanOrEqual(3_000 - 30)
      expect(left).toBeGreaterThan(1_000)
      // and is renewed to its full ttl early in it
      yield* RedisServer.eventually(Effect.map(pttl(a.server, key), (left) => left > 55_000)).pipe(
        Effect.timeout("1500 millis")
      )
      expect(Duration.toMillis(yield* lease.remaining)).toBeLessThanOrEqual(
        (yield* pttl(a.server, key)) + 2
      )
    })
  )
})

// -----------------------------------------------------------------------------
// who leaves, and who dies
// -----------------------------------------------------------------------------

atOnce(RedisServer.layer())("a waiter that", (it) => {
  it.scoped("is interrupted has left the queue at once", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      const held = yield* caller(a.use, key, { ttl })
      yield* held.lease
      for (let round = 0; round < 5; round++) {
        const waiting = yield* queuedCaller(b, key, 0, { ttl })
        yield* waiting.interrupt
        const { millis } = yield* timed(awaitQueued(a.server, key, 0))
        expect(millis).toBeLessThan(200)
        yield* idle(b.store)
        expect(yield* leftovers(a.server)).toEqual([key])
      }
    })
  )

  it.scoped("is interrupted before anyone answered leaves nothing, whatever is answered then", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      const held = yield* caller(a.use, key, { ttl })
      yield* held.lease
      // its connection is there
      yield* Lock.withLock("warm")(Effect.void).pipe(b.use)
      b.proxy.holdReplies()
      const waiting = yield* queuedCaller(b, key, 0, { ttl })
      yield* waiting.interrupt
      b.proxy.releaseReplies()
      yield* awaitQueued(a.server, key, 0)
      yield* idle(b.store)
      expect(yield* leftovers(a.server)).toEqual([key])
    })
  )

  it.scoped("ran out of time has left the queue at once", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      const held = yield* caller(a.use, key, { ttl })
      yield* held.lease
      const waiting = yield* queuedCaller(b, key, 0, { ttl, waitAtMost: 300 })
      const { millis } = yield* timed(Fiber.await(waiting.fiber))
      expect(waiting.state()).toBe("failed")
      expect(millis).toBeLessThan(600)
      const gone = yield* timed(awaitQueued(a.server, key, 0))
      expect(gone.millis).toBeLessThan(200)
    })
  )

  for (const crossing of ["the message is held", "the answer to its leaving is held"] as const) {
    it.scoped(`leaves while its grant is under way hands it on: ${crossing}`, () =>
      Effect.gen(function* () {
        const [a, b] = yield* pair()
        const held = yield* caller(a.use, key, { ttl })
        yield* held.lease
        const leaving = yield* queuedCaller(b, key, 0, { ttl })
        yield* subscribed(b)
        const [c] = (yield* Effect.orDie(moreStores(a))) as [Environment]
        const behind = yield* queuedCaller(c, key, 1, { ttl })
        yield* subscribed(c)
        if (crossing === "the message is held") b.proxy.holdMessages()
        else b.proxy.holdReplies({ where: (connection) => !connection.subscriber })
        const startedAt = performance.now()
        yield* held.release
        if (crossing === "the message is held") yield* b.proxy.heldMessages
        yield* leaving.interrupt
        yield* leaving.release
        yield* behind.lease
        // told of it: neither the window (3 s) nor a heartbeat (1 s) has passed
        expect(performance.now() - startedAt).toBeLessThan(600)
        b.proxy.releaseMessages()
        b.proxy.releaseReplies()
        yield* behind.release
        yield* idle(b.store)
        yield* nothingLeft(a.server)
      })
    )
  }

  it.scoped("died with a fresh heartbeat costs the others its grant, and not more", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      const held = yield* caller(a.use, key, brisk)
      yield* held.lease
      yield* deadWaiter(a.server, key, { windowMillis: window, grantMillis: window })
      const waiting = yield* queuedCaller(b, key, 1, brisk)
      yield* subscribed(b)
      const { millis } = yield* timed(Effect.zipRight(held.release, waiting.lease))
      expect(millis).toBeGreaterThan(window / 2)
      expect(millis).toBeLessThan(window + tolerance)
    })
  )

  it.scoped("died with a heartbeat that is stale costs nothing, nor do ten of them", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      const held = yield* caller(a.use, key, { ttl })
      yield* held.lease
      for (let i = 0; i < 10; i++) {
        yield* deadWaiter(a.server, key, { windowMillis: 1, grantMillis: 3_000 })
      }
      const waiting = yield* queuedCaller(b, key, 10, { ttl })
      yield* subscribed(b)
      const { millis } = yield* timed(Effect.zipRight(held.release, waiting.lease))
      expect(millis).toBeLessThan(400)
      yield* waiting.release
      expect(yield* leftovers(a.server)).toEqual([])
    })
  )

  it.scoped("was paused past its window, and lost its place, queues again and is served", () =>
    quietly(
      Effect.gen(function* () {
        const { a, b, held, waiting } = yield* awaited(brisk)
        const [c] = (yield* Effect.orDie(moreStores(a))) as [Environment]
        // nothing of it comes through; who comes later goes first when its heartbeat is stale
        b.proxy.blackHole()
        const later = yield* queuedCaller(c, key, 1, { ttl })
        yield* subscribed(c)
        yield* Effect.sleep(window + 100)
        yield* held.release
        yield* later.lease
        expect(waiting.state()).toBe("waiting")
        b.proxy.heal()
        yield* awaitQueued(a.server, key, 1)
        yield* later.release
        yield* waiting.lease
        yield* waiting.release
        yield* nothingLeft(a.server)
      })
    )
  )

  it.scoped("cannot reach Redis for a whole window fails with what went wrong", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      const held = yield* caller(a.use, key, { ttl })
      yield* held.lease
      const waiting = yield* queuedCaller(b, key, 0, brisk)
      b.proxy.refuse()
      b.proxy.cutAll()
      const { exit, millis } = yield* timed(Fiber.join(waiting.fiber))
      expect(String(exit)).toContain("LockStoreError")
      expect(millis).toBeGreaterThan(window / 2)
      expect(millis).toBeLessThan(window + 2_500)
    })
  )

  it.scoped("loses its connection for less than a window keeps its place", () =>
    Effect.gen(function* () {
      const { a, b, held, waiting } = yield* awaited()
      const before = yield* queueOf(a.server, key)
      for (let round = 0; round < 3; round++) {
        b.proxy.cutAll()
        yield* subscribed(b)
      }
      expect(yield* queueOf(a.server, key)).toEqual(before)
      const { millis } = yield* timed(Effect.zipRight(held.release, waiting.lease))
      expect(millis).toBeLessThan(500)
    })
  )
})

atOnce(RedisServer.layer())("a ttl below the round trip", (it) => {
  // the grant comes too late; or it is over before the waiter's question comes
  for (const roundTrip of [160, 400]) {
    it.scoped(`fails at the third grant, and the line goes on: ${roundTrip} ms`, () =>
      Effect.gen(function* () {
        const [a, b, c] = yield* environments([strict, strict, strict])
        // the lock is never free: there is always another one in the queue
        const contended = RedisServer.eventually(
          Effect.map(queueOf(a.server, key), (tokens) => tokens.length >= 2)
        )
        for (const { use } of [a, c]) {
          yield* Effect.forkScoped(Effect.forever(Lock.withLock(key, { ttl })(contended).pipe(use)))
        }
        yield* awaitQueued(a.server, key, 1)
        b.proxy.delay({ toServer: roundTrip / 2, toClient: roundTrip / 2 })
        const short = yield* caller(b.use, key, { ttl: 150 })
        const behind = yield* caller(b.use, key, { ttl })
        const exit = yield* Fiber.await(short.fiber)
        expect(failure(exit)).toMatchObject({ _tag: "LockStoreError", operation: "acquire", key })
        expect(String(exit)).toContain("Choose a longer ttl")
        const places = b.proxy.commands.filter(
          (args) => touching(key)(args) && args.includes("150")
        )
        expect(new Set(places.map((args) => args[7])).size).toBe(3)
        yield* behind.lease
      })
    )
  }
})

atOnce(RedisServer.layer())("a holder that died", (it) => {
  it.scoped("is followed by the first waiter when its key expires, not a heartbeat later", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      for (const left of [1_300, 400]) {
        yield* deadHolder(a.server, key, left)
        const first = yield* queuedCaller(a, key, 0, { ttl })
        const second = yield* queuedCaller(b, key, 1, { ttl })
        const onServer = yield* pttl(a.server, key)
        const { millis } = yield* timed(first.lease)
        expect(millis).toBeGreaterThan(onServer - 20)
        // the next heartbeat would come half a second later
        expect(millis).toBeLessThan(onServer + 300)
        expect(second.state()).toBe("waiting")
        yield* first.release
        yield* second.lease
        yield* second.release
      }
    })
  )

  it.scoped("whose ttl was made longer meanwhile is waited for, and shorter is noticed", () =>
    Effect.gen(function* () {
      const [a] = yield* pair()
      yield* deadHolder(a.server, key, 600)
      const waiting = yield* queuedCaller(a, key, 0, { ttl })
      yield* a.server.command("PEXPIRE", key, 2_500)
      yield* Effect.sleep(800)
      expect(waiting.state()).toBe("waiting")
      yield* a.server.command("PEXPIRE", key, 1)
      const { millis } = yield* timed(waiting.lease)
      expect(millis).toBeLessThan(1_000 + tolerance)
    })
  )

  it.scoped("and a first waiter that died as well: the next one waits a heartbeat at most", () =>
    Effect.gen(function* () {
      const [a] = yield* pair()
      yield* deadHolder(a.server, key, 500)
      yield* deadWaiter(a.server, key, { windowMillis: 1, grantMillis: 1 })
      const waiting = yield* queuedCaller(a, key, 1, brisk)
      const onServer = yield* pttl(a.server, key)
      const { millis } = yield* timed(waiting.lease)
      expect(millis).toBeLessThan(onServer + beat + tolerance)
    })
  )

  it.scoped(
    "and whose key was gone the same moment it was asked: everybody is served in order",
    () =>
      quietly(
        Effect.gen(function* () {
          const stores = yield* environments([strict, strict, strict, strict])
          const [{ server }] = stores
          yield* deadHolder(server, key, 60_000)
          const served: Array<number> = []
          const fibers: Array<Fiber.RuntimeFiber<unknown, unknown>> = []
          for (const index of stores.keys()) {
            fibers.push(
              yield* Effect.fork(
                Lock.withLock(
                  key,
                  brisk
                )(Effect.sync(() => served.push(index))).pipe(stores[index]!.use)
              )
            )
            yield* awaitQueued(server, key, index + 1)
          }
          yield* server.command("DEL", key)
          const { exit, millis } = yield* timed(Fiber.joinAll(fibers))
          expect(Exit.isSuccess(exit)).toBe(true)
          expect(served).toEqual([0, 1, 2, 3])
          expect(millis).toBeLessThan(beat + tolerance)
          expect(yield* leftovers(server)).toEqual([])
        })
      )
  )
})

/** One more store on the same server. */
const moreStores = ({ server }: Environment) =>
  Effect.gen(function* () {
    const proxy = yield* FaultProxy.make(server.port)
    const store = yield* storeOf(RedisLockStore.layer({ url: proxy.url, ...strict }))
    return [{ server, proxy, ...store }] satisfies ReadonlyArray<Environment>
  })
