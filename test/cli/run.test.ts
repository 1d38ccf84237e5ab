/** `run` in pipes: what the command gets, what it ends with, and that nothing of it outlives the lock. */
import { expect } from "@effect/vitest"
import { atOnce } from "../support/atOnce.js"
import * as Effect from "effect/Effect"
import { stripVTControlCharacters } from "node:util"
import * as Cli from "../support/Cli.js"
import * as FaultProxy from "../support/FaultProxy.js"
import * as RedisServer from "../support/RedisServer.js"
import { undisturbed } from "../redis/support.js"

/** An empty server. */
const emptyServer = Effect.tap(RedisServer.RedisServer, ({ flush }) => flush)

/** A program of another kind has the key. */
const taken = (server: RedisServer.RedisProcess, key: string) =>
  server.command("SET", key, "somebody else", "NX", "PX", 60_000)

const until = (holds: () => boolean) => RedisServer.eventually(Effect.sync(holds))

/** The numbers behind `word` in what was printed. */
const numbers = (text: string, word: string): ReadonlyArray<number> =>
  [...text.matchAll(new RegExp(`${word} (\\d+)`, "g"))].map(([, number]) => Number(number))

/** A shell and a child of it: both ignore SIGTERM, and say their ids. */
const deaf = `trap '' TERM
sh -c 'trap "" TERM; echo pid $$; while :; do sleep 1; done' &
echo pid $$
wait
while :; do sleep 1; done`

atOnce(RedisServer.layer())("run", (it) => {
  it.scoped("gives the command its key, its fencing token and its input, and ends as it ends", () =>
    Effect.gen(function* () {
      const { command, dump, url } = yield* emptyServer
      const script = 'read line; echo "$line $LOCK_KEY $LOCK_FENCING_TOKEN"; echo aside >&2; exit 3'
      const cli = yield* Cli.start(["run", "k", "--", "sh", "-c", script], { url })
      yield* cli.write("typed\n")
      expect(yield* cli.ended).toBe(3)
      const [, token] = /^typed k (\d+)\n$/.exec(cli.stdout)!
      expect(cli.stderr).toBe("aside\n")
      expect(yield* command("GET", "{k}:lock-record")).toMatch(new RegExp(`^${token} `))
      expect(yield* dump).not.toContain("k")
    })
  )

  it.scoped("the command's environment is that of this process", () =>
    Effect.gen(function* () {
      const { url } = yield* emptyServer
      const names = ["word", "modes", "starter", "status", "group", "name"]
      const env = Object.fromEntries(names.map((name) => [name, `own ${name}`]))
      const shown = 'echo "$word, $modes, $starter, $status, $group, $name."'
      const expected = `${names.map((name) => `own ${name}`).join(", ")}.`
      const piped = yield* Cli.run(["run", "k", "--", "sh", "-c", shown], { url, env })
      expect(piped.stdout).toBe(`${expected}\n`)
      const onTerminal = yield* Cli.onTerminal(`$CLI run k -- sh -c '${shown}'`, { url, env })
      yield* onTerminal.ended
      expect(onTerminal.stdout).toBe(`${expected}\r\n`)
    })
  )

  it.scoped("exit codes", () =>
    Effect.gen(function* () {
      const server = yield* emptyServer
      const { url } = server
      yield* taken(server, "busy")
      const lines: ReadonlyArray<readonly [code: number, ...args: ReadonlyArray<string>]> = [
        [0, "run", "k", "--", "true"],
        [143, "run", "k", "--", "sh", "-c", "kill -TERM $$"],
        [126, "run", "k", "--", "/"],
        [127, "run", "k", "--", "no-such-command"],
        [64, "run", "k"],
        [64, "run", "k", "--"],
        [64, "run", "k", "ls"],
        [64, "run", "k", "--ttl", "5x", "--", "true"],
        [64, "run", "k", "--ttl", "1ms", "--", "true"],
        [64, "run", "k", "--grace", "25d", "--", "true"],
        [64, "run", "k", "--max-hold", "1s", "--", "true"],
        [64, "run", "k", "--permits", "6/5", "--", "true"],
        [64, "run", "k", "--shared", "--permits", "1/5", "--", "true"],
        [64, "run", "k", "--no-wait", "--wait", "5s", "--", "true"],
        [64, "run", "", "--", "true"],
        [64, "run", "k", "--url", "http://127.0.0.1", "--", "true"],
        [69, "run", "k", "--url", "redis://127.0.0.1:1", "--", "true"],
        [75, "run", "busy", "--no-wait", "--", "true"],
        [75, "run", "busy", "--wait", "100ms", "--", "true"]
      ]
      const ends = yield* Effect.forEach(
        lines,
        ([, ...args]) => Effect.map(Cli.run(args, { url }), (end) => ({ args, end })),
        { concurrency: 3 }
      )
      expect(ends.map(({ args, end }) => [end.code, ...args])).toEqual(lines)
      for (const { args, end } of ends) {
        expect(end.stdout).toBe("")
        // also where the -- was forgotten
        if (args[0] === "run" && !args.includes("--")) {
          expect(end.stderr).toContain("run needs a command, after --")
        }
        // one line that says it, and no escape sequences
        if ([64, 69, 75].includes(Number(end.code))) {
          expect(`${args.join(" ")}: ${end.stderr}`).toMatch(/: effect-redis-lock: .+\n$/)
          expect(stripVTControlCharacters(end.stderr)).toBe(end.stderr)
        }
      }
    })
  )

  it.scoped("kinds of lock: they exclude each other as those of the library do", () =>
    Effect.gen(function* () {
      const { url } = yield* emptyServer
      const holding = (...args: ReadonlyArray<string>) =>
        Effect.gen(function* () {
          const cli = yield* Cli.start(["run", ...args, "--", "sh", "-c", "echo in; read x"], {
            url
          })
          yield* cli.prints("in\n")
          return Effect.zipRight(cli.endOfInput, cli.ended)
        })
      const attempt = (...args: ReadonlyArray<string>) =>
        Effect.map(Cli.run(["run", "-n", ...args, "--", "true"], { url }), ({ code }) => code)
      const ends = yield* Effect.all(
        [
          holding("doc", "--shared"),
          holding("pool", "--permits", "2/3"),
          holding("a", "--key", "b")
        ],
        { concurrency: 3 }
      )
      const attempts = Effect.all(
        [
          attempt("doc", "--shared"),
          attempt("doc", "--exclusive"),
          attempt("pool", "--permits", "1/3"),
          attempt("pool", "--permits", "2/3"),
          attempt("b"),
          attempt("c", "--key", "a")
        ],
        { concurrency: 3 }
      )
      expect(yield* attempts).toEqual([0, 75, 0, 75, 75, 75])
      yield* Effect.all(ends, { concurrency: 3 })
      expect(yield* attempt("doc", "--exclusive")).toBe(0)
    })
  )

  it.scoped("starts a command after a wait on the proof of a full ttl", () =>
    Effect.gen(function* () {
      const { command, url } = yield* emptyServer
      const first = yield* Cli.start(["run", "k", "--", "sh", "-c", "echo in; read x"], { url })
      yield* first.prints("in\n")
      const second = yield* Cli.start(
        ["run", "k", "--ttl", "20s", "--", "sh", "-c", "echo second; read x"],
        { url }
      )
      const queued = command("ZCARD", "{k}:lock-queue")
      yield* RedisServer.eventually(Effect.map(queued, (count) => count === 1))
      yield* first.endOfInput
      yield* second.prints("second\n")
      // of a lease that was handed over it is that of a claim window
      expect(yield* command("PTTL", "k")).toBeGreaterThan(12_000)
    })
  )

  it.scoped("a black hole: everything is dead before anybody else can take the lock", () =>
    Effect.gen(function* () {
      const server = yield* emptyServer
      const proxy = yield* FaultProxy.make(server.port)
      const trial = Effect.gen(function* () {
        yield* server.flush
        proxy.heal()
        // it works for as long as it lives, and the server counts that; so does a child of it
        const work = `process.on("SIGTERM", () => {})
const child = process.argv[1] === "child" || require("node:child_process").spawn(process.execPath, ["-e", process.env.WORK, "child"], { stdio: "inherit" })
const socket = require("node:net").connect(${server.port}, "127.0.0.1", () => {
  console.log("pid", process.pid)
  setInterval(() => socket.write("INCR work\\r\\n"), 2)
})
socket.resume()`
        const cli = yield* Cli.start(
          [
            "run",
            "k",
            "--ttl",
            "3s",
            "--grace",
            "500ms",
            "--on-lost",
            'echo "lost $LOCK_LOST_REASON"',
            "--"
          ].concat(process.execPath, "-e", work),
          { url: proxy.url, env: { WORK: work } }
        )
        yield* cli.prints(/pid \d+\n[^]*pid \d+\n/)
        proxy.blackHole()
        const script = `return redis.call("SET", KEYS[1], "other", "NX", "PX", 60000) and redis.call("GET", "work")`
        let atGrant: unknown = null
        yield* RedisServer.eventually(
          Effect.map(server.command("EVAL", script, 1, "k"), (count) => {
            atGrant = count
            return count !== null
          })
        )
        expect(yield* cli.ended).toBe(76)
        expect(numbers(cli.stdout, "pid").filter(Cli.isRunning)).toEqual([])
        expect(yield* server.command("GET", "work")).toBe(atGrant)
        expect(Number(atGrant)).toBeGreaterThan(100)
        expect(cli.stdout).toContain("lost Unreachable")
        expect(cli.stderr).toMatch(/^effect-redis-lock: .*was lost.*\n$/)
      })
      yield* undisturbed(25, trial)
    })
  )

  it.scoped("a loss that is known: nothing runs on, and the exit code says it", () =>
    Effect.gen(function* () {
      const { command, url } = yield* emptyServer
      const cli = yield* Cli.start(["run", "k", "--ttl", "1s", "--", "sh", "-c", deaf], { url })
      yield* until(() => numbers(cli.stdout, "pid").length === 2)
      yield* command("SET", "k", "somebody else")
      expect(yield* cli.ended).toBe(76)
      expect(numbers(cli.stdout, "pid").filter(Cli.isRunning)).toEqual([])
      expect(yield* command("GET", "k")).toBe("somebody else")
    })
  )

  it.scoped("a loss that is noticed at the release runs the hook as well", () =>
    Effect.gen(function* () {
      const { command, url } = yield* emptyServer
      const hook = ["--on-lost", 'echo "lost $LOCK_LOST_REASON"']
      const cli = yield* Cli.start(
        ["run", "k", "--ttl", "60s", ...hook, "--", "sh", "-c", "echo in; read x"],
        { url }
      )
      yield* cli.prints("in\n")
      yield* command("SET", "k", "somebody else")
      yield* cli.endOfInput
      expect(yield* cli.ended).toBe(76)
      expect(cli.stdout).toBe("in\nlost Taken\n")
      expect(cli.stderr).toMatch(/^effect-redis-lock: .*was lost.*\n$/)
    })
  )

  it.scoped("the hook is told to end", () =>
    Effect.gen(function* () {
      const { command, url } = yield* emptyServer
      const hook = `trap 'echo told; exit' TERM; echo hook; while :; do sleep 0.05; done`
      const cli = yield* Cli.start(
        ["run", "k", "--ttl", "1s", "--on-lost", hook, "--", "sh", "-c", "echo in; read x"],
        { url }
      )
      yield* cli.prints("in\n")
      yield* command("SET", "k", "somebody else")
      yield* cli.prints("hook\n")
      yield* cli.signal("SIGTERM")
      yield* cli.prints("told\n")
      expect(yield* cli.ended).toBe(76)
    })
  )

  it.scoped("max-hold ends the command", () =>
    Effect.gen(function* () {
      const { url } = yield* emptyServer
      const args = ["--ttl", "1s", "--max-hold", "1s", "--grace", "200ms"]
      const end = yield* Cli.run(["run", "k", ...args, "--", "sleep", "60"], { url })
      expect(end.code).toBe(76)
      expect(end.stderr).toContain("maxHold")
    })
  )

  it.scoped("hold-at-least keeps the lock", () =>
    Effect.gen(function* () {
      const { command, url } = yield* emptyServer
      const end = yield* Cli.run(["run", "k", "--hold-at-least", "60s", "--", "true"], { url })
      expect(end.code).toBe(0)
      expect(yield* command("PTTL", "k")).toBeGreaterThan(30_000)
    })
  )

  it.scoped("what the command leaves behind ends with it, before the lock is free", () =>
    Effect.gen(function* () {
      const { dump, url } = yield* emptyServer
      const script = `sh -c 'trap "" TERM; echo pid $$; while :; do sleep 1; done' &
sh -c 'trap "sleep 0.2; echo cleaned up; exit" TERM; echo ready; while :; do sleep 0.05; done' &
sleep 0.5; exit 5`
      const cli = yield* Cli.start(["run", "k", "--grace", "2s", "--", "sh", "-c", script], {
        url
      })
      expect(yield* cli.ended).toBe(5)
      // SIGTERM first, as long as the lock is held
      expect(cli.stdout).toContain("cleaned up")
      const pids = numbers(cli.stdout, "pid")
      expect(pids).toHaveLength(1)
      expect(pids.filter(Cli.isRunning)).toEqual([])
      expect(yield* dump).not.toContain("k")
    })
  )

  it.scoped("passes signals on", () =>
    Effect.gen(function* () {
      const { dump, url } = yield* emptyServer
      const script = `trap 'echo INT' INT; trap 'echo QUIT' QUIT; trap 'echo USR1' USR1; trap 'echo HUP; exit 9' HUP; echo ready; while :; do sleep 0.05; done`
      const cli = yield* Cli.start(["run", "k", "--", "sh", "-c", script], { url })
      yield* cli.prints("ready")
      for (const signal of ["INT", "QUIT", "USR1", "HUP"] as const) {
        yield* cli.signal(`SIG${signal}`)
        yield* cli.prints(`${signal}\n`)
      }
      expect(yield* cli.ended).toBe(9)
      expect(yield* dump).not.toContain("k")
    })
  )

  it.scoped("told to end, it ends all, by force after the grace, and gives the lock back", () =>
    Effect.gen(function* () {
      const { dump, url } = yield* emptyServer
      const cli = yield* Cli.start(["run", "k", "--grace", "300ms", "--", "sh", "-c", deaf], {
        url
      })
      yield* until(() => numbers(cli.stdout, "pid").length === 2)
      yield* cli.signal("SIGTERM")
      expect(yield* cli.ended).toBe(137)
      expect(numbers(cli.stdout, "pid").filter(Cli.isRunning)).toEqual([])
      expect(yield* dump).not.toContain("k")
    })
  )

  it.scoped("told to end while it waits, it leaves the queue", () =>
    Effect.gen(function* () {
      const server = yield* emptyServer
      yield* taken(server, "busy")
      const cli = yield* Cli.start(["run", "busy", "--", "echo", "ran"], { url: server.url })
      const queued = server.command("ZCARD", "{busy}:lock-queue")
      yield* RedisServer.eventually(Effect.map(queued, (count) => count === 1))
      yield* cli.signal("SIGINT")
      // (a shell calls that 130)
      expect(yield* cli.ended).toBe("SIGINT")
      expect(yield* queued).toBe(0)
      expect(cli.stdout + cli.stderr).toBe("")
    })
  )

  it.scoped("killed, its watchdog ends the group", () =>
    Effect.gen(function* () {
      const { url } = yield* emptyServer
      const cli = yield* Cli.start(["run", "k", "--grace", "300ms", "--", "sh", "-c", deaf], {
        url
      })
      yield* until(() => numbers(cli.stdout, "pid").length === 2)
      yield* cli.signal("SIGKILL")
      yield* until(() => numbers(cli.stdout, "pid").every((pid) => !Cli.isRunning(pid)))
    })
  )

  it.scoped("stopped, without anybody to let it go on, its watchdog ends the group in time", () =>
    Effect.gen(function* () {
      const server = yield* emptyServer
      const cli = yield* Cli.start(["run", "k", "--ttl", "2s", "--", "sh", "-c", deaf], server)
      yield* until(() => numbers(cli.stdout, "pid").length === 2)
      yield* cli.signal("SIGSTOP")
      yield* RedisServer.eventually(
        Effect.map(
          server.command("SET", "k", "other", "NX", "PX", 60_000),
          (answer) => answer === "OK"
        )
      )
      expect(numbers(cli.stdout, "pid").filter(Cli.isRunning)).toEqual([])
      yield* cli.signal("SIGCONT")
      expect(yield* cli.ended).toBe(76)
    })
  )

  it.scoped("SIGTSTP stops the command, and SIGCONT lets it go on", () =>
    Effect.gen(function* () {
      const { url } = yield* emptyServer
      const script = `echo pid $$; while :; do echo tick; sleep 0.05; done`
      // (where nobody could let a process go on, the kernel does not stop it: so this has a parent)
      const cli = yield* Cli.start(["run", "k", "--", "sh", "-c", script], { url })
      yield* cli.prints("tick")
      yield* cli.signal("SIGTSTP")
      const ticks = () => cli.stdout.split("tick").length
      const before = ticks()
      yield* until(() => ticks() > before + 3)
      yield* cli.signal("SIGTERM")
      expect(yield* cli.ended).toBe(143)
    })
  )
})
