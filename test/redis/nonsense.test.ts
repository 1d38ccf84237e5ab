/** A Redis that answers nonsense is an error, not a crash: of the operation, in its time. */
import { expect } from "@effect/vitest"
import { atOnce } from "../support/atOnce.js"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Lock, type LockError, RedisLockStore } from "effect-redis-lock"
import type { Script } from "../../src/internal/redis/scripts.js"
import * as scripts from "../../src/internal/redis/scripts.js"
import { isOlderClient } from "../support/client.js"
import * as LyingProxy from "../support/LyingProxy.js"
import { awaitQueued, caller, internals, pair, queueOf, strict } from "../support/Queue.js"
import {
  connectedClient,
  type Environment,
  failure,
  failures,
  nothingLeft,
  quietly,
  RedisServer,
  storeOf,
  timed,
  unhandledErrors,
  untilTogether
} from "./support.js"

const ttl = "1 minute"
const commandTimeout = 1_000
/** Of an operation that ends by its deadline, on a machine that is busy. */
const inTime = commandTimeout + 2_000

const bulk = (text: string) => `$${Buffer.byteLength(text)}\r\n${text}\r\n`
const list = (...items: ReadonlyArray<string>) => `*${items.length}\r\n${items.join("")}`
const nil = "$-1\r\n"

/** Replies that are RESP, and an answer to none of the scripts. */
const answers: Readonly<Record<string, string>> = {
  "a strange status": "+PONG\r\n",
  "an empty status": "+\r\n",
  "a strange number": ":7\r\n",
  "a negative number": ":-1\r\n",
  "the largest number": ":9223372036854775807\r\n",
  nil,
  "nil as a list": "*-1\r\n",
  "an empty text": bulk(""),
  "a text": bulk("no answer of ours"),
  "a text with the bytes of a protocol": bulk("\r\n:1\r\n\u0000"),
  "bytes that are not UTF-8": "$4\r\n\xff\xfe\x80\x00\r\n",
  megabytes: bulk("x".repeat(4_000_000)),
  "an empty list": "*0\r\n",
  "a list of four": list(":1\r\n", ":1\r\n", bulk(""), bulk("1")),
  "a list of six": list(":1\r\n", ":1\r\n", bulk(""), bulk("1"), ":1\r\n", ":1\r\n"),
  "lists in lists": list(list(list(nil, list())), list(":1\r\n")),
  "very many lists in lists": `${"*1\r\n".repeat(500)}:1\r\n`,
  "an error in a list": list("-ERR inside\r\n")
}

/** Errors that Redis never gives. */
const errors: Readonly<Record<string, string>> = {
  "an error without a text": "-\r\n",
  "an error of one letter": "-E\r\n",
  "an error with control characters": "-ERR \u0000\u001b[31m\t${x} %s {}\r\n",
  "a long error": `-ERR ${"x".repeat(1_000_000)}\r\n`,
  "an error that names prototypes": "-__proto__ constructor\r\n"
}

/** Not RESP, or not all of it. */
const garbage: Readonly<Record<string, string | Buffer>> = {
  HTTP: "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
  "random bytes": Buffer.from([0x00, 0xff, 0x16, 0x03, 0x01, 0x0d, 0x0a, 0x80, 0x0d, 0x0a]),
  "a length that is not one": "$abc\r\nabc\r\n",
  "a list that never ends": "*1000000\r\n:1\r\n",
  "a text that never ends": "$500000000\r\nabc"
}

/** Texts that look like a fencing token, and are none that can be compared. */
const fences: Readonly<Record<string, string>> = {
  "zero, as a text with zeros": bulk("0000000000000000"),
  negative: bulk("-1700000000000000"),
  "not a number": bulk("NaN"),
  infinite: bulk("inf"),
  "with an exponent": bulk("1.7e+15"),
  "with a fraction": bulk("1700000000000000.5"),
  "with a space": bulk(" 1700000000000000"),
  "with a line end": bulk("1700000000000000\n"),
  hexadecimal: bulk("0x1700000000000000"),
  "in Arabic digits": bulk("١٧٠٠٠٠٠٠٠٠٠٠٠٠٠٠"),
  "with text behind": bulk("1700000000000000 owner"),
  "in a list": list(bulk("1700000000000000")),
  "the first number that is not safe": bulk("9007199254740992"),
  "above the safe numbers": bulk("9007199254740993"),
  "of 16 nines": bulk("9999999999999999"),
  "of 17 digits": bulk("17000000000000000"),
  "above the safe numbers, as a number": ":9007199254740993\r\n"
}

/** "Busy" with numbers that are none, or cannot be: ms left, ours, record, server time, rank. */
const busies: Readonly<Record<string, string>> = {
  "nothing but nil": list(nil, nil, nil, nil, nil),
  "nothing but lists": list(list(), list(), list(), list(), list()),
  "a ttl that is not a number": list(bulk("NaN"), ":1\r\n", bulk("1 o"), bulk("1"), ":-1\r\n"),
  "a ttl without end": list(bulk("Infinity"), ":1\r\n", bulk("1 o"), bulk("1"), ":-1\r\n"),
  "a rank that is not a number": list(":5000\r\n", ":1\r\n", bulk("1 o"), bulk("1"), bulk("x")),
  "a time that is not a number": list(":5000\r\n", ":1\r\n", bulk("1 o"), bulk("x"), ":0\r\n")
}

/** One after the other; a failure says which it was. */
const each = <A, E, R>(
  cases: Readonly<Record<string, A>>,
  run: (said: A) => Effect.Effect<unknown, E, R>
): Effect.Effect<void, never, R> =>
  Effect.forEach(
    Object.entries(cases),
    ([name, said]) =>
      Effect.catchAllCause(run(said), (cause) =>
        Effect.die(new Error(`with ${name}`, { cause: Cause.squash(cause) }))
      ),
    { discard: true }
  )

const isOf =
  (script: Script) =>
  (args: ReadonlyArray<string>): boolean =>
    args[1] === script.sha || args[1] === script.lua

/** What is said to one kind of script, and the truth to all others. */
const insteadOf =
  (script: Script, said: string | Buffer): LyingProxy.Lie =>
  (args) =>
    isOf(script)(args) ? said : undefined

/** A store behind a proxy that tells the truth for now, on an empty server. */
const lyingEnvironment = (options?: RedisLockStore.Options) =>
  Effect.gen(function* () {
    const server = yield* RedisServer.RedisServer
    yield* server.flush
    const proxy = yield* LyingProxy.make(server.port)
    const { close, store, use } = yield* storeOf(
      RedisLockStore.layer({ url: proxy.url, commandTimeout, ...options })
    )
    // the scripts are loaded, and the connection is there
    yield* Effect.scoped(Lock.tryAcquire("first")).pipe(use, Effect.retry({ times: 20 }))
    return { server, proxy, close, store, use }
  })

/** What such an error has to say for itself. */
const expectStoreError = (error: unknown, operation: LockError.LockStoreOperation) => {
  expect(error).toMatchObject({ _tag: "LockStoreError", operation, key: "k" })
  const { message } = error as LockError.LockStoreError
  expect(message).toContain("k")
  expect(message.length).toBeLessThan(2_000_000)
}

atOnce(RedisServer.layer())("an answer that is nonsense", (it) => {
  const nonsense = { ...answers, ...errors, ...garbage }

  it.scoped(
    "to an acquire: it fails, nothing is held, and the next one succeeds",
    () =>
      quietly(
        Effect.gen(function* () {
          const unhandled = yield* unhandledErrors
          const { proxy, server, use } = yield* lyingEnvironment()
          yield* each(nonsense, (said) =>
            Effect.gen(function* () {
              for (const acquire of [Lock.tryAcquire("k", { ttl }), Lock.acquire("k", { ttl })]) {
                proxy.lie(insteadOf(scripts.acquire, said))
                const { exit, millis } = yield* timed(Effect.scoped(acquire).pipe(use))
                proxy.relent()
                expect(proxy.told()).toBeGreaterThan(0)
                expectStoreError(failure(exit), "acquire")
                expect(millis).toBeLessThan(inTime)
                yield* nothingLeft(server)
              }
              yield* Effect.scoped(Lock.tryAcquire("k", { ttl })).pipe(use)
            })
          )
          expect(unhandled).toEqual([])
        })
      ),
    { timeout: 120_000 }
  )

  it.scoped(
    "no answer at all, twice: the connection is replaced again, and the key is given back",
    () =>
      quietly(
        Effect.gen(function* () {
          const { proxy, server, use } = yield* lyingEnvironment({ commandTimeout: 500 })
          // swallowed, on the first connection and on the one that took its place
          proxy.lie(insteadOf(scripts.acquire, ""))
          const { exit } = yield* timed(Effect.scoped(Lock.tryAcquire("k", { ttl })).pipe(use))
          expectStoreError(failure(exit), "acquire")
          yield* proxy.untilTold(2)
          proxy.relent()
          yield* nothingLeft(server)
          yield* Effect.scoped(Lock.tryAcquire("k", { ttl })).pipe(use)
        })
      )
  )

  if (!isOlderClient)
    it.scoped(
      "that looks like a grant, with an absurd fencing token: it fails, nothing is held",
      () =>
        Effect.gen(function* () {
          const unhandled = yield* unhandledErrors
          const { proxy, server, use } = yield* lyingEnvironment()
          const granted: Array<string> = []
          yield* each(fences, (said) =>
            Effect.gen(function* () {
              for (const acquire of [Lock.tryAcquire("k", { ttl }), Lock.acquire("k", { ttl })]) {
                proxy.lie(insteadOf(scripts.acquire, said))
                const { exit } = yield* timed(Effect.scoped(acquire).pipe(use))
                proxy.relent()
                if (exit._tag === "Success")
                  granted.push(`${exit.value.fencingToken}, said as ${JSON.stringify(said)}`)
                else expectStoreError(failure(exit), "acquire")
                yield* nothingLeft(server)
              }
            })
          )
          expect(granted).toEqual([])
          expect(unhandled).toEqual([])
        })
    )

  if (!isOlderClient)
    it.scoped("that looks like 'busy', with numbers that are none: it fails, nothing is held", () =>
      Effect.gen(function* () {
        const unhandled = yield* unhandledErrors
        const { proxy, server, use } = yield* lyingEnvironment()
        const believed: Array<string> = []
        yield* each(busies, (said) =>
          Effect.gen(function* () {
            proxy.lie(insteadOf(scripts.acquire, said))
            const { exit } = yield* timed(Effect.scoped(Lock.tryAcquire("k", { ttl })).pipe(use))
            proxy.relent()
            const [error] = failures(exit)
            if (error?._tag === "LockStoreError") expectStoreError(error, "acquire")
            else believed.push(`${JSON.stringify(said)}: ${error?.message ?? "granted"}`)
            // what nobody told us that we have ends by its ttl, or is given back
            yield* server.command("DEL", "k")
          })
        )
        expect(believed).toEqual([])
        expect(unhandled).toEqual([])
      })
    )

  if (!isOlderClient)
    it.scoped(
      "to a heartbeat: the waiter fails when its window is over, and has left the queue",
      () =>
        quietly(
          Effect.gen(function* () {
            const unhandled = yield* unhandledErrors
            const { proxy, server, use } = yield* lyingEnvironment({
              ...strict,
              commandTimeout: 300
            })
            const other = yield* storeOf(RedisLockStore.layer({ url: server.url, ...strict }))
            // an error is asked again like an answer
            yield* each({ ...answers, ...errors }, (said) =>
              Effect.gen(function* () {
                const holder = yield* caller(other.use, "k", { ttl })
                yield* holder.lease
                proxy.lie(insteadOf(scripts.heartbeat, said))
                const { exit, millis } = yield* timed(
                  Effect.scoped(Lock.acquire("k", { ttl: 90, waitAtMost: "20 seconds" })).pipe(use)
                )
                proxy.relent()
                expect(proxy.told()).toBeGreaterThan(0)
                expectStoreError(failure(exit), "acquire")
                expect(millis).toBeLessThan(5_000)
                yield* awaitQueued(server, "k", 0)
                yield* holder.release
                yield* nothingLeft(server)
              })
            )
            expect(unhandled).toEqual([])
          })
        ),
      { timeout: 120_000 }
    )

  it.scoped("to one heartbeat: the waiter keeps its place, and is served", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, server, use } = yield* lyingEnvironment(strict)
        const other = yield* storeOf(RedisLockStore.layer({ url: server.url, ...strict }))
        const holder = yield* caller(other.use, "k", { ttl })
        yield* holder.lease
        const waiting = yield* caller(use, "k", { ttl: 600 })
        yield* awaitQueued(server, "k", 1)
        const [token] = yield* queueOf(server, "k")
        let lies = 0
        proxy.lie((args) =>
          isOf(scripts.heartbeat)(args) && lies++ === 0 ? list(nil, list()) : undefined
        )
        yield* proxy.untilTold(1)
        yield* holder.release
        expect((yield* waiting.lease).token).toBe(token)
      })
    )
  )

  if (!isOlderClient)
    it.scoped("to renewals: the lease is lost at the end of its validity, Unreachable", () =>
      quietly(
        Effect.gen(function* () {
          const unhandled = yield* unhandledErrors
          const { proxy, server, use } = yield* lyingEnvironment()
          yield* each(
            {
              nil: answers["nil"]!,
              "a strange number": answers["a strange number"]!,
              "lists in lists": answers["lists in lists"]!,
              ...errors
            },
            (said) =>
              Effect.gen(function* () {
                const { exit, millis } = yield* timed(
                  Lock.withLock("k", { ttl: 400 })(() => {
                    proxy.lie(insteadOf(scripts.renew, said))
                    return Effect.never
                  }).pipe(use)
                )
                expect(proxy.told()).toBeGreaterThan(0)
                expect(failure(exit)).toMatchObject({ _tag: "LockLost", reason: "Unreachable" })
                expect(millis).toBeLessThan(3_000)
                proxy.relent()
                yield* nothingLeft(server)
              })
          )
          expect(unhandled).toEqual([])
        })
      )
    )

  if (!isOlderClient)
    it.scoped(
      "to a verify: it fails, and the lease goes on",
      () =>
        quietly(
          Effect.gen(function* () {
            const unhandled = yield* unhandledErrors
            const { proxy, use } = yield* lyingEnvironment()
            const lease = yield* Lock.acquire("k", { ttl }).pipe(use)
            yield* each(nonsense, (said) =>
              Effect.gen(function* () {
                proxy.lie(insteadOf(scripts.verify, said))
                const { exit, millis } = yield* timed(lease.verify)
                proxy.relent()
                expectStoreError(failure(exit), "verify")
                expect(millis).toBeLessThan(inTime)
                expect(yield* lease.isHeld).toBe(true)
                // (what came last can have been half of an answer, on two connections)
                yield* Effect.retry(lease.verify, { times: 1 })
              })
            )
            expect(unhandled).toEqual([])
          })
        ),
      { timeout: 60_000 }
    )

  it.scoped("to a release: it fails, in its time, and the lock is free", () =>
    quietly(
      Effect.gen(function* () {
        const unhandled = yield* unhandledErrors
        const { proxy, server, use } = yield* lyingEnvironment()
        // what breaks the connection is a release that is sent again: resending.test.ts
        yield* each({ ...answers, ...errors }, (said) =>
          Effect.gen(function* () {
            const lease = yield* Lock.acquire("k", { ttl }).pipe(use)
            proxy.lie(insteadOf(scripts.release, said))
            const { exit, millis } = yield* timed(lease.release)
            proxy.relent()
            expectStoreError(failure(exit), "release")
            expect(millis).toBeLessThan(inTime)
            yield* nothingLeft(server)
          })
        )
        expect(unhandled).toEqual([])
      })
    )
  )

  it.scoped("to a release of withLock: the body's result, and the lock is free", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, server, use } = yield* lyingEnvironment()
        for (const said of [answers["lists in lists"]!, errors["an error of one letter"]!]) {
          const result = yield* Lock.withLock("k", { ttl })(() => {
            proxy.lie(insteadOf(scripts.release, said))
            return Effect.succeed("done")
          }).pipe(use)
          proxy.relent()
          expect(result).toBe("done")
          yield* nothingLeft(server)
        }
      })
    )
  )

  it.scoped("to the question whether others wait: the next caller of the process is served", () =>
    quietly(
      Effect.gen(function* () {
        const unhandled = yield* unhandledErrors
        const { proxy, server, use } = yield* lyingEnvironment({ localHandoff: 1 })
        for (const said of Object.values({ ...answers, ...errors })) {
          const first = yield* caller(use, "k", { ttl: 1_000 })
          yield* first.lease
          const second = yield* caller(use, "k", { ttl: 1_000 })
          yield* Effect.sleep(5)
          proxy.lie(insteadOf(scripts.pass, said))
          yield* first.release
          yield* second.lease
          proxy.relent()
          yield* second.release
          yield* nothingLeft(server)
        }
        expect(unhandled).toEqual([])
      })
    )
  )

  if (!isOlderClient)
    it.scoped(
      "to a batch: each of its callers has an answer of its own",
      () =>
        quietly(
          Effect.gen(function* () {
            const unhandled = yield* unhandledErrors
            const { proxy, server, store, use } = yield* lyingEnvironment()
            yield* untilTogether({ store, use })
            const batch = Effect.forEach(
              Array.from({ length: 64 }, (_, i) => `k${i}`),
              (key) => Effect.exit(Effect.scoped(Lock.tryAcquire(key, { ttl }))),
              { concurrency: "unbounded" }
            ).pipe(use)
            const told: Readonly<Record<string, string | Buffer>> = {
              ...nonsense,
              "a list too short": list(":1\r\n"),
              "a list too long": `*100\r\n${":1\r\n".repeat(100)}`,
              "strange things for each": `*16\r\n${list(nil, bulk("x"), list(), "+OK\r\n").slice(4).repeat(4)}`
            }
            yield* each(told, (said) =>
              Effect.gen(function* () {
                proxy.lie(insteadOf(scripts.batch, said))
                const { exit, millis } = yield* timed(batch)
                proxy.relent()
                expect(proxy.told()).toBeGreaterThan(0)
                expect(millis).toBeLessThan(inTime)
                if (exit._tag === "Failure") throw new Error(String(exit))
                expect(exit.value).toHaveLength(64)
                for (const one of exit.value) {
                  const [error] = failures(one)
                  if (error !== undefined) {
                    expect(error).toMatchObject({ _tag: "LockStoreError", operation: "acquire" })
                  }
                }
                yield* nothingLeft(server)
              })
            )
            expect(unhandled).toEqual([])
          })
        ),
      { timeout: 60_000 }
    )

  it.scoped(
    "unasked for, on the connection for commands: what comes then is not believed blindly",
    () =>
      quietly(
        Effect.gen(function* () {
          const unhandled = yield* unhandledErrors
          const { proxy, server, use } = yield* lyingEnvironment()
          for (const said of ["+OK\r\n", ":1\r\n", "*2\r\n+a\r\n+b\r\n", "-ERR unasked\r\n"]) {
            expect(proxy.say("others", said)).toBe(1)
            // in step or not: an error or a lease, and nothing is left behind in the end
            const { exit, millis } = yield* timed(Effect.scoped(Lock.tryAcquire("k")).pipe(use))
            expect(millis).toBeLessThan(inTime)
            for (const error of failures(exit)) {
              expect(error).toMatchObject({ _tag: "LockStoreError" })
            }
            yield* nothingLeft(server)
          }
          expect(unhandled).toEqual([])
        })
      )
  )

  it.scoped(
    "to the commands with which a connection begins",
    () =>
      quietly(
        Effect.gen(function* () {
          const unhandled = yield* unhandledErrors
          const server = yield* RedisServer.RedisServer
          const proxy = yield* LyingProxy.make(server.port)
          yield* each(nonsense, (said) =>
            Effect.gen(function* () {
              proxy.lie((args) => (/^(hello|info|client)$/i.test(args[0]!) ? said : undefined))
              const { close, use } = yield* storeOf(
                RedisLockStore.layer({ url: proxy.url, commandTimeout: 300 })
              )
              const { exit, millis } = yield* timed(
                Effect.scoped(Lock.tryAcquire("k", { ttl: 1_000 })).pipe(use)
              )
              for (const error of failures(exit)) expectStoreError(error, "acquire")
              expect(millis).toBeLessThan(2_300)
              yield* close
              // what a store cannot undo before it must let go of its connection ends with its ttl
              yield* nothingLeft(server)
            })
          )
          expect(unhandled).toEqual([])
        })
      ),
    { timeout: 60_000 }
  )

  it.scoped("a client of the user's: the same errors, and the client stays as it is", () =>
    quietly(
      Effect.gen(function* () {
        const unhandled = yield* unhandledErrors
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const proxy = yield* LyingProxy.make(server.port)
        const client = yield* connectedClient(proxy.port)
        const { use } = yield* storeOf(RedisLockStore.layerFromClient(client, { commandTimeout }))
        yield* each({ ...answers, ...errors }, (said) =>
          Effect.gen(function* () {
            proxy.lie(insteadOf(scripts.acquire, said))
            const { exit, millis } = yield* timed(Effect.scoped(Lock.tryAcquire("k")).pipe(use))
            proxy.relent()
            expectStoreError(failure(exit), "acquire")
            expect(millis).toBeLessThan(inTime)
            yield* nothingLeft(server)
          })
        )
        expect(yield* Effect.promise(() => client.set("still", "open"))).toBe("OK")
        expect(unhandled).toEqual([])
      })
    )
  )
})

atOnce(RedisServer.layer())("a port where no Redis listens", (it) => {
  const strangers: Readonly<Record<string, Parameters<typeof LyingProxy.stranger>[0]>> = {
    "a web server": { answer: garbage["HTTP"]!, hangsUp: true },
    "a mail server": { greeting: "220 mail.example ESMTP\r\n", answer: "500 what?\r\n" },
    "random bytes": { greeting: garbage["random bytes"]! },
    silence: {},
    "one who hangs up": { hangsUp: true },
    "a status to everything": { answer: "+OK\r\n" },
    "numbers to everything": { answer: ":1\r\n" },
    "a list to everything": { answer: answers["lists in lists"]! },
    "errors to everything": { answer: "-ERR no\r\n" },
    "replies before any question": { greeting: "+OK\r\n".repeat(5) }
  }
  for (const [name, said] of Object.entries(strangers)) {
    it.scoped(`${name}: LockStoreError, in its time`, () =>
      quietly(
        Effect.gen(function* () {
          const unhandled = yield* unhandledErrors
          const port = yield* LyingProxy.stranger(said)
          const { close, use } = yield* storeOf(
            RedisLockStore.layer({ url: `redis://127.0.0.1:${port}`, commandTimeout: 400 })
          )
          for (const acquire of [Lock.tryAcquire("k"), Lock.acquire("k")]) {
            const { exit, millis } = yield* timed(Effect.scoped(acquire).pipe(use))
            expectStoreError(failure(exit), "acquire")
            expect(millis).toBeLessThan(2_400)
          }
          const closed = yield* timed(close)
          expect(closed.millis).toBeLessThan(2_400)
          expect(unhandled).toEqual([])
        })
      )
    )
  }
})

atOnce(RedisServer.layer())("what is said on the channel", (it) => {
  const waiterOf = (environment: Environment) =>
    Effect.gen(function* () {
      const waiting = yield* caller(environment.use, "k", { ttl })
      yield* awaitQueued(environment.server, "k", 1)
      const { storeId } = internals(environment.store)
      yield* RedisServer.eventually(
        Effect.map(
          environment.server.command("PUBSUB", "NUMSUB", storeId),
          (counts) => String((counts as ReadonlyArray<unknown>)[1]) === "1"
        )
      )
      const [token] = yield* queueOf(environment.server, "k")
      return { waiting, storeId, token: token! }
    })

  it.scoped("by others, who do not know the token, does nothing", () =>
    Effect.gen(function* () {
      const unhandled = yield* unhandledErrors
      const [a, b] = yield* pair()
      const holder = yield* caller(a.use, "k", { ttl })
      const held = yield* holder.lease
      const { storeId, token, waiting } = yield* waiterOf(b)
      const fence = "1700000000000000"
      const forged = [
        "",
        " ",
        fence,
        ` ${fence}`,
        // the store's name is known to whoever sees a token of it, or lists the channels
        `${storeId} ${fence}`,
        `${storeId}. ${fence}`,
        `${storeId}.${"A".repeat(22)} ${fence}`,
        `${token.slice(0, -1)} ${fence}`,
        `${token.slice(0, -1)}${token.endsWith("A") ? "Q" : "A"} ${fence}`,
        `${token}x ${fence}`,
        ` ${token} ${fence}`,
        `${token.toUpperCase()} ${fence}`,
        // the holder's token is not one that waits
        `${held.token} ${fence}`,
        `__proto__ ${fence}`,
        `constructor ${fence}`,
        `toString ${fence}`,
        `undefined ${fence}`,
        `\u0000 ${fence}`,
        `${"x".repeat(2_000_000)} ${fence}`,
        " ".repeat(100_000),
        // the token, and no fencing token that could be one
        token,
        `${token} `,
        `${token}  ${fence}`,
        `${token}\t${fence}`,
        `${token} 0`,
        `${token} -5`,
        `${token} NaN`,
        `${token} Infinity`,
        `${token} 1e15`,
        `${token} 9007199254740993`,
        `${token} 9999999999999999`,
        `${token} 17000000000000000`,
        `${token} __proto__`
      ]
      const believed: Array<string> = []
      for (const message of forged) {
        yield* a.server.command("PUBLISH", storeId, message)
        // a round trip behind it, on the same connection
        yield* Effect.sleep(3)
        if (waiting.state() !== "waiting") believed.push(message)
        if (waiting.state() !== "waiting") break
      }
      expect(believed).toEqual([])
      yield* held.verify
      yield* holder.release
      const lease = yield* waiting.lease
      expect(lease.fencingToken).toBeGreaterThan(held.fencingToken)
      expect(lease.token).toBe(token)
      expect(unhandled).toEqual([])
    })
  )

  it.scoped("on other channels does nothing, nor does a keyspace notification of another key", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      const holder = yield* caller(a.use, "k", { ttl })
      yield* holder.lease
      const { storeId, token, waiting } = yield* waiterOf(b)
      for (const channel of ["erl1:", `${storeId}.x`, "__keyspace@0__:k", "*", `${storeId}*`]) {
        yield* a.server.command("PUBLISH", channel, `${token} 1700000000000000`)
        yield* a.server.command("PUBLISH", channel, "del")
      }
      yield* Effect.sleep(30)
      expect(waiting.state()).toBe("waiting")
      yield* holder.release
      yield* waiting.lease
    })
  )

  it.scoped("to the subscriber itself, in bytes that are no protocol: the waiter is served", () =>
    quietly(
      Effect.gen(function* () {
        const unhandled = yield* unhandledErrors
        const { proxy, server, store, use } = yield* lyingEnvironment(strict)
        const other = yield* storeOf(RedisLockStore.layer({ url: server.url, ...strict }))
        yield* each(
          {
            ...garbage,
            "a status": "+OK\r\n",
            "a number": ":1\r\n",
            "an unknown push": ">2\r\n+strange\r\n+thing\r\n"
          },
          (said) =>
            Effect.gen(function* () {
              const holder = yield* caller(other.use, "k", { ttl: 600 })
              yield* holder.lease
              const waiting = yield* Effect.fork(
                Lock.withLock("k", { ttl: 600 })((lease) => Effect.succeed(lease.token)).pipe(use)
              )
              yield* awaitQueued(server, "k", 1)
              yield* RedisServer.eventually(
                Effect.map(
                  server.command("PUBSUB", "NUMSUB", internals(store).storeId),
                  (counts) => String((counts as ReadonlyArray<unknown>)[1]) === "1"
                )
              )
              expect(proxy.say("subscribers", said)).toBeGreaterThan(0)
              yield* holder.release
              const { exit } = yield* timed(
                Fiber.join(waiting).pipe(Effect.timeout(Duration.seconds(5)))
              )
              if (exit._tag === "Failure") throw new Error(String(exit))
              yield* nothingLeft(server)
            })
        )
        expect(unhandled).toEqual([])
      })
    )
  )

  it.scoped("to SUBSCRIBE, in answers that are none: waiters ask at their heartbeat", () =>
    quietly(
      Effect.gen(function* () {
        const unhandled = yield* unhandledErrors
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const other = yield* storeOf(RedisLockStore.layer({ url: server.url, ...strict }))
        for (const said of ["-ERR no\r\n", "-\r\n", garbage["HTTP"]!, garbage["random bytes"]!]) {
          const proxy = yield* LyingProxy.make(server.port)
          const { use } = yield* storeOf(RedisLockStore.layer({ url: proxy.url, ...strict }))
          proxy.lie(([name]) => (/^subscribe$/i.test(name!) ? said : undefined))
          const holder = yield* caller(other.use, "k", { ttl: 600 })
          yield* holder.lease
          const waiting = yield* caller(use, "k", { ttl: 600 })
          yield* proxy.untilTold(1)
          yield* holder.release
          yield* Effect.timeout(waiting.lease, Duration.seconds(5))
          yield* waiting.release
        }
        expect(unhandled).toEqual([])
      })
    )
  )
})
