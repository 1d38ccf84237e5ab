/** What the other commands print: for people, and for programs. */
import { expect } from "@effect/vitest"
import { atOnce } from "../support/atOnce.js"
import * as Effect from "effect/Effect"
import * as Cli from "../support/Cli.js"
import * as RedisCluster from "../support/RedisCluster.js"
import * as RedisSentinel from "../support/RedisSentinel.js"
import * as RedisServer from "../support/RedisServer.js"
import { fileURLToPath } from "node:url"

const emptyServer = Effect.tap(RedisServer.RedisServer, ({ flush }) => flush)

/** A command line that holds a key until its input ends. */
const holder = (url: string, ...args: ReadonlyArray<string>) =>
  Effect.tap(
    Cli.start(["run", ...args, "--", "sh", "-c", "echo in; read x; exit 0"], { url }),
    (cli) => cli.prints("in\n")
  )

const lines = (text: string): ReadonlyArray<string> => text.trimEnd().split("\n")
const objects = (text: string) =>
  lines(text).map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>)

/** A text that would clear a screen, if it was printed as it is. */
const evil = "\u001B[2J\u0007evil"

atOnce(RedisServer.layer())("looking", (it) => {
  it.scoped(
    "ls, show, leader and release: of a lock, of those who wait, and of strange names",
    () =>
      Effect.gen(function* () {
        const { command, url } = yield* emptyServer
        const cli = (...args: ReadonlyArray<string>) => Cli.run(args, { url })
        const key = "line\nend*"
        yield* command("SET", "lines", "x", "PX", 60_000)
        const [first] = yield* Effect.all(
          [
            holder(url, key, "--ttl", "3s", "--owner", evil),
            holder(url, "pool", "--permits", "2/5")
          ],
          { concurrency: 2 }
        )
        const second = yield* Cli.start(["run", key, "--owner", "second", "--", "true"], { url })
        const queue = command("ZCARD", `{${key}}:lock-queue`)
        yield* RedisServer.eventually(Effect.map(queue, (count) => count === 1))

        const [all, pattern, page, json, page2] = yield* Effect.all(
          [
            cli("ls"),
            cli("ls", "line*"),
            cli("show", key),
            cli("show", key, "--json"),
            cli("ls", "line\n", "--json")
          ],
          { concurrency: 2 }
        )
        expect(lines(all.stdout).map((line) => line.split(/ {2,}/).slice(0, 3))).toEqual([
          ["KEY", "KIND", "HOLDER"],
          ["line\\nend*", "lock", "\\u{1b}[2J\\u{7}evil"],
          ["lines", "key", "(a program without this library)"],
          ["pool", "semaphore", expect.stringMatching(/:\d+$/)]
        ])
        // (a star is a star)
        expect(pattern).toEqual({ code: 0, stdout: "", stderr: "" })
        const [found] = objects(json.stdout) as unknown as ReadonlyArray<{
          readonly held: ReadonlyArray<{ readonly fencingToken: number }>
        }>
        const token = found!.held[0]!.fencingToken
        expect(found).toMatchObject({
          key,
          kind: "lock",
          held: [{ owner: evil, mode: "exclusive", foreign: false }],
          pending: [{ owner: "second" }]
        })
        expect(objects(page2.stdout)).toMatchObject([{ key }])
        expect(page.stdout).toMatch(
          /line\\nend\*\s+lock\n[^]*evil\s+exclusive.*\d{16}\n[^]*1\s+second/
        )
        for (const { stdout } of [all, page, json]) expect(stdout).not.toContain("\u001B")

        // nobody there can answer, nobody has that number, and then the one who has it
        const free = ["release", key, "--fencing-token"]
        expect(yield* cli(...free, `${token}`)).toMatchObject({ code: 64 })
        expect(yield* cli(...free, `${token - 1}`, "--yes")).toMatchObject({ code: 1, stdout: "" })
        expect(yield* cli("leader", key)).toMatchObject({
          code: 0,
          stdout: /evil {2}since .*term \d+/
        })
        expect(yield* cli(...free, `${token}`, "--yes")).toMatchObject({ code: 0 })
        expect(yield* second.ended).toBe(0)
        // the first one hears of it at its next renewal at the latest
        expect(yield* first.ended).toBe(76)
        expect(yield* cli("leader", key)).toMatchObject({ code: 1, stdout: "" })
      }),
    60_000
  )

  it.scoped("JSON has the keys as they are, and nothing that a terminal obeys", () =>
    Effect.gen(function* () {
      const { command, url } = yield* emptyServer
      const keys = ["a\u009B31mb", "c\u009Dd", "e\u202Ef", "g\u2028h", "i\u{E0001}j", "k\u001B[2Jl"]
      for (const key of keys) yield* command("SET", key, "x", "PX", 60_000)
      const { stdout } = yield* Cli.run(["ls", "--json"], { url })
      expect(
        objects(stdout)
          .map(({ key }) => key as string)
          .sort()
      ).toEqual(keys)
      expect(stdout).toMatch(/^[\n -~]+$/)
    })
  )

  it.scoped("release asks on a terminal, and watch tells what changes", () =>
    Effect.gen(function* () {
      const { url } = yield* emptyServer
      const watch = yield* Cli.start(["watch", "k", "--json", "--every", "50ms"], { url })
      const one = yield* holder(url, "k")
      yield* watch.prints('"granted"')
      const [{ held }] = objects(watch.stdout) as unknown as [
        { readonly held: { readonly fencingToken: number } }
      ]
      const shell = yield* Cli.onTerminal(
        `$CLI release k --fencing-token ${held.fencingToken}; echo "code $?"; $CLI release k --fencing-token ${held.fencingToken}; echo "then $?"`,
        { url }
      )
      yield* shell.prints("[y/N]")
      yield* shell.write("n\r")
      yield* shell.prints("code 1")
      yield* shell.prints(/\[y\/N\][^]*\[y\/N\]/)
      yield* shell.write("y\r")
      yield* shell.prints("then 0")
      yield* watch.prints(/"(released|lost)"/)
      yield* one.endOfInput
      // nobody reads it any more
      yield* watch.signal("SIGINT")
      expect(yield* watch.ended).toBe("SIGINT")
    })
  )

  it.scoped("help, usage and completions", () =>
    Effect.gen(function* () {
      const cli = (...args: ReadonlyArray<string>) => Cli.run(args)
      const [none, help, ofRun, unknown, missing, completions, version] = yield* Effect.all(
        [
          cli(),
          cli("--help"),
          cli("run", "--help"),
          cli("rnu"),
          cli("show"),
          cli("--completions", "bash"),
          cli("--version")
        ],
        { concurrency: 2 }
      )
      expect(none.code).toBe(64)
      expect(help.code).toBe(0)
      for (const name of ["run", "ls", "show", "watch", "leader", "release", "doctor"]) {
        expect(help.stdout).toContain(`- ${name}`)
        expect(completions.stdout).toContain(name)
      }
      expect(ofRun.stdout).toContain("--hold-at-least")
      for (const { stderr, stdout } of [help, ofRun]) {
        expect(stdout).not.toContain("\u001B")
        expect(stderr).toBe("")
      }
      expect(unknown).toMatchObject({ code: 64, stdout: "" })
      expect(lines(unknown.stderr)).toHaveLength(1)
      expect(missing).toMatchObject({ code: 64, stdout: "" })
      expect(lines(missing.stderr)).toHaveLength(1)
      expect(version.stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
    })
  )

  it.scoped("colour is for terminals, and for those who want it", () =>
    Effect.gen(function* () {
      const { url } = yield* emptyServer
      const coloured = yield* Cli.onTerminal("$CLI show k", { url })
      yield* coloured.ended
      expect(coloured.stdout).toContain("\u001B[1mk\u001B[0m")
      const plain = yield* Cli.onTerminal("$CLI show k", { url, env: { NO_COLOR: "1" } })
      yield* plain.ended
      expect(plain.stdout).toBe("k  free\r\n")
    })
  )

  it.scoped("behind Sentinels, in a Cluster, and by TLS", () =>
    Effect.gen(function* () {
      const sentinel = yield* RedisSentinel.make({ sentinels: 1, replicas: 0 })
      const cluster = yield* RedisCluster.make()
      const file = (name: string) =>
        fileURLToPath(new URL(`../support/tls/${name}`, import.meta.url))
      const port = yield* RedisServer.freePort
      yield* RedisServer.make({
        args: RedisServer.flags({
          "tls-port": port,
          "tls-cert-file": file("server.crt"),
          "tls-key-file": file("server.key"),
          "tls-ca-cert-file": file("ca.crt")
        })
      })
      const address = ({ host, port }: { readonly host: string; readonly port: number }) =>
        `${host}:${port}`
      const ways: ReadonlyArray<ReadonlyArray<string>> = [
        ["--sentinel", address(sentinel.addresses[0]!)],
        ["--cluster", address(cluster.masters[0]!), "--cluster", address(cluster.masters[1]!)],
        ["--url", `rediss://127.0.0.1:${port}`, "--tls-ca", file("ca.crt")].concat(
          "--tls-cert",
          file("server.crt"),
          "--tls-key",
          file("server.key")
        )
      ]
      const ends = yield* Effect.forEach(
        ways,
        (way) =>
          Effect.scoped(
            Effect.gen(function* () {
              const holds = yield* Cli.start([
                "run",
                "k",
                ...way,
                "--",
                "sh",
                "-c",
                "echo in; read x; exit 0"
              ])
              yield* holds.prints("in\n")
              const { stdout } = yield* Cli.run(["ls", "--json", ...way])
              yield* holds.endOfInput
              return [yield* holds.ended, objects(stdout).map(({ key }) => key)]
            })
          ),
        { concurrency: 3 }
      )
      expect(ends).toEqual(ways.map(() => [0, ["k"]]))
    })
  )
})
