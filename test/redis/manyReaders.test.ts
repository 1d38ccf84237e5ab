/** A release that lets a thousand readers in: in calls of a bounded length, each of which brings the next about. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { lockKeys } from "../../src/internal/redis/layout.js"
import type { Script } from "../../src/internal/redis/scripts.js"
import { readWrite as scripts } from "../../src/internal/redis/semaphoreScripts.js"
import { queueOf, strangeToken } from "../support/Queue.js"
import { RedisServer, serverMicros } from "./support.js"

const ttl = 60_000
const window = 30_000
const key = "k"

const aRead = `rwlock/1 ${ttl} 1 1000000 me`
const theWrite = `rwlock/1 ${ttl} 1000000 1000000 me`

/** So many are let in by one call. */
const most = 32

type Server = RedisServer.RedisProcess

const keys = lockKeys("", "", key, true) as ReadonlyArray<string>

/** A script, sent by hand. */
const send = (server: Server, script: Script, ...args: ReadonlyArray<string | number>) =>
  server.command("EVAL", script.lua, keys.length, ...keys, ...args)

const stand = (server: Server, token: string, own = window) =>
  send(server, scripts.acquire, token, ttl, aRead, own, ttl)
const beat = (server: Server, token: string) =>
  send(server, scripts.heartbeat, token, ttl, aRead, window, ttl)
const release = (server: Server, token: string) => send(server, scripts.release, token)

const holders = (server: Server) => Effect.map(server.command("ZCARD", key), Number)

/** A writer has the key, and so many readers stand in line, of whom those of `dead` have died. */
const crowd = (server: Server, readers: number, dead: (index: number) => boolean = () => false) =>
  Effect.gen(function* () {
    yield* server.flush
    const writer = strangeToken()
    yield* send(server, scripts.acquire, writer, ttl, theWrite)
    const waiting = Array.from({ length: readers }, strangeToken)
    yield* Effect.forEach(waiting, (token, index) => stand(server, token, dead(index) ? 1 : window))
    expect(yield* queueOf(server, key)).toEqual(waiting)
    // the dead ones' heartbeats are stale from here on, however fast what follows may be
    const stood = yield* serverMicros(server)
    yield* RedisServer.eventually(Effect.map(serverMicros(server), (now) => now > stood + 3_000))
    return { writer, waiting }
  })

/** What the server does in a call, and whom it tells of what. */
const watched = (server: Server) =>
  Effect.map(server.monitor, ({ commands }) => {
    let seen = 0
    return (call: Effect.Effect<unknown>) =>
      Effect.gen(function* () {
        yield* call
        const inside = (yield* commands).filter(({ from }) => from === "lua").slice(seen)
        seen += inside.length
        const told = inside
          .filter(({ args }) => args[0]!.toUpperCase() === "PUBLISH")
          .map(({ args }) => args[2]!.split(" "))
        return {
          commands: inside.length,
          granted: told.filter(([, grant]) => grant !== "0").map(([token]) => token!),
          askNext: told.filter(([, grant]) => grant === "0").map(([token]) => token!)
        }
      })
  })

layer(RedisServer.layer(), { excludeTestServices: true })("many waiting readers", (it) => {
  it.scoped("each call lets 32 in, in order, and tells the next one to ask", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      const { waiting, writer } = yield* crowd(server, 1_000)
      const watch = yield* watched(server)
      const commandsOf: Array<number> = []
      let inside = 0
      let call = release(server, writer)
      while (inside < waiting.length) {
        const { askNext, commands, granted } = yield* watch(call)
        expect(granted).toEqual(waiting.slice(inside, inside + most))
        inside += granted.length
        expect(yield* holders(server)).toBe(inside)
        expect(askNext).toEqual(waiting.slice(inside, inside + 1))
        commandsOf.push(commands)
        if (askNext.length > 0) call = beat(server, askNext[0]!)
      }
      expect(commandsOf).toHaveLength(Math.ceil(1_000 / most))
      // ten for each, its message included, and some for the call, however many wait
      expect(Math.max(...commandsOf)).toBeLessThanOrEqual(10 * most + 20)
      expect(yield* queueOf(server, key)).toEqual([])
    })
  )

  it.scoped("if the one that was told does not ask, the heartbeat of another one goes on", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      const { waiting, writer } = yield* crowd(server, 100)
      const watch = yield* watched(server)
      expect((yield* watch(release(server, writer))).askNext).toEqual([waiting[most]])
      // (its own window is not over: it is let in, in its turn)
      const second = yield* watch(beat(server, waiting.at(-1)!))
      expect(second.granted).toEqual(waiting.slice(most, 2 * most))
      expect(second.askNext).toEqual([waiting[2 * most]])
      // one who has come in has nothing more to ask for, and brings nobody in
      expect((yield* watch(beat(server, waiting[0]!))).granted).toEqual([])
      const third = yield* watch(beat(server, waiting.at(-2)!))
      expect(third.granted).toEqual(waiting.slice(2 * most, 3 * most))
      const last = yield* watch(beat(server, waiting.at(-1)!))
      expect(last.granted).toEqual(waiting.slice(3 * most))
      expect(last.askNext).toEqual([])
      expect(yield* holders(server)).toBe(100)
    })
  )

  it.scoped(
    "those that have died are passed over by it, and a bounded number of them in a call",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        // the one that would be told, and a hundred behind it
        const isDead = (index: number) => index >= most && index < most + 101
        const { waiting, writer } = yield* crowd(server, 200, isDead)
        const watch = yield* watched(server)
        const first = yield* watch(release(server, writer))
        expect(first.granted).toEqual(waiting.slice(0, most))
        expect(first.askNext).toEqual([])
        const alive = waiting.slice(most + 101)
        let inside = most
        let calls = 0
        while (inside < most + alive.length) {
          const { commands, granted } = yield* watch(beat(server, waiting.at(-1)!))
          expect(granted).toEqual(alive.slice(inside - most, inside - most + granted.length))
          inside += granted.length
          expect(yield* holders(server)).toBe(inside)
          expect(granted.length).toBeLessThanOrEqual(most)
          expect(commands).toBeLessThanOrEqual(10 * most + 20)
          calls++
        }
        // a call passes over 64, or lets half as many in
        expect(calls).toBeLessThanOrEqual(Math.ceil((100 + 2 * alive.length) / 64))
        expect(yield* queueOf(server, key)).toEqual([])
      })
  )
})
