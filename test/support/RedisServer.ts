/**
 * Real processes of a Redis server (the one that REDIS_SERVER names) as scoped resources, on 127.0.0.1 only.
 *
 * @example
 * ```ts
 * layer(RedisServer.layer(), { excludeTestServices: true })("the store", (it) => {
 *   it.scoped("leaves nothing behind", () =>
 *     Effect.gen(function* () {
 *       const server = yield* RedisServer.RedisServer
 *       // … a client on server.url …
 *       expect(yield* server.dump).toEqual([])
 *     })
 *   )
 * })
 * ```
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Changes from "./Changes.js"
import * as RawConnection from "./RawConnection.js"
import { serverBinary } from "./serverBinary.js"

// -----------------------------------------------------------------------------
// models
// -----------------------------------------------------------------------------

export interface Options {
  /**
   * Arguments of redis-server, after the defaults, e.g. `["--requirepass", "secret"]`. Anything
   * but `--aclfile`: the tests' own connections come in as an ACL user of their own, `control`, who
   * needs no password whatever the default user needs.
   */
  readonly args?: ReadonlyArray<string> | undefined
  /** A port to insist on. Default: one that is free. */
  readonly port?: number | undefined
  /** Runs as a Sentinel with these lines of configuration. */
  readonly sentinel?: ReadonlyArray<string> | undefined
}

export interface RedisProcess {
  readonly host: "127.0.0.1"
  readonly port: number
  /** `redis://127.0.0.1:port`, without credentials. */
  readonly url: string
  /** Its directory, removed with the scope. */
  readonly dir: string
  /** The process of now: another one after a `restart`. */
  readonly pid: number
  readonly isRunning: boolean
  /** The server's log. */
  readonly log: Effect.Effect<string>

  /** SIGSTOP: sockets stay open and take bytes, nothing answers. */
  readonly stop: Effect.Effect<void>
  /** SIGCONT: it answers everything that came meanwhile. */
  readonly cont: Effect.Effect<void>
  /** SIGKILL, and waits for the end of the process. */
  readonly kill: Effect.Effect<void>
  /** Kills it and starts it on the same port and directory: empty, unless `args` say to persist. */
  readonly restart: Effect.Effect<void>

  /**
   * One command on the control connection. An error reply is a defect. The connection is shared:
   * nothing that blocks, subscribes or selects.
   */
  readonly command: (...args: ReadonlyArray<string | number>) => Effect.Effect<unknown>
  /** Empties all databases and the script cache. */
  readonly flush: Effect.Effect<void>
  /** All keys of database 0, sorted. */
  readonly dump: Effect.Effect<ReadonlyArray<string>>

  /** CLIENT LIST without the tests' own connections and replicas. */
  readonly clients: Effect.Effect<ReadonlyArray<Readonly<Record<string, string>>>>
  readonly clientCount: Effect.Effect<number>

  /**
   * Calls by command since the last `resetStats` (`set`, `client|list`; those made by scripts
   * included), without the control connection's.
   */
  readonly commandStats: Effect.Effect<Readonly<Record<string, CommandStats>>>
  readonly resetStats: Effect.Effect<void>
  /** Watches what clients send, from now to the end of the scope. */
  readonly monitor: Effect.Effect<Monitor, never, Scope.Scope>
}

export interface CommandStats {
  readonly calls: number
  /** Microseconds of CPU, the control connection's calls included. */
  readonly usec: number
}

export interface Monitor {
  /** Everything that clients sent up to now, in the server's order. */
  readonly commands: Effect.Effect<ReadonlyArray<MonitoredCommand>>
  /** The first command, past or future, for which the predicate holds. */
  readonly awaitCommand: (
    predicate: (command: MonitoredCommand) => boolean
  ) => Effect.Effect<MonitoredCommand>
}

export interface MonitoredCommand {
  /** The server's clock, in seconds. */
  readonly time: number
  /** `host:port` of the client, or `lua`. */
  readonly from: string
  readonly args: ReadonlyArray<string>
}

/** A server as a service: one per test file. */
export class RedisServer extends Context.Tag("test/RedisServer")<RedisServer, RedisProcess>() {}

// -----------------------------------------------------------------------------
// constructors
// -----------------------------------------------------------------------------

const servers = new Set<RedisProcess>()

/** Those of this process whose scopes are open. */
export const openServers: ReadonlySet<RedisProcess> = servers

/** A server that runs, and has answered, until the scope closes. */
export const make = (options: Options = {}): Effect.Effect<RedisProcess, never, Scope.Scope> =>
  Effect.gen(function* () {
    const dir = yield* Effect.acquireRelease(
      Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "redis-lock-test-"))),
      (dir) => Effect.sync(() => Fs.rmSync(dir, { recursive: true, force: true }))
    )
    const control = yield* makeControl
    const running: { current: Started | undefined } = { current: undefined }
    const kill = Effect.suspend(() => {
      const started = running.current
      running.current = undefined
      return started === undefined ? Effect.void : end(started)
    })
    yield* Effect.addFinalizer(() => kill)

    const startOn = (port: number) =>
      Effect.uninterruptibleMask((restore) => {
        const started = spawn(dir, port, options)
        running.current = started
        control.reset(port)
        return restore(awaitReady(control, started)).pipe(Effect.onError(() => kill))
      })
    const start = (port: number | undefined) =>
      Effect.suspend(() =>
        port === undefined ? Effect.flatMap(freePort, startOn) : startOn(port)
      ).pipe(
        Effect.tapError(() => pause(20)),
        Effect.retry({
          times: 20,
          while: (error) => error.portTaken && options.port === undefined
        }),
        Effect.orDie
      )
    yield* start(options.port)

    const port = control.port()
    const server: RedisProcess = {
      host,
      port,
      url: `redis://${host}:${port}`,
      dir,
      get pid() {
        return runningOrThrow(running.current).process.pid!
      },
      get isRunning() {
        return running.current !== undefined && !hasEnded(running.current)
      },
      log: Effect.sync(() => readLog(dir)),
      stop: Effect.sync(() => signal(running.current, "SIGSTOP")),
      cont: Effect.sync(() => signal(running.current, "SIGCONT")),
      kill,
      restart: Effect.zipRight(kill, start(port)),
      ...inspect(control)
    }
    yield* Effect.acquireRelease(
      Effect.sync(() => servers.add(server)),
      () => Effect.sync(() => servers.delete(server))
    )
    return server
  })

/** A server for as long as the layer lives. Bind it to a const: called twice, it is two servers. */
export const layer = (options?: Options): Layer.Layer<RedisServer> =>
  Layer.scoped(RedisServer, make(options))

/** Arguments of redis-server: `flags({ maxmemory: "1mb" })` is `["--maxmemory", "1mb"]`. */
export const flags = (
  config: Readonly<Record<string, string | number | ReadonlyArray<string>>>
): ReadonlyArray<string> =>
  Object.entries(config).flatMap(([name, value]) => [`--${name}`, ...[value].flat().map(String)])

/** A port of 127.0.0.1 that nobody listens on now, never given to an outgoing connection. */
export const freePort: Effect.Effect<number> = Effect.suspend(() => {
  // Below the ephemeral range, where a client that retries could connect to itself; and a cluster
  // bus, at 10000 more, stays clear of both.
  const port = 10_000 + Math.floor(Math.random() * 10_000)
  return Effect.async<number, Error>((resume) => {
    const server = Net.createServer()
    server.once("error", (error) => resume(Effect.fail(error)))
    server.listen(port, host, () => server.close(() => resume(Effect.succeed(port))))
  })
}).pipe(Effect.retry({ times: 100 }), Effect.orDie)

// -----------------------------------------------------------------------------
// the process
// -----------------------------------------------------------------------------

const host = "127.0.0.1"

interface Started {
  readonly process: ChildProcess.ChildProcess
  readonly watchdog: ChildProcess.ChildProcess
  readonly dir: string
  /** Where its part of the log begins. */
  readonly logFrom: number
  /** What it printed before its log file was open. */
  output: string
}

class StartError extends Error {
  readonly portTaken: boolean
  constructor(readonly details: string) {
    super(`${serverBinary()} did not start: ${details}`)
    this.portTaken = /address already in use|failed listening|could not create server/i.test(
      details
    )
  }
}

const spawn = (dir: string, port: number, options: Options): Started => {
  const process = ChildProcess.spawn(serverBinary(), argsOf(dir, port, options), {
    cwd: dir,
    stdio: ["ignore", "pipe", "pipe"]
  })
  // However this process ends, SIGKILL included, the pipe closes, and the server must not stay.
  const watchdog = ChildProcess.spawn(
    "/bin/sh",
    ["-c", `trap "" HUP INT TERM; read _; kill -KILL "$0"; rm -rf "$1"`, `${process.pid}`, dir],
    { stdio: ["pipe", "ignore", "ignore"] }
  )
  const started: Started = { process, watchdog, dir, logFrom: readLog(dir).length, output: "" }
  const collect = (chunk: Buffer) => (started.output += chunk)
  process.stdout!.on("data", collect)
  process.stderr!.on("data", collect)
  process.once("error", (error) => (started.output += String(error)))
  // The pid may be given to somebody else from here on.
  process.once("exit", () => watchdog.kill("SIGKILL"))
  return started
}

const argsOf = (dir: string, port: number, options: Options): ReadonlyArray<string> => {
  const logfile = Path.join(dir, "redis.log")
  const args = options.args ?? []
  if (options.sentinel === undefined) {
    const defaults = flags({
      port,
      bind: host,
      dir,
      logfile,
      user: ["control", "on", "nopass", "~*", "&*", "+@all"],
      save: "",
      appendonly: "no",
      // A replica synchronises at once; the default waits five seconds for more of them.
      "repl-diskless-sync-delay": 0
    })
    return [...defaults, ...args]
  }
  // A Sentinel rewrites its file, which then holds everything: arguments would come twice.
  const file = Path.join(dir, "sentinel.conf")
  if (!Fs.existsSync(file)) {
    Fs.writeFileSync(
      file,
      [
        `port ${port}`,
        `bind ${host}`,
        `dir ${dir}`,
        `logfile ${logfile}`,
        "user control on nopass ~* &* +@all",
        ...options.sentinel,
        ""
      ].join("\n")
    )
  }
  return [file, "--sentinel", ...args]
}

const hasEnded = ({ process }: Started): boolean =>
  process.pid === undefined || process.exitCode !== null || process.signalCode !== null

const runningOrThrow = (started: Started | undefined): Started => {
  if (started === undefined || hasEnded(started)) throw new Error("the server is not running")
  return started
}

const signal = (started: Started | undefined, name: NodeJS.Signals): void => {
  runningOrThrow(started).process.kill(name)
}

const end = (started: Started): Effect.Effect<void> =>
  Effect.async((resume) => {
    if (hasEnded(started)) return resume(Effect.void)
    started.process.once("exit", () => resume(Effect.void))
    started.process.kill("SIGCONT")
    started.process.kill("SIGKILL")
  })

// Node's timer, so that servers also start under a TestClock.
const pause = (millis: number): Effect.Effect<void> =>
  Effect.async((resume) => {
    const timer = setTimeout(() => resume(Effect.void), millis)
    return Effect.sync(() => clearTimeout(timer))
  })

/** Retries every few milliseconds until the effect gives true. */
export const eventually = <E, R>(check: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.flatMap(check, (holds) =>
    holds ? Effect.void : Effect.zipRight(pause(10), eventually(check))
  )

const awaitReady = (control: Control, started: Started): Effect.Effect<void, StartError> =>
  eventually(
    Effect.suspend(() => {
      if (hasEnded(started)) {
        return Effect.fail(
          new StartError(started.output + readLog(started.dir).slice(started.logFrom))
        )
      }
      return control.command("INFO", "server").pipe(
        // Somebody else's server may have got the port first.
        Effect.map((info) => String(info).includes(`process_id:${started.process.pid}\r\n`)),
        Effect.catchAllCause(() => Effect.succeed(false))
      )
    })
  )

const readLog = (dir: string): string => {
  const file = Path.join(dir, "redis.log")
  return Fs.existsSync(file) ? Fs.readFileSync(file, "utf8") : ""
}

// -----------------------------------------------------------------------------
// the tests' own view of it
// -----------------------------------------------------------------------------

/** Connections as the user `control`, by which they are told from everybody else's. */
interface Control {
  readonly port: () => number
  /** To be called for every new process. */
  readonly reset: (port: number) => void
  readonly command: RawConnection.RawConnection["command"]
  /** One more connection. */
  readonly connect: (
    onMessage: (value: unknown) => void
  ) => Effect.Effect<RawConnection.RawConnection, Error, Scope.Scope>
  /** `host:port` of all of them. */
  readonly addresses: Set<string>
  /** Calls of our own since the last reset, as INFO commandstats names them. */
  readonly calls: Map<string, number>
}

const makeControl: Effect.Effect<Control, never, Scope.Scope> = Effect.gen(function* () {
  const scope = yield* Effect.scope
  const mutex = Effect.unsafeMakeSemaphore(1)
  const addresses = new Set<string>()
  const calls = new Map<string, number>()
  let port = 0
  let current: RawConnection.RawConnection | undefined

  const count = (name: string) => calls.set(name, (calls.get(name) ?? 0) + 1)
  const send = (
    connection: RawConnection.RawConnection,
    args: ReadonlyArray<string | number>
  ): Effect.Effect<unknown, Error> =>
    Effect.suspend(() => {
      const [name, sub] = args.map((arg) => String(arg).toLowerCase())
      count(name!)
      if (sub !== undefined) count(`${name}|${sub}`)
      return connection.command(...args)
    })
  const connect = (onMessage?: (value: unknown) => void) =>
    Effect.suspend(() => RawConnection.make({ host, port, onMessage })).pipe(
      Effect.tap((connection) => addresses.add(`${host}:${connection.localPort}`)),
      Effect.tap((connection) => send(connection, ["AUTH", "control", "any"]))
    )
  const connection = mutex.withPermits(1)(
    Effect.suspend(() =>
      current !== undefined && current.isOpen()
        ? Effect.succeed(current)
        : Effect.tap(Scope.extend(connect(), scope), (opened) => {
            current = opened
          })
    )
  )
  return {
    port: () => port,
    reset: (next) => {
      port = next
      calls.clear()
    },
    command: (...args) => Effect.flatMap(connection, (connection) => send(connection, args)),
    connect,
    addresses,
    calls
  }
})

const inspect = (control: Control) => {
  const command: RedisProcess["command"] = (...args) => Effect.orDie(control.command(...args))
  const clients = Effect.map(command("CLIENT", "LIST"), (list) =>
    String(list)
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => Object.fromEntries(line.split(" ").map((field) => splitAt(field, "="))))
      .filter((client) => client["user"] !== "control" && !/[SM]/.test(client["flags"] ?? ""))
  )
  return {
    command,
    flush: Effect.zipRight(command("FLUSHALL"), Effect.asVoid(command("SCRIPT", "FLUSH"))),
    dump: Effect.map(command("KEYS", "*"), (keys) => (keys as Array<string>).sort()),
    clients,
    clientCount: Effect.map(clients, (list) => list.length),
    commandStats: Effect.suspend(() => {
      // INFO itself is not in its own answer.
      const own = new Map(control.calls)
      return Effect.map(command("INFO", "commandstats"), (info) => parseStats(String(info), own))
    }),
    resetStats: Effect.map(command("CONFIG", "RESETSTAT"), () => {
      control.calls.clear()
      control.calls.set("config|resetstat", 1)
    }),
    monitor: monitor(control)
  }
}

const splitAt = (text: string, separator: string): readonly [string, string] => {
  const at = text.indexOf(separator)
  return at === -1 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)]
}

const parseStats = (info: string, own: ReadonlyMap<string, number>) => {
  const stats: Record<string, CommandStats> = {}
  for (const [, name, calls, usec] of info.matchAll(/^cmdstat_(\S+?):calls=(\d+),usec=(\d+)/gm)) {
    const others = Number(calls) - (own.get(name!) ?? 0)
    if (others > 0) stats[name!] = { calls: others, usec: Number(usec) }
  }
  return stats
}

const monitor = (control: Control): Effect.Effect<Monitor, never, Scope.Scope> =>
  Effect.gen(function* () {
    const seen: Array<MonitoredCommand> = []
    const changes = Changes.make()
    let lastEcho = ""
    const connection = yield* control.connect((line) => {
      const command = parseMonitored(String(line))
      if (command === undefined) return
      if (!control.addresses.has(command.from)) seen.push(command)
      else if (command.args[0] === "ECHO") lastEcho = command.args[1]!
      changes.announce()
    })
    yield* connection.command("MONITOR")
    const mutex = Effect.unsafeMakeSemaphore(1)
    let echoes = 0
    return {
      // What was sent before the ECHO has come when the ECHO comes.
      commands: Effect.suspend(() => {
        if (!connection.isOpen()) return Effect.dieMessage("the server has closed the monitor")
        const marker = `${connection.localPort}-${++echoes}`
        return Effect.zipRight(
          control.command("ECHO", marker),
          changes.until(() => lastEcho === marker)
        )
      }).pipe(
        mutex.withPermits(1),
        Effect.map(() => [...seen]),
        Effect.orDie
      ),
      awaitCommand: (predicate) =>
        Effect.map(
          changes.until(() => seen.some(predicate)),
          () => seen.find(predicate)!
        )
    } satisfies Monitor
  }).pipe(Effect.orDie)

const parseMonitored = (line: string): MonitoredCommand | undefined => {
  const match = /^(\d+\.\d+) \[\d+ (\S+)\] (.*)$/s.exec(line)
  if (match === null) return undefined
  const args = [...match[3]!.matchAll(/"((?:[^"\\]|\\.)*)"/gs)].map(([, text]) => unescape(text!))
  return { time: Number(match[1]), from: match[2]!, args }
}

const unescape = (text: string): string => {
  const bytes = text.replace(/\\(x[0-9a-f]{2}|.)/gi, (_, code: string) =>
    code.length === 3
      ? String.fromCharCode(Number.parseInt(code.slice(1), 16))
      : ({ n: "\n", r: "\r", t: "\t", a: "\x07", b: "\b" }[code] ?? code)
  )
  return Buffer.from(bytes, "latin1").toString("utf8")
}
