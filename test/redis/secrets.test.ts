/** Tokens cannot be guessed, and neither they nor passwords are shown whole to anybody. */
import { describe, expect, it, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Metric from "effect/Metric"
import * as Tracer from "effect/Tracer"
import { Lock, LockStore, MemoryLockStore, RedisLockStore } from "effect-redis-lock"
import { format, inspect } from "node:util"
import { makeStoreId, makeToken } from "../../src/internal/common/token.js"
import * as LyingProxy from "../support/LyingProxy.js"
import { awaitQueued, caller, strict } from "../support/Queue.js"
import { failure, quietly, RedisServer, storeOf, timed, unhandledErrors } from "./support.js"

// ---------------------------------------------------------------- chance

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
const secretOf = (token: string) => token.slice(token.lastIndexOf(".") + 1)

describe("tokens", () => {
  const count = 100_000
  const store = makeStoreId()
  const secrets = Array.from({ length: count }, () => secretOf(makeToken(store)))

  it("100,000 of them all differ, and so do their halves, and the names of stores", () => {
    expect(new Set(secrets).size).toBe(count)
    // 64 bits each: two that agree would be a matter of some 4 in 10,000,000,000
    expect(new Set(secrets.map((secret) => secret.slice(0, 11))).size).toBe(count)
    expect(new Set(secrets.map((secret) => secret.slice(11))).size).toBe(count)
    expect(new Set(Array.from({ length: 10_000 }, makeStoreId)).size).toBe(10_000)
  })

  /** Pearson's: how far the counts are from equal, in standard deviations of what chance does. */
  const unevenness = (counts: ReadonlyArray<number>): number => {
    const expected = counts.reduce((sum, n) => sum + n, 0) / counts.length
    const chi = counts.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0)
    const freedom = counts.length - 1
    return (chi - freedom) / Math.sqrt(2 * freedom)
  }

  it("every character is as frequent as every other, at every place", () => {
    for (let place = 0; place < 22; place++) {
      // the last one holds the two bits that are left
      const letters = place === 21 ? "AQgw" : alphabet
      const counts = new Map([...letters].map((letter) => [letter, 0]))
      for (const secret of secrets) {
        const letter = secret[place]!
        const seen = counts.get(letter)
        if (seen === undefined) throw new Error(`${letter} at ${place}`)
        counts.set(letter, seen + 1)
      }
      expect(unevenness([...counts.values()])).toBeLessThan(8)
    }
  })

  it("a token says nothing of the next one, nor of the one after a refill", () => {
    const bytes = secrets.map((secret) => Buffer.from(secret, "base64url"))
    for (const distance of [1, 2, 255, 256, 257]) {
      const differences = Array.from({ length: 256 }, () => 0)
      for (let i = distance; i < count; i++) {
        for (const at of [0, 7, 15]) differences[bytes[i]![at]! ^ bytes[i - distance]![at]!]!++
      }
      expect(unevenness(differences)).toBeLessThan(8)
    }
  })
})

// ---------------------------------------------------------------- what is shown

const jsonOf = (value: unknown): string => {
  try {
    return (
      JSON.stringify(value, (_, inner) => (typeof inner === "bigint" ? `${inner}` : inner)) ?? ""
    )
  } catch (error) {
    // (the context of a fiber of Effect 4 has a scope in it, which refers to itself)
    return String(error)
  }
}

/** All that an application could log, export or print while an effect runs. */
const makeShown = () => {
  const seen: Array<string> = []
  const show = (value: unknown) => {
    seen.push(inspect(value, { depth: 20, showHidden: true, maxStringLength: null }), String(value))
    seen.push(jsonOf(value))
    if (value instanceof Error) seen.push(value.message, String(value.stack))
    if (Exit.isExit(value) && Exit.isFailure(value)) {
      seen.push(Cause.pretty(value.cause, { renderErrorCause: true }))
    }
  }
  const logger = Logger.make(({ annotations, cause, message, spans }) => {
    show(message)
    show([...annotations])
    show([...spans])
    seen.push(Cause.pretty(cause, { renderErrorCause: true }))
  })
  const tracer = Tracer.make({
    context: (execution) => execution(),
    span: (name, parent, context, links, startTime, kind) => {
      show(name)
      const attributes = new Map<string, unknown>()
      return {
        _tag: "Span",
        name,
        spanId: name,
        traceId: "trace",
        parent,
        context,
        links,
        kind,
        sampled: true,
        attributes,
        status: { _tag: "Started", startTime },
        attribute: (key, value) => {
          attributes.set(key, value)
          show([key, value])
        },
        end: (_, exit) => show(exit),
        event: (event, _, values) => show([event, values]),
        addLinks: show
      }
    }
  })
  return {
    seen,
    show,
    collect: <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      effect.pipe(
        Logger.withMinimumLogLevel(LogLevel.All),
        Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
        Effect.withTracer(tracer)
      )
  }
}

/** Every token that was sent to the server meanwhile, granted or not. */
const tokensOf = (monitor: RedisServer.Monitor) =>
  Effect.map(monitor.commands, (commands) => [
    ...new Set(
      commands.flatMap(({ args }) => args.filter((arg) => /^erl1:[\w-]{12}\.[\w-]{22}$/.test(arg)))
    )
  ])

/** Not the secret part, nor most of it: Redis cuts what it repeats. */
const expectHidden = (seen: ReadonlyArray<string>, secrets: ReadonlyArray<string>) => {
  const all = seen.join("\n")
  for (const secret of secrets) {
    const at = all.indexOf(secret.slice(0, 12))
    if (at !== -1) throw new Error(`shown: ${all.slice(Math.max(0, at - 300), at + 40)}`)
  }
}

layer(RedisServer.layer(), { excludeTestServices: true })("no token is shown", (it) => {
  it.scoped("by waits, handoffs, losses, refusals, renewals and releases that fail, nonsense", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const monitor = yield* server.monitor
      const shown = makeShown()
      const proxy = yield* LyingProxy.make(server.port)
      yield* Effect.gen(function* () {
        const a = yield* storeOf(
          RedisLockStore.layer({ url: proxy.url, commandTimeout: 1_000, ...strict })
        )
        const b = yield* storeOf(RedisLockStore.layer({ url: server.url, ...strict }))
        // in turns, and one who waits in vain
        const holder = yield* caller(a.use, "k", { ttl: 2_000 })
        const lease = yield* holder.lease
        shown.show(lease)
        shown.show({ nested: { lease } })
        shown.show([lease.signal, lease.isHeld, lease.verify])
        const waiting = yield* caller(b.use, "k", { ttl: 2_000 })
        const inVain = yield* caller(b.use, "k", { ttl: 2_000, waitAtMost: 50 })
        yield* awaitQueued(server, "k", 1)
        shown.show(yield* Fiber.await(inVain.fiber))
        shown.show(yield* Effect.exit(Effect.scoped(Lock.tryAcquire("k")).pipe(b.use)))
        yield* holder.release
        shown.show(yield* Fiber.await(waiting.fiber))
        yield* waiting.release

        // lost in every way, with a release that fails as well
        const lose = (key: string, fault: Effect.Effect<unknown>) =>
          Effect.gen(function* () {
            const exit = yield* Lock.withLock(key, { ttl: 300 })((held) =>
              Effect.gen(function* () {
                yield* fault
                shown.show(yield* Effect.exit(held.verify))
                yield* Effect.sleep(400)
              })
            ).pipe(a.use, Effect.exit)
            shown.show(exit)
          })
        yield* lose("gone", server.command("DEL", "gone"))
        yield* lose("taken", server.command("SET", "taken", "x"))
        yield* lose(
          "no lock",
          Effect.zipRight(server.command("DEL", "no lock"), server.command("RPUSH", "no lock", "x"))
        )
        // answers that repeat what was asked: all, or as an error of the kind that Redis gives
        for (const [key, answer] of Object.entries({
          repeated: (args: ReadonlyArray<string>) => `+${args.slice(2).join(" ")}\r\n`,
          listed: (args: ReadonlyArray<string>) => `*1\r\n+${args.slice(2).join(" ")}\r\n`,
          unknown: (args: ReadonlyArray<string>) =>
            `-ERR unknown command 'x', with args beginning with: ${args
              .slice(2)
              .map((arg) => `'${arg}'`)
              .join(" ")}\r\n`
        })) {
          const lie: LyingProxy.Lie = (args) => (/^eval/i.test(args[0]!) ? answer(args) : undefined)
          yield* lose(
            key,
            Effect.sync(() => proxy.lie(lie))
          )
          shown.show(yield* Effect.exit(Effect.scoped(Lock.tryAcquire(key)).pipe(a.use)))
          proxy.relent()
        }
      }).pipe(Effect.scoped, shown.collect)
      shown.show(yield* Metric.snapshot)

      const tokens = yield* tokensOf(monitor)
      expect(tokens.length).toBeGreaterThan(10)
      expect(shown.seen.join()).toContain("LockStoreError")
      expect(shown.seen.join()).toContain("Renewal failed")
      expectHidden(shown.seen, tokens.map(secretOf))
    })
  )
})

const password = "s3cretOfThisTest"

layer(RedisServer.layer({ args: ["--requirepass", password] }), { excludeTestServices: true })(
  "a store that is printed",
  (it) => {
    for (const [kind, store] of Object.entries({
      "in Redis": Layer.unwrapEffect(
        Effect.map(RedisServer.RedisServer, ({ port }) =>
          RedisLockStore.layer({ url: `redis://:${password}@127.0.0.1:${port}` })
        )
      ),
      "in memory": MemoryLockStore.layer
    })) {
      it.scoped(`shows neither password nor token, nor does what has it (${kind})`, () =>
        Effect.gen(function* () {
          const shown = makeShown()
          const lease = yield* Lock.acquire("k", { ttl: "1 minute" })
          const context = yield* Effect.context<LockStore.LockStore>()
          const store = Context.get(context, LockStore.LockStore)
          const runtime = yield* Effect.runtime<LockStore.LockStore>()
          const cause = Cause.parallel(Cause.fail(store), Cause.die({ store, context }))
          for (const value of [store, context, cause, runtime, Exit.failCause(cause), { store }]) {
            shown.show(value)
            shown.seen.push(format("%o %O %j %s", value, value, value, value))
          }
          expect(shown.seen.join()).toContain("LockStore")
          expectHidden(shown.seen, [password, secretOf(lease.token)])
        }).pipe(Effect.scoped, Effect.provide(store))
      )
    }
  }
)

layer(RedisServer.layer({ args: ["--rename-command", "EVALSHA", "NONE"] }), {
  excludeTestServices: true
})("a server that repeats what it does not know", (it) => {
  it.scoped("tells nobody a token by that", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      const shown = makeShown()
      yield* Effect.gen(function* () {
        const monitor = yield* server.monitor
        const { use } = yield* storeOf(RedisLockStore.layer({ url: server.url }))
        const error = yield* Effect.flip(Lock.acquire("k", { ttl: "1 minute" }).pipe(use))
        expect(error.message).toContain("unknown command")
        shown.show(error)
        const tokens = yield* tokensOf(monitor)
        expect(tokens).not.toEqual([])
        expectHidden(shown.seen, tokens.map(secretOf))
      }).pipe(Effect.scoped, shown.collect)
    })
  )
})

layer(RedisServer.layer(), { excludeTestServices: true })("no password is shown", (it) => {
  it.scoped("by the error of a server, or proxy, that repeats what it was sent", () =>
    quietly(
      Effect.gen(function* () {
        const unhandled = yield* unhandledErrors
        const server = yield* RedisServer.RedisServer
        const proxy = yield* LyingProxy.make(server.port)
        proxy.lie((args) =>
          /^(auth|hello)$/i.test(args[0]!)
            ? `-ERR unknown command '${args[0]}', with args beginning with: ${args
                .slice(1)
                .map((arg) => `'${arg}'`)
                .join(" ")}\r\n`
            : undefined
        )
        for (const password of ["s3cretOfThisTest", "s3cret/pa:ss@word of this test"]) {
          for (const options of [
            { url: `redis://someone:${encodeURIComponent(password)}@127.0.0.1:${proxy.port}` },
            { url: proxy.url, redis: { password } }
          ]) {
            const { use } = yield* storeOf(
              RedisLockStore.layer({ ...options, commandTimeout: 600 })
            )
            const { exit } = yield* timed(Effect.scoped(Lock.tryAcquire("k")).pipe(use))
            const shown = makeShown()
            shown.show(exit)
            shown.show(failure(exit))
            expect(shown.seen.join()).toContain("LockStoreError")
            expectHidden(shown.seen, [password])
          }
        }
        expect(unhandled).toEqual([])
      })
    )
  )
})
