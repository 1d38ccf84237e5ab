/** A leader among processes of the operating system, under what happens to processes and servers. */
import { expect, layer } from "@effect/vitest"
import { atOnce } from "../support/atOnce.js"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { Leader, Lock, RedisLockStore } from "effect-redis-lock"
import { eventsOf, now } from "../faults/History.js"
import * as Register from "../faults/Register.js"
import type { News } from "../support/candidateWorker.js"
import * as Workers from "../support/Workers.js"
import {
  environment,
  FaultProxy,
  leftovers,
  pttl,
  quietly,
  RedisServer,
  storeOf,
  undisturbed
} from "./support.js"

// ---------------------------------------------------------------- helpers

const key = "lead"

interface Elected {
  readonly worker: Workers.Candidate
  readonly at: number
  readonly term: number
}

/** Processes that stand for the lead, and the register that the leader writes to. */
const election = (url: string, ttl: number, candidates: number) =>
  Effect.gen(function* () {
    const register = yield* Register.listen
    const all: Array<Workers.Candidate> = []
    const join = Effect.tap(
      Workers.candidate({
        REDIS_URL: url,
        KEY: key,
        TTL: String(ttl),
        OWNER: "the same host",
        REGISTER: String(register.port)
      }),
      (worker) => Effect.sync(() => void all.push(worker))
    )
    yield* Effect.all(
      Array.from({ length: candidates }, () => join),
      { concurrency: "unbounded" }
    )
    const find = (worker: Workers.Candidate, after: number) =>
      worker.told.find((news) => news._tag === "Elected" && news.term > after) as
        Extract<News, { _tag: "Elected" }> | undefined
    /** The first of the terms after that one. */
    const electedAfter = (after: number): Effect.Effect<Elected> =>
      Effect.raceAll(
        all.map((worker) =>
          Effect.map(
            worker.until(() => find(worker, after) !== undefined),
            () => ({ worker, ...find(worker, after)! })
          )
        )
      )
    const first = yield* electedAfter(0)
    yield* waiting(candidates - 1)
    return { register, all, join, electedAfter, first }
  })

/** Until so many stand in the queue. */
const waiting = (count: number) =>
  Effect.flatMap(RedisServer.RedisServer, ({ command }) =>
    RedisServer.eventually(
      Effect.map(command("ZCARD", `{${key}}:lock-queue`), (found) => found === count)
    )
  )

type Of<Tag extends News["_tag"]> = Extract<News, { readonly _tag: Tag }>

const toldBy = <Tag extends News["_tag"]>(workers: ReadonlyArray<Workers.Candidate>, tag: Tag) =>
  workers.flatMap(({ told }) => told.filter((news): news is Of<Tag> => news._tag === tag))

/** What is wrong with the terms: two that were proven at a time, or a step without a proof. */
const violations = (workers: ReadonlyArray<Workers.Candidate>): ReadonlyArray<string> => {
  const wrong: Array<string> = []
  const terms = new Map<number, { from: number; to: number }>()
  for (const { at, term, until } of toldBy(workers, "Step")) {
    if (until <= at) wrong.push(`${term} made a step at ${at}, without a proof`)
    const known = terms.get(term)
    terms.set(term, {
      from: Math.min(at, known?.from ?? at),
      to: Math.max(until, known?.to ?? until)
    })
  }
  for (const { at, term } of toldBy(workers, "Ended")) {
    const known = terms.get(term)
    if (known !== undefined) known.to = Math.min(known.to, at)
  }
  const elected = toldBy(workers, "Elected").map(({ term }) => term)
  if (new Set(elected).size < elected.length) wrong.push(`a term was there twice: ${elected}`)
  const inOrder = [...terms].sort(([a], [b]) => a - b)
  for (const [index, [term, { from }]] of inOrder.entries()) {
    for (const [earlier, { to }] of inOrder.slice(0, index)) {
      if (from < to) wrong.push(`${term} led from ${from}, ${earlier} until ${to}`)
    }
  }
  return wrong
}

/** The register has refused what came behind a later term. */
const expectFenced = (register: Register.Register) => {
  let greatest = 0
  for (const { accepted, fence } of eventsOf(register.take(), "Write")) {
    expect(accepted).toBe(fence >= greatest)
    greatest = Math.max(greatest, fence)
  }
}

/** A candidate that waits for the lead has told nothing but that. */
const steps = (worker: Workers.Candidate) => toldBy([worker], "Step").length

// ---------------------------------------------------------------- tests

atOnce(RedisServer.layer())("a leader of several processes", (it) => {
  it.scoped(
    "hands over in one message at a clean end, after its finalizers: a rolling restart",
    () =>
      undisturbed(
        100,
        Effect.gen(function* () {
          const server = yield* RedisServer.RedisServer
          yield* server.flush
          // heartbeats of a second, a ttl of a minute: soon is by the message
          const { all, electedAfter, first, join, register } = yield* election(
            server.url,
            60_000,
            3
          )
          const seen = yield* Queue.unbounded<Leader.LeaderInfo>()
          const { use } = yield* storeOf(RedisLockStore.layer({ url: server.url }))
          yield* Leader.changes(key, { every: 20 }).pipe(
            Stream.filterMap((info) => info),
            Stream.runForEach((info) => Queue.offer(seen, info)),
            use,
            Effect.forkScoped
          )
          let leader = first
          const infos = [yield* Queue.take(seen)]
          for (let restart = 0; restart < 3; restart++) {
            yield* leader.worker.terminate
            const next = yield* electedAfter(leader.term)
            const { accepted, at } = yield* leader.worker.next("Ended")
            expect(accepted).toBe(true)
            expect(next.at - at).toBeGreaterThan(0)
            expect(next.at - at).toBeLessThan(400)
            // (runMain: by the signal's own exit code)
            expect([0, 130, 143]).toContain(yield* leader.worker.ended)
            yield* join
            yield* waiting(2)
            infos.push(yield* Queue.take(seen))
            leader = next
          }
          expect(violations(all)).toEqual([])
          expectFenced(register)
          const terms = toldBy(all, "Elected").map(({ term }) => term)
          expect(infos.map(({ term }) => term)).toEqual(terms.sort((a, b) => a - b))
          // told apart, by a name that is no owner
          expect(new Set(infos.map(({ owner }) => owner))).toEqual(new Set(["the same host"]))
          expect(new Set(infos.map(({ incarnation }) => incarnation)).size).toBe(infos.length)
        })
      ),
    120_000
  )

  it.scoped(
    "that is killed is followed when its ttl has passed, and not before",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const ttl = 2_000
        const { all, electedAfter, first, register } = yield* election(server.url, ttl, 3)
        yield* Effect.sleep(ttl)
        yield* first.worker.kill
        const killedAt = now()
        const left = yield* pttl(server, key)
        const next = yield* electedAfter(first.term)
        expect(next.at - killedAt).toBeGreaterThan(left - 100)
        expect(next.at - killedAt).toBeLessThan(ttl + 1_000)
        yield* next.worker.terminate
        expect(violations(all)).toEqual([])
        expectFenced(register)
      }),
    60_000
  )

  it.scoped(
    "that was stopped for longer than its ttl makes no step when it goes on, and its writes are refused",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const ttl = 1_500
        const { all, electedAfter, first, register } = yield* election(server.url, ttl, 2)
        const old = first.worker
        yield* old.until(() => steps(old) > 20)
        yield* old.stop
        const next = yield* electedAfter(first.term)
        // (what it had told before it was stopped)
        yield* next.worker.until(() => steps(next.worker) > 20)
        const before = steps(old)
        yield* old.cont
        // its finalizers end; their write comes too late
        expect(yield* old.next("Ended")).toMatchObject({ term: first.term, accepted: false })
        expect(steps(old)).toBe(before)
        // and it stands again
        yield* waiting(1)
        yield* next.worker.kill
        expect((yield* electedAfter(next.term)).worker).toBe(old)
        expect(violations(all)).toEqual([])
        expectFenced(register)
      }),
    60_000
  )

  it.scoped(
    "leads again within a ttl and a second when the network is back",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const proxy = yield* FaultProxy.make(server.port)
        const ttl = 1_500
        const { all, electedAfter, first, register } = yield* election(proxy.url, ttl, 3)
        let term = first.term
        for (const outage of ["silence", "refusal"]) {
          if (outage === "silence") proxy.blackHole()
          else {
            proxy.refuse()
            proxy.cutAll()
          }
          // nobody leads, whoever asks how often
          yield* Effect.sleep(ttl + 3_000)
          expect(toldBy(all, "Ended").some((ended) => ended.term === term)).toBe(true)
          const healedAt = now()
          if (outage === "silence") proxy.heal()
          else proxy.accept()
          const next = yield* electedAfter(term)
          expect(next.at).toBeGreaterThan(healedAt)
          expect(next.at - healedAt).toBeLessThan(ttl + 1_000)
          term = next.term
        }
        expect(violations(all)).toEqual([])
        expectFenced(register)
      }),
    60_000
  )
})

layer(
  RedisServer.layer({ args: RedisServer.flags({ appendonly: "yes", appendfsync: "always" }) }),
  { excludeTestServices: true, timeout: "30 seconds" }
)("a leader on a server that restarts", (it) => {
  it.scoped(
    "is one at a time, and somebody leads within a ttl and a second when it is back",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        const ttl = 1_500
        const { all, electedAfter, first, register } = yield* election(server.url, ttl, 3)
        // soon: the lease lives on
        yield* server.restart
        yield* Effect.sleep(500)
        expect(toldBy(all, "Elected").map(({ term }) => term)).toEqual([first.term])
        // late: it is lost, and there is nobody
        yield* server.kill
        yield* Effect.sleep(ttl + 2_000)
        expect(toldBy(all, "Ended")).toMatchObject([{ term: first.term }])
        yield* server.restart
        const backAt = now()
        const next = yield* electedAfter(first.term)
        expect(next.at - backAt).toBeLessThan(ttl + 1_000)
        expect(violations(all)).toEqual([])
        expectFenced(register)
      }),
    60_000
  )
})

atOnce(RedisServer.layer())("those who observe a leader", (it) => {
  it.scoped("are told the same over a reconnect, and nothing while they cannot know", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment({ commandTimeout: 300 })
        const leading = yield* storeOf(RedisLockStore.layer({ url: server.url }))
        const seen = yield* Queue.unbounded<number | undefined>()
        yield* Leader.changes(key, { every: 20 }).pipe(
          Stream.runForEach((info) => Queue.offer(seen, Option.getOrUndefined(info)?.term)),
          use,
          Effect.forkScoped
        )
        expect(yield* Queue.take(seen)).toBeUndefined()
        /** A term, from its beginning until told. */
        const lead = Effect.gen(function* () {
          const terms = yield* Queue.unbounded<number>()
          const fiber = yield* Effect.forkScoped(
            Leader.run(key)(({ fencingToken }) =>
              Effect.zipRight(Queue.offer(terms, fencingToken), Effect.never)
            )
          )
          return { term: yield* Queue.take(terms), end: Fiber.interrupt(fiber) }
        }).pipe(leading.use)
        const first = yield* lead
        expect(yield* Queue.take(seen)).toBe(first.term)
        for (let cut = 0; cut < 5; cut++) {
          proxy.cutAll()
          yield* Effect.sleep(50)
        }
        // long enough for commands to fail
        proxy.refuse()
        proxy.cutAll()
        yield* first.end
        const second = yield* lead
        yield* Effect.sleep(1_000)
        expect(yield* Queue.size(seen)).toBe(0)
        proxy.accept()
        // the vacancy was missed
        expect(yield* Queue.take(seen)).toBe(second.term)
        yield* second.end
        expect(yield* Queue.take(seen)).toBeUndefined()
        yield* RedisServer.eventually(Effect.map(leftovers(server), (left) => left.length === 0))
      })
    )
  )

  it.scoped("are told of no leader where another program has the key, or the record is gone", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      const current = Effect.either(Leader.current(key)).pipe(use)
      yield* server.command("SET", key, "a program's own value", "PX", 60_000)
      expect(yield* current).toEqual(Either.right(Option.none()))
      yield* server.command("DEL", key)

      const lease = yield* Lock.acquire(key).pipe(use)
      expect(yield* current).toMatchObject(Either.right(Option.some({ term: lease.fencingToken })))
      yield* server.command("DEL", `{${key}}:lock-record`)
      expect(yield* current).toMatchObject(
        Either.left({ _tag: "LockStoreError", operation: "look", transient: true })
      )
      // nothing is told until the next term
      const next = yield* Leader.changes(key, { every: 10 }).pipe(
        Stream.runHead,
        use,
        Effect.forkScoped
      )
      yield* Effect.sleep(50)
      expect(Option.isNone(yield* Fiber.poll(next))).toBe(true)
      yield* lease.release
      expect(Option.flatten(yield* Fiber.join(next))).toEqual(Option.none())
    })
  )
})
