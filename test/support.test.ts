import { assert, describe, expect, it, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { Redis } from "ioredis"
import { Redis as Redis5 } from "ioredis5"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as FaultProxy from "./support/FaultProxy.js"
import * as RawConnection from "./support/RawConnection.js"
import * as RedisCluster from "./support/RedisCluster.js"
import * as RedisSentinel from "./support/RedisSentinel.js"
import * as RedisServer from "./support/RedisServer.js"
import * as Resp from "./support/Resp.js"
import { askVersion, serverBinary, versionIn } from "./support/serverBinary.js"

const isPending = (fiber: Fiber.Fiber<unknown, unknown>) =>
  Effect.map(Fiber.poll(fiber), Option.isNone)

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

describe("Resp", () => {
  const replies = [
    "+OK\r\n",
    "-NOSCRIPT no\r\n",
    ":42\r\n",
    "$4\r\na\r\nb\r\n",
    "$-1\r\n",
    "*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
    "%1\r\n+k\r\n_\r\n",
    ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n"
  ]
  const values = [
    "OK",
    new Resp.ReplyError("NOSCRIPT no"),
    42,
    "a\r\nb",
    null,
    ["a", [1]],
    ["k", null],
    ["message", "c", "hi"]
  ]

  it("cuts a stream into whole frames, wherever the chunks end", () => {
    for (const size of [1, 2, 7, 1000]) {
      const split = Resp.splitter("replies")
      const stream = Buffer.from(replies.join(""))
      const frames: Array<Resp.Frame> = []
      for (let i = 0; i < stream.length; i += size) {
        frames.push(...split(stream.subarray(i, i + size)))
      }
      expect(frames.map((frame) => frame.bytes.toString())).toEqual(replies)
      expect(frames.map((frame) => frame.value)).toEqual(values)
      expect(frames.map((frame) => frame.push)).toEqual(replies.map((reply) => reply[0] === ">"))
    }
  })

  it("reads requests, inline ones too, and passes on what is not RESP", () => {
    const split = Resp.splitter("requests")
    const frames = split(Buffer.from(`${Resp.encode(["SET", "ключ", 1])}PING hi\r\n`))
    expect(frames.map((frame) => frame.value)).toEqual([
      ["SET", "ключ", "1"],
      ["PING", "hi"]
    ])
    const hello = Buffer.from([0x16, 0x03, 0x01])
    expect(split(hello)).toEqual([{ bytes: hello, value: undefined, push: false, raw: true }])
  })
})

describe("RedisServer", () => {
  it.scopedLive("ends with its scope, even when stopped", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const server = yield* Scope.extend(RedisServer.make(), scope)
      const { dir, pid } = server
      assert(isAlive(pid) && Fs.existsSync(dir))
      yield* server.stop
      yield* Scope.close(scope, Exit.void)
      expect(isAlive(pid)).toBe(false)
      expect(Fs.existsSync(dir)).toBe(false)
      expect(server.isRunning).toBe(false)
      expect(() => server.pid).toThrow("not running")
    })
  )

  it.scoped("is the server that REDIS_SERVER names, and says so", () =>
    Effect.gen(function* () {
      const named = Path.join(Fs.mkdtempSync(Path.join(Os.tmpdir(), "redis-lock-named-")), "server")
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          const before = process.env.REDIS_SERVER
          Fs.writeFileSync(named, `#!/bin/sh\ntouch "${named}.ran"\nexec ${serverBinary()} "$@"\n`)
          Fs.chmodSync(named, 0o755)
          process.env.REDIS_SERVER = named
          return before
        }),
        (before) =>
          Effect.sync(() => {
            if (before === undefined) delete process.env.REDIS_SERVER
            else process.env.REDIS_SERVER = before
            Fs.rmSync(Path.dirname(named), { recursive: true, force: true })
          })
      )
      const server = yield* RedisServer.make()
      expect(Fs.existsSync(`${named}.ran`)).toBe(true)
      const said = versionIn(String(yield* server.command("INFO", "server")))
      expect(said).toMatch(/^[A-Z][a-z]+ \d+\.\d+/)
      expect(yield* Effect.promise(() => askVersion())).toBe(said)
    })
  )

  it("tells Valkey from the Redis that it says it is like", () => {
    expect(versionIn("# Server\r\nredis_version:7.2.4\r\nvalkey_version:8.0.1\r\n")).toBe(
      "Valkey 8.0.1"
    )
    expect(versionIn("# Server\r\nredict_version:7.3.6\r\nredis_version:7.2.4\r\n")).toBe(
      "Redict 7.3.6"
    )
    expect(versionIn("redis_version:7.0.15\r\ngcc_version:12.2.0\r\n")).toBe("Redis 7.0.15")
  })

  it.effect("says of what cannot be run, or ends at once, that it could not be asked", () =>
    Effect.forEach(["/nowhere/server", "/bin/false"], (binary) =>
      Effect.promise(() => expect(askVersion(binary)).rejects.toThrow(binary))
    )
  )

  it.scopedLive("restarts on the same port with the same args, and empty", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make({ args: ["--requirepass", "secret"] })
      const pid = server.pid
      yield* server.command("SET", "a", 1)
      expect(yield* server.dump).toEqual(["a"])
      yield* server.restart
      expect(server.pid).not.toBe(pid)
      expect(isAlive(pid)).toBe(false)
      expect(yield* server.dump).toEqual([])
      const client = yield* RawConnection.make(server)
      const refused = yield* Effect.flip(client.command("GET", "a"))
      expect(refused.message).toContain("NOAUTH")
      yield* client.command("AUTH", "secret")
    })
  )

  it.scopedLive("keeps what its args say to persist", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make({
        args: ["--appendonly", "yes", "--appendfsync", "always"]
      })
      yield* server.command("SET", "a", 1)
      yield* server.restart
      expect(yield* server.dump).toEqual(["a"])
    })
  )

  it.scopedLive("does not start on somebody else's port", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const cause = yield* Effect.flip(Effect.sandbox(RedisServer.make({ port: server.port })))
      expect(Cause.pretty(cause)).toContain("did not start")
    })
  )
})

layer(RedisServer.layer(), { excludeTestServices: true })("RedisServer, shared", (it) => {
  it.scoped("answers nothing while stopped, and everything afterwards", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      const client = yield* RawConnection.make(server)
      yield* client.command("PING")
      yield* server.stop
      const ping = yield* Effect.fork(client.command("PING"))
      yield* Effect.sleep(30)
      expect(yield* isPending(ping)).toBe(true)
      yield* server.cont
      expect(yield* Fiber.join(ping)).toBe("PONG")
    })
  )

  it.scoped("lists clients, without the tests' own connections", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.monitor
      expect(yield* server.clientCount).toBe(0)
      const client = yield* RawConnection.make(server)
      yield* client.command("CLIENT", "SETNAME", "me")
      expect(yield* server.clientCount).toBe(1)
      const [listed] = yield* server.clients
      expect(listed).toMatchObject({ name: "me", addr: `127.0.0.1:${client.localPort}` })
    })
  )

  it.scoped("counts commands, without its own", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const client = yield* RawConnection.make(server)
      yield* server.resetStats
      yield* server.command("SET", "a", 1)
      yield* server.dump
      yield* client.command("SET", "a", 2)
      yield* client.command("EVAL", "return redis.call('SET', KEYS[1], 3)", 1, "a")
      yield* client.command("CLIENT", "ID")
      const stats = yield* server.commandStats
      const calls = Object.entries(stats).map(([name, { calls }]) => [name, calls])
      expect(Object.fromEntries(calls)).toEqual({ set: 2, eval: 1, "client|id": 1 })
      yield* server.resetStats
      expect(yield* server.commandStats).toEqual({})
      yield* server.flush
      expect(yield* server.dump).toEqual([])
    })
  )

  it.scoped("monitors what clients send, without its own", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      const monitor = yield* server.monitor
      const client = yield* RawConnection.make(server)
      const awaited = yield* Effect.fork(monitor.awaitCommand(({ args }) => args[0] === "GET"))
      yield* server.command("SET", "own", 1)
      yield* client.command("SET", 'k "\\\n', "ключ")
      yield* client.command("EVAL", "return redis.call('GET', 'x')", 0)
      expect((yield* Fiber.join(awaited)).from).toBe("lua")
      const from = `127.0.0.1:${client.localPort}`
      const commands = yield* monitor.commands
      expect(commands.map((command) => [command.from, ...command.args])).toEqual([
        [from, "SET", 'k "\\\n', "ключ"],
        [from, "EVAL", "return redis.call('GET', 'x')", "0"],
        ["lua", "GET", "x"]
      ])
      yield* server.flush
    })
  )
})

const setup = Effect.gen(function* () {
  const server = yield* RedisServer.RedisServer
  yield* server.flush
  const proxy = yield* FaultProxy.make(server.port)
  const client = yield* RawConnection.make(proxy)
  return { server, proxy, client }
})

const subscribe = (proxy: FaultProxy.FaultProxy, protocol: 2 | 3) =>
  Effect.gen(function* () {
    const messages: Array<string> = []
    const { command } = yield* RawConnection.make({
      ...proxy,
      onMessage: (value) => messages.push((value as ReadonlyArray<string>)[2]!)
    })
    if (protocol === 3) yield* command("HELLO", 3)
    yield* command("SUBSCRIBE", "channel")
    return {
      messages,
      /** Replies overtake nothing: all messages that passed before have come. */
      flushed: command("PING"),
      /** Subscribes to more, and unsubscribes from all. */
      leave: Effect.zipRight(
        Effect.zipRight(command("SUBSCRIBE", "more"), command("UNSUBSCRIBE", "more")),
        command("UNSUBSCRIBE")
      )
    }
  })

layer(RedisServer.layer(), { excludeTestServices: true })("FaultProxy", (it) => {
  it.scoped("passes commands and replies, and shows them", () =>
    Effect.gen(function* () {
      const { client, proxy, server } = yield* setup
      const awaited = yield* Effect.fork(proxy.awaitCommand("GET"))
      expect(yield* client.command("SET", "a", "1")).toBe("OK")
      expect(yield* isPending(awaited)).toBe(true)
      expect(yield* client.command("GET", "a")).toBe("1")
      expect(yield* Fiber.join(awaited)).toEqual(["GET", "a"])
      expect(yield* server.dump).toEqual(["a"])
      expect(proxy.commands).toEqual([
        ["SET", "a", "1"],
        ["GET", "a"]
      ])
      expect(proxy.requests.map((request) => request.reply)).toEqual(["OK", "1"])
      expect(proxy.bytesToServer).toBe(
        Resp.encode(["SET", "a", "1"]).length + Resp.encode(["GET", "a"]).length
      )
      expect(proxy.bytesToClient).toBe("+OK\r\n$1\r\n1\r\n".length)
      proxy.forget()
      expect([proxy.commands, proxy.bytesToServer, proxy.bytesToClient]).toEqual([[], 0, 0])
    })
  )

  it.scoped("closes its connections and its port with the scope", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      const scope = yield* Scope.make()
      const proxy = yield* Scope.extend(FaultProxy.make(server.port), scope)
      const client = yield* RawConnection.make(proxy)
      proxy.blackHole()
      const ping = yield* Effect.fork(client.command("PING"))
      yield* proxy.awaitCommand("PING")
      yield* Scope.close(scope, Exit.void)
      expect(Exit.isFailure(yield* Fiber.await(ping))).toBe(true)
      expect((yield* Effect.flip(RawConnection.make(proxy))).message).toContain("ECONNREFUSED")
    })
  )

  it.scoped("closes each side when the other closes", () =>
    Effect.gen(function* () {
      const { client, proxy, server } = yield* setup
      const other = yield* Scope.make()
      const second = yield* Scope.extend(RawConnection.make(proxy), other)
      yield* client.command("PING")
      yield* second.command("PING")
      expect(yield* server.clientCount).toBe(2)
      yield* Scope.close(other, Exit.void)
      yield* proxy.until(() => proxy.connections.length === 1)
      expect(yield* server.clientCount).toBe(1)
      yield* server.command("CLIENT", "KILL", "TYPE", "normal")
      yield* proxy.until(() => proxy.connections.length === 0)
      yield* Effect.flip(client.command("PING"))
    })
  )

  it.scoped("holds replies of commands that are applied", () =>
    Effect.gen(function* () {
      const { client, proxy, server } = yield* setup
      proxy.holdReplies()
      const set = yield* Effect.fork(client.command("SET", "a", "1"))
      yield* proxy.heldReplies
      expect((yield* proxy.awaitReply("SET")).reply).toBe("OK")
      expect(yield* server.dump).toEqual(["a"])
      expect(yield* isPending(set)).toBe(true)
      proxy.releaseReplies()
      expect(yield* Fiber.join(set)).toBe("OK")
    })
  )

  it.scoped("holds requests, of some connections only", () =>
    Effect.gen(function* () {
      const { client, proxy, server } = yield* setup
      const other = yield* RawConnection.make(proxy)
      yield* client.command("ECHO", "first")
      proxy.holdRequests({
        where: ({ requests }) => requests.some(({ args }) => args[1] === "first")
      })
      const set = yield* Effect.fork(client.command("SET", "a", "1"))
      yield* proxy.heldRequests
      yield* other.command("SET", "b", "1")
      expect(yield* server.dump).toEqual(["b"])
      expect(yield* isPending(set)).toBe(true)
      proxy.releaseRequests()
      expect(yield* Fiber.join(set)).toBe("OK")
      expect(yield* server.dump).toEqual(["a", "b"])
    })
  )

  for (const afterClose of ["drop", "deliver"] as const) {
    it.scoped(`holds requests, and when their client goes: ${afterClose}`, () =>
      Effect.gen(function* () {
        const { proxy, server } = yield* setup
        proxy.holdRequests({ afterClose })
        const scope = yield* Scope.make()
        const client = yield* Scope.extend(RawConnection.make(proxy), scope)
        yield* Effect.fork(client.command("SET", "a", "1"))
        yield* proxy.heldRequests
        yield* Scope.close(scope, Exit.void)
        if (afterClose === "drop") yield* proxy.until(() => proxy.connections.length === 1)
        expect(yield* server.dump).toEqual([])
        proxy.releaseRequests()
        yield* proxy.until(() => proxy.connections.length === 1)
        expect(yield* server.dump).toEqual(afterClose === "drop" ? [] : ["a"])
      })
    )
  }

  it.scoped("is a black hole that lets everything come late", () =>
    Effect.gen(function* () {
      const { client, proxy, server } = yield* setup
      yield* client.command("PING")
      proxy.blackHole()
      const set = yield* Effect.fork(client.command("SET", "a", "1"))
      yield* proxy.awaitCommand("SET")
      const silent = yield* RawConnection.make(proxy)
      const ping = yield* Effect.fork(silent.command("PING"))
      yield* proxy.until(() => proxy.commands.length === 3)
      yield* Effect.scoped(RawConnection.make(proxy))
      yield* proxy.until(() => proxy.connections.length === 2)
      expect(yield* server.clientCount).toBe(1)
      expect(yield* server.dump).toEqual([])
      // Not even that the server has gone is seen.
      yield* server.command("CLIENT", "KILL", "TYPE", "normal")
      expect(yield* isPending(set)).toBe(true)
      expect(client.isOpen()).toBe(true)
      proxy.heal()
      expect(yield* Fiber.join(ping)).toBe("PONG")
      expect(Exit.isFailure(yield* Fiber.await(set))).toBe(true)
    })
  )

  it.scoped("is a black hole in both directions", () =>
    Effect.gen(function* () {
      const { client, proxy, server } = yield* setup
      const blocked = yield* Effect.fork(client.command("BLPOP", "list", 0))
      yield* proxy.awaitCommand("BLPOP")
      yield* RedisServer.eventually(
        Effect.map(server.clients, ([listed]) => listed?.["cmd"] === "blpop")
      )
      proxy.blackHole()
      yield* server.command("RPUSH", "list", "a")
      yield* proxy.heldReplies
      expect(yield* isPending(blocked)).toBe(true)
      proxy.heal()
      expect(yield* Fiber.join(blocked)).toEqual(["list", "a"])
    })
  )

  it.scoped("is a black hole that loses everything", () =>
    Effect.gen(function* () {
      const { client, proxy, server } = yield* setup
      yield* client.command("PING")
      proxy.blackHole({ drop: true })
      const set = yield* Effect.fork(client.command("SET", "a", "1"))
      yield* proxy.awaitCommand("SET")
      proxy.heal()
      const other = yield* RawConnection.make(proxy)
      yield* other.command("PING")
      expect(yield* server.dump).toEqual([])
      expect(yield* isPending(set)).toBe(true)
    })
  )

  it.scoped("resets after applying", () =>
    Effect.gen(function* () {
      const { client, proxy, server } = yield* setup
      const lost = proxy.resetAfterApply("key-1")
      yield* client.command("SET", "key-2", "1")
      // An error applies nothing: the trap stays.
      yield* Effect.flip(client.command("EVALSHA", "0".repeat(40), 1, "key-1"))
      expect(lost.count).toBe(0)
      const before = yield* Effect.fork(client.command("GET", "key-2"))
      const set = yield* Effect.fork(client.command("SET", "key-1", "1"))
      expect(yield* lost.fired).toEqual(["SET", "key-1", "1"])
      expect(Exit.isFailure(yield* Fiber.await(set))).toBe(true)
      expect(yield* Fiber.join(before)).toBe("1")
      expect(yield* server.dump).toEqual(["key-1", "key-2"])
      const next = yield* RawConnection.make(proxy)
      expect(yield* next.command("GET", "key-1")).toBe("1")
      expect(lost.count).toBe(1)
    })
  )

  it.scoped("resets before applying, as often as asked, or disarmed not at all", () =>
    Effect.gen(function* () {
      const { proxy, server } = yield* setup
      const lost = proxy.resetBeforeApply("set", 2)
      for (const key of ["a", "b", "c"]) {
        const client = yield* RawConnection.make(proxy)
        yield* Effect.exit(client.command("SET", key, "1"))
      }
      yield* lost.fired
      expect(lost.count).toBe(2)
      expect(yield* server.dump).toEqual(["c"])
      const never = proxy.resetBeforeApply()
      never.disarm()
      const client = yield* RawConnection.make(proxy)
      yield* client.command("PING")
      expect(never.count).toBe(0)
    })
  )

  it.scoped("delays each direction, in order", () =>
    Effect.gen(function* () {
      const { client, proxy } = yield* setup
      const measure = Effect.map(Effect.timed(client.command("PING")), ([duration]) =>
        Duration.toMillis(duration)
      )
      yield* measure
      for (const latency of [{ toServer: 20 }, { toClient: 20 }, { toServer: 19, toClient: 1 }]) {
        proxy.delay(latency)
        const millis = yield* measure
        expect(millis).toBeGreaterThanOrEqual(20)
        expect(millis).toBeLessThan(35)
      }
      const echo = yield* Effect.fork(client.command("ECHO", "slow"))
      yield* proxy.awaitCommand("ECHO")
      proxy.delay({})
      expect(yield* client.command("ECHO", "fast")).toBe("fast")
      expect(yield* Fiber.join(echo)).toBe("slow")
      expect(yield* measure).toBeLessThan(15)
    })
  )

  it.scoped("makes the way longer, and a delay comes on top of that", () =>
    Effect.gen(function* () {
      const { client, proxy } = yield* setup
      const measure = Effect.map(Effect.timed(client.command("PING")), ([duration]) =>
        Duration.toMillis(duration)
      )
      proxy.link({ toServer: 20, toClient: 20 })
      expect(yield* measure).toBeGreaterThanOrEqual(40)
      proxy.delay({ toClient: 30 })
      expect(yield* measure).toBeGreaterThanOrEqual(70)
      proxy.delay({})
      const link = yield* measure
      expect(link).toBeGreaterThanOrEqual(40)
      expect(link).toBeLessThan(70)
      proxy.link({})
      expect(yield* measure).toBeLessThan(20)
    })
  )

  it.scoped("abandons connections: no byte and no close passes, and new ones work", () =>
    Effect.gen(function* () {
      const { client, proxy, server } = yield* setup
      const scope = yield* Scope.make()
      const other = yield* Scope.extend(RawConnection.make(proxy), scope)
      yield* client.command("PING")
      yield* other.command("PING")
      proxy.abandon(({ id }) => id === 1)
      const lost = yield* Effect.fork(client.command("SET", "a", "1"))
      yield* proxy.awaitCommand("SET")
      expect(yield* other.command("SET", "b", "1")).toBe("OK")
      proxy.abandon()
      const closing = yield* Effect.fork(other.command("SET", "c", "1"))
      yield* proxy.until(() => proxy.commands.length === 5)
      yield* Scope.close(scope, Exit.void)
      expect(Exit.isFailure(yield* Fiber.await(closing))).toBe(true)
      const next = yield* RawConnection.make(proxy)
      proxy.heal()
      expect(yield* next.command("PING")).toBe("PONG")
      expect(yield* isPending(lost)).toBe(true)
      expect(yield* server.dump).toEqual(["b"])
      // the server has not heard that one of them was closed
      expect(yield* server.clientCount).toBe(3)
      expect(proxy.connections.map(({ abandoned }) => abandoned)).toEqual([true, true, false])
      expect(proxy.opened).toBe(3)
      expect(proxy.cutWhere(({ abandoned }) => abandoned)).toBe(2)
      expect(Exit.isFailure(yield* Fiber.await(lost))).toBe(true)
      yield* RedisServer.eventually(Effect.map(server.clientCount, (count) => count === 1))
    })
  )

  it.scoped("cuts all connections, and refuses new ones", () =>
    Effect.gen(function* () {
      const { client, proxy } = yield* setup
      yield* client.command("PING")
      proxy.refuse()
      expect(proxy.cutAll()).toBe(1)
      yield* Effect.flip(client.command("PING"))
      yield* Effect.flip(
        Effect.flatMap(RawConnection.make(proxy), (refused) => refused.command("PING"))
      )
      expect(proxy.connections).toEqual([])
      proxy.accept()
      const accepted = yield* RawConnection.make(proxy)
      expect(yield* accepted.command("PING")).toBe("PONG")
    })
  )

  it.scoped("cuts subscribers only", () =>
    Effect.gen(function* () {
      const { client, proxy } = yield* setup
      yield* client.command("PING")
      const subscriber = yield* subscribe(proxy, 2)
      expect(proxy.cutSubscribers()).toBe(1)
      yield* Effect.flip(subscriber.flushed)
      expect(yield* client.command("PING")).toBe("PONG")
    })
  )

  for (const protocol of [2, 3] as const) {
    it.scoped(`drops and holds messages, RESP${protocol}`, () =>
      Effect.gen(function* () {
        const { proxy, server } = yield* setup
        const subscriber = yield* subscribe(proxy, protocol)
        const publish = (message: string) => server.command("PUBLISH", "channel", message)
        const dropped = proxy.dropNextMessage()
        yield* publish("1")
        yield* publish("2")
        expect(yield* dropped.fired).toEqual(["message", "channel", "1"])
        yield* subscriber.flushed
        expect(subscriber.messages).toEqual(["2"])
        proxy.holdMessages()
        yield* publish("3")
        yield* proxy.heldMessages
        yield* subscriber.flushed
        expect(subscriber.messages).toEqual(["2"])
        proxy.releaseMessages()
        yield* subscriber.flushed
        expect(subscriber.messages).toEqual(["2", "3"])
        yield* subscriber.leave
        expect(proxy.requests.every((request) => request.replied)).toBe(true)
        const lost = proxy.resetAfterApply("PING")
        yield* Effect.flip(subscriber.flushed)
        expect(lost.count).toBe(1)
      })
    )
  }

  for (const [version, Client] of [
    [5, Redis5 as unknown as typeof Redis],
    [6, Redis]
  ] as const) {
    it.scoped(`shows ioredis ${version} sending a command again whose reply was lost`, () =>
      Effect.gen(function* () {
        const { proxy, server } = yield* setup
        const client = yield* Effect.acquireRelease(
          Effect.sync(() => {
            const client = new Client(proxy.port, proxy.host)
            client.on("error", () => {})
            return client
          }),
          (client) => Effect.sync(() => client.disconnect())
        )
        const lost = proxy.resetAfterApply()
        const reply = yield* Effect.promise(() => client.set("a", "1", "NX"))
        expect(yield* lost.fired).toEqual(["set", "a", "1", "NX"])
        expect(reply).toBe(null)
        expect(yield* server.dump).toEqual(["a"])
        expect(proxy.commands.filter(([name]) => name === "set").length).toBe(2)
      })
    )
  }
})

describe.concurrent("groups", () => {
  it.scopedLive("RedisCluster serves every slot", () =>
    Effect.gen(function* () {
      const cluster = yield* RedisCluster.make()
      expect(cluster.masters.length).toBe(3)
      const nodes = new Set<RedisServer.RedisProcess>()
      for (const key of ["a", "b", "c", "d"]) {
        const node = yield* cluster.nodeOf(key)
        yield* node.command("SET", key, 1)
        nodes.add(node)
      }
      expect(nodes.size).toBe(3)
    })
  )

  it.scopedLive("RedisCluster moves a slot in steps, and nodes join and leave", () =>
    Effect.gen(function* () {
      const cluster = yield* RedisCluster.make({ masters: 2 })
      const [key, other] = ["{a}1", "{a}2"]
      const from = yield* cluster.nodeOf(key)
      const to = yield* cluster.otherThan(key)
      for (const name of [key, other]) yield* from.command("SET", name, 1)
      const refused = (node: RedisServer.RedisProcess, name: string) =>
        Effect.map(
          Effect.exit(node.command("GET", name)),
          (exit) => Exit.isFailure(exit) && /MOVED|ASK/.exec(Cause.pretty(exit.cause))?.[0]
        )
      const move = yield* cluster.beginMove(key, to)
      yield* move.migrate([key])
      expect(yield* move.keys).toEqual([other])
      expect(yield* refused(from, key)).toBe("ASK")
      expect(yield* refused(from, other)).toBe(false)
      expect(yield* cluster.nodeOf(key)).toBe(from)
      yield* move.migrate()
      yield* move.finish
      expect(yield* cluster.nodeOf(key)).toBe(to)
      expect(yield* to.command("MGET", key, other)).toEqual(["1", "1"])
      expect(yield* refused(from, key)).toBe("MOVED")

      const added = yield* cluster.addNode
      expect(cluster.nodes.length).toBe(3)
      yield* cluster.move(key, added)
      expect(yield* added.command("GET", key)).toBe("1")
      yield* cluster.removeNode(added, from)
      expect(cluster.nodes.length).toBe(2)
      expect(added.isRunning).toBe(false)
      yield* cluster.awaitOk
      expect(yield* from.command("MGET", key, other)).toEqual(["1", "1"])

      const given = yield* cluster.beginMove(key, to)
      yield* given.abort
      expect(yield* from.command("GET", key)).toBe("1")
      expect(yield* refused(from, "{a}3")).toBe(false)
    })
  )

  it.scopedLive("RedisSentinel fails over, asked to and by itself", () =>
    Effect.gen(function* () {
      const group = yield* RedisSentinel.make()
      const first = yield* group.master
      expect(first).toBe(group.servers[0])
      const second = yield* group.failover
      expect(second).toBe(group.servers[1])
      yield* second.command("SET", "a", 1)
    })
  )
})
