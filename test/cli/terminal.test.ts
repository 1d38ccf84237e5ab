/** `run` on a terminal: the command has it, and stops and goes on as the job of a shell does. */
import { expect } from "@effect/vitest"
import { atOnce } from "../support/atOnce.js"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Cli from "../support/Cli.js"
import * as RedisServer from "../support/RedisServer.js"

const emptyServer = Effect.tap(RedisServer.RedisServer, ({ flush }) => flush)

const enter = "\r"
const controlC = "\u0003"
const controlZ = "\u001A"

const interactiveShell = (url: string) =>
  Effect.tap(Cli.onTerminal("bash --norc --noediting -i", { url }), (shell) =>
    shell.prints(/[$#] $/)
  )

/** What is typed at once may come before a program is there to read it. */
const type = (cli: Cli.Process, text: string, answer: string | RegExp) =>
  Effect.zipRight(cli.write(text), cli.prints(answer))

atOnce(RedisServer.layer())("run on a terminal", (it) => {
  it.scoped(
    "an editor has the terminal: its keys as they are typed, and its modes are set right",
    () =>
      Effect.gen(function* () {
        const { url } = yield* emptyServer
        // (whoever is not in the terminal's group is stopped by setting its modes, and by reading)
        const editor = `process.stdin.setRawMode(true)
process.stdout.write("edit> ")
process.stdin.on("data", (keys) => {
  console.log(JSON.stringify(String(keys)))
  if (String(keys) === "k") process.kill(process.pid, "SIGKILL")
})`
        const cli = yield* Cli.onTerminal(
          `$CLI run k -- ${process.execPath} -e '${editor}'; echo "ended with $?"; stty -a | grep -o -- '-*icanon'`,
          { url }
        )
        yield* cli.prints("edit> ")
        yield* type(cli, "x", '"x"')
        yield* type(cli, controlC, '"\\u0003"')
        yield* type(cli, "k", "ended with 137")
        yield* cli.ended
        expect(cli.stdout).toMatch(/\sicanon/)
      })
  )

  it.scoped("^C ends the command, and what is behind it", () =>
    Effect.gen(function* () {
      const { dump, url } = yield* emptyServer
      const shell = yield* interactiveShell(url)
      // (where a shell gets ^C in the moment in which it starts a process, the process can go on)
      yield* shell.write(
        `$CLI run k -- sh -c 'echo in; exec sleep 60'; echo "ended with $?"${enter}`
      )
      yield* shell.prints(/^in/m)
      yield* shell.write(controlC)
      // (bash leaves the rest of the line, as it does for a command that ^C has ended)
      yield* type(shell, `echo "code $?"${enter}`, "code 130")
      expect(yield* dump).not.toContain("k")
      yield* shell.write(`exit${enter}`)
      yield* shell.ended
    })
  )

  it.scoped("^C ends the script that runs it", () =>
    Effect.gen(function* () {
      const { url } = yield* emptyServer
      const cli = yield* Cli.onTerminal(
        `for i in 1 2; do $CLI run k -- sh -c "echo in $i; exec sleep 60"; done; echo after`,
        { url }
      )
      yield* cli.prints("in 1")
      yield* cli.write(controlC)
      yield* cli.ended
      expect(cli.stdout).not.toContain("in 2")
      expect(cli.stdout).not.toContain("after")
    })
  )

  /** A shell whose `stty` waits until `goOn`: the command has not begun, but the terminal is not this shell's. */
  const withSlowStart = (url: string, dir: string) =>
    Effect.gen(function* () {
      const bin = Path.join(dir, "slow-bin")
      const pipe = Path.join(dir, "slow-pipe")
      Fs.rmSync(bin, { recursive: true, force: true })
      Fs.mkdirSync(bin)
      const stty = `#!/bin/sh
[ "$1" = -g ] || exec /bin/stty "$@"
[ -p ${pipe} ] || mkfifo ${pipe}
echo "st""arting" >/dev/tty
read -r line <${pipe}
exec /bin/stty "$@"
`
      Fs.writeFileSync(Path.join(bin, "stty"), stty, { mode: 0o755 })
      const shell = yield* interactiveShell(url)
      yield* shell.write(`PATH=${bin}:$PATH${enter}`)
      yield* shell.write(`$CLI run k -- echo ran; echo "ended with $?"; exit 3${enter}`)
      yield* shell.prints("starting")
      return { shell, goOn: Effect.sync(() => Fs.writeFileSync(pipe, "\n")) }
    })

  const interrupted = (shell: Cli.Process) =>
    Effect.gen(function* () {
      yield* type(shell, `echo "code $?"${enter}`, "code 130")
      // (it could not be read by a shell that the terminal was taken from)
      yield* type(shell, `echo "once" more${enter}`, "once more")
      expect(shell.stdout).not.toMatch(/^(ran|ended with|Killed|effect-redis-lock)/m)
      yield* shell.write(`exit 4${enter}`)
      expect(yield* shell.ended).toBe(4)
    })

  it.scoped("^C before the command has begun: it does not begin", () =>
    Effect.gen(function* () {
      const { dir, dump, url } = yield* emptyServer
      const { shell } = yield* withSlowStart(url, dir)
      yield* shell.write(controlC)
      yield* interrupted(shell)
      expect(yield* dump).not.toContain("k")
    })
  )

  it.scoped("told to end before the command has begun: the shell gets its terminal back", () =>
    Effect.gen(function* () {
      const { dir, dump, url } = yield* emptyServer
      const { goOn, shell } = yield* withSlowStart(url, dir)
      process.kill(Cli.commandLineBelow(shell.pid)!, "SIGINT")
      yield* goOn
      yield* interrupted(shell)
      expect(yield* dump).not.toContain("k")
    })
  )

  it.scoped("^C while it waits ends the script that runs it as well", () =>
    Effect.gen(function* () {
      const { command, url } = yield* emptyServer
      yield* command("SET", "k", "somebody else", "PX", 60_000)
      const cli = yield* Cli.onTerminal(`bash -c '$CLI run k -- true; echo aft"er"; exit 5'`, {
        url
      })
      const queued = command("ZCARD", "{k}:lock-queue")
      yield* RedisServer.eventually(Effect.map(queued, (count) => count === 1))
      yield* cli.write(controlC)
      yield* cli.ended
      expect(cli.stdout).not.toContain("after")
      expect(yield* queued).toBe(0)
    })
  )

  it.scoped("in a pipeline the terminal is left to the others", () =>
    Effect.gen(function* () {
      const { dir, url } = yield* emptyServer
      const shell = yield* interactiveShell(url)
      // (whoever is not in the terminal's group is stopped by reading)
      // (while both commands run)
      const reader = `read line; echo "rea"dy; read typed </dev/tty; echo "got <$typed>"; echo >${dir}/pipe; cat; echo "e"nd`
      yield* shell.write(
        `mkfifo ${dir}/pipe; $CLI run a -- sh -c 'echo one; read x <${dir}/pipe; echo two' | $CLI run b -- cat | sh -c '${reader}'${enter}`
      )
      yield* shell.prints("ready")
      yield* type(shell, `x${enter}`, "got <x>")
      yield* shell.prints(/^two[^]*^end/m)
      yield* shell.write(`exit${enter}`)
      yield* shell.ended
    })
  )

  it.scoped("with input from a pipe, the command still has the terminal", () =>
    Effect.gen(function* () {
      const { url } = yield* emptyServer
      const cli = yield* Cli.onTerminal(
        `echo piped | $CLI run k -- sh -c 'read a; echo "$a"; read b </dev/tty; echo "and $b"' 2>/dev/null`,
        { url }
      )
      yield* cli.prints("piped")
      yield* type(cli, `typed${enter}`, "and typed")
      expect(yield* cli.ended).toBe(0)
    })
  )

  it.scoped("^Z stops it, fg and bg let it go on", () =>
    Effect.gen(function* () {
      const { dir, url } = yield* emptyServer
      const shell = yield* interactiveShell(url)
      // (nothing of it starts a process: a shell cannot be stopped at the moment in which it does)
      const script = `echo in; read a; echo "one $a"; read line <${dir}/go; echo g"one"; read b; echo "two $b"; exit 7`
      yield* shell.write(`mkfifo ${dir}/go; $CLI run k -- sh -c '${script}'${enter}`)
      yield* shell.prints(/^in/m)
      yield* type(shell, controlZ, "Stopped")
      yield* shell.write(`fg; echo "code $?"${enter}`)
      yield* type(shell, `1${enter}`, "one 1")
      yield* type(shell, controlZ, "code 148")
      // it runs in the background, comes to the foreground while it runs, and goes back
      yield* type(shell, `bg; echo "code $?"${enter}`, "code 0")
      yield* type(shell, `fg; echo "then $?"${enter}`, /bg; echo[^]*fg; echo[^]*sh -c/)
      yield* type(shell, controlZ, "then 148")
      yield* type(shell, `bg; echo >${dir}/go${enter}`, "gone")
      // it may not read there, and is stopped by that
      yield* type(
        shell,
        `until jobs | grep -q Stopped; do sleep 0.1; done; echo "jobs $?"${enter}`,
        "jobs 0"
      )
      yield* shell.write(`fg; echo "code $?"${enter}`)
      yield* type(shell, `2${enter}`, "two 2")
      yield* shell.prints("code 7")
      yield* shell.write(`exit${enter}`)
      yield* shell.ended
    })
  )

  it.scoped("what was stopped for too long does not go on", () =>
    Effect.gen(function* () {
      const { command, url } = yield* emptyServer
      const shell = yield* interactiveShell(url)
      const script = `echo in; read a; echo "went on"`
      yield* shell.write(`$CLI run k --ttl 2s -- sh -c '${script}'${enter}`)
      yield* shell.prints(/^in/m)
      yield* type(shell, controlZ, "Stopped")
      yield* RedisServer.eventually(
        Effect.map(command("SET", "k", "x", "NX", "PX", 60_000), (answer) => answer === "OK")
      )
      yield* type(shell, `fg; echo "code $?"${enter}`, "code 76")
      expect(shell.stdout).toContain("was lost")
      yield* shell.write(`exit${enter}`)
      yield* shell.ended
    })
  )

  it.scoped("in the background it runs, and reads nothing that is typed for others", () =>
    Effect.gen(function* () {
      const { url } = yield* emptyServer
      const shell = yield* interactiveShell(url)
      const script = `echo "it has" in; read a; echo "it got" "<$a>"`
      yield* shell.write(`$CLI run k -- sh -c '${script}' & wait; echo typed${enter}`)
      yield* shell.prints("it got <>")
      yield* shell.write(`exit${enter}`)
      yield* shell.ended
    })
  )
})
