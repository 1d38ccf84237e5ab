/** The commands, their options, and their help. What a command needs to run is loaded when it runs. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { type CliFailure, usage } from "./exitCode.js"
import { connection, duration, json, permits } from "./options.js"

declare const VERSION: string

/** Runs what a module has, and remembers the exit code that it answers. */
const withModule = <M>(
  load: () => Promise<M>,
  use: (module: M) => Effect.Effect<number, CliFailure>
): Effect.Effect<void, CliFailure> =>
  Effect.map(Effect.flatMap(Effect.promise(load), use), (exitCode) => {
    process.exitCode = exitCode
  })

const key = Args.text({ name: "KEY" }).pipe(
  Args.withDescription("The key that is locked, without the prefix.")
)

const needsCommand = usage("run needs a command, after --: run KEY [options] -- COMMAND...")

const run = (command: ReadonlyArray<string>) =>
  Command.make(
    "run",
    {
      key,
      wait: duration("wait").pipe(
        Options.withAlias("w"),
        Options.withDescription(
          "Wait so long for the lock at most, then exit with 75. Default: no limit."
        ),
        Options.optional
      ),
      noWait: Options.boolean("no-wait").pipe(
        Options.withAlias("n"),
        Options.withDescription("Exit with 75 if the lock is not free.")
      ),
      ttl: duration("ttl").pipe(
        Options.withDescription(
          "How long the lock outlives this process if it is killed; it is renewed until then. Default: 30s."
        ),
        Options.withDefault(Duration.seconds(30))
      ),
      maxHold: duration("max-hold").pipe(
        Options.withDescription("End the command after that time: the lock is free then."),
        Options.optional
      ),
      holdAtLeast: duration("hold-at-least").pipe(
        Options.withDescription("Keep the lock for that time, also if the command ends before."),
        Options.optional
      ),
      permits: permits("permits").pipe(
        Options.withDescription("Take so many of a semaphore's permits: 1/5 is one of five."),
        Options.optional
      ),
      shared: Options.boolean("shared").pipe(
        Options.withAlias("s"),
        Options.withDescription("Take a read-write lock for reading, together with other readers.")
      ),
      exclusive: Options.boolean("exclusive").pipe(
        Options.withAlias("x"),
        Options.withDescription("Take a read-write lock for writing.")
      ),
      keys: Options.text("key").pipe(
        Options.withPseudoName("key"),
        Options.withDescription("A further key: all are held, or none. Several can be given."),
        Options.repeated
      ),
      owner: Options.text("owner").pipe(
        Options.withPseudoName("text"),
        Options.withDescription(
          "Who holds it, for people who look. Default: host name and process id."
        ),
        Options.optional
      ),
      grace: duration("grace").pipe(
        Options.withDescription(
          "How long the command has between SIGTERM and SIGKILL when the lock is lost, or this process is told to end. A day at most. Default: 5s."
        ),
        Options.withDefault(Duration.seconds(5))
      ),
      onLost: Options.text("on-lost").pipe(
        Options.withPseudoName("command"),
        Options.withDescription(
          "A shell command that is run after the lock was lost and the command has ended, with LOCK_LOST_REASON set."
        ),
        Options.optional
      ),
      ...connection
    },
    (options) =>
      command.length === 0
        ? needsCommand
        : withModule(
            () => import("./run.js"),
            (module) => module.run({ ...options, command })
          )
  ).pipe(
    Command.withDescription(
      "Run a command while holding a lock: run KEY [options] -- COMMAND... The command gets LOCK_KEY and LOCK_FENCING_TOKEN; its exit code is this one's."
    )
  )

const prefixArg = Args.text({ name: "PREFIX" }).pipe(
  Args.withDescription("The keys that begin with that, character by character. Default: all."),
  Args.withDefault("")
)

const ls = Command.make("ls", { keys: prefixArg, json, ...connection }, (options) =>
  withModule(
    () => import("./look.js"),
    (module) => module.ls(options)
  )
).pipe(Command.withDescription("List the keys that somebody holds or waits for."))

const show = Command.make("show", { key, json, ...connection }, (options) =>
  withModule(
    () => import("./look.js"),
    (module) => module.show(options)
  )
).pipe(Command.withDescription("Show who holds a key, since when, and who waits for it."))

const watch = Command.make(
  "watch",
  {
    keys: prefixArg,
    json,
    every: duration("every").pipe(
      Options.withDescription("The time between two looks. Default: 1s."),
      Options.withDefault(Duration.seconds(1))
    ),
    ...connection
  },
  (options) =>
    withModule(
      () => import("./look.js"),
      (module) => module.watch(options)
    )
).pipe(Command.withDescription("Print what changes, one line each, until it is interrupted."))

const leader = Command.make("leader", { key, json, ...connection }, (options) =>
  withModule(
    () => import("./look.js"),
    (module) => module.leader(options)
  )
).pipe(Command.withDescription("Say who leads. Exit code 1: nobody."))

const release = Command.make(
  "release",
  {
    key,
    fencingToken: Options.integer("fencing-token").pipe(
      Options.withPseudoName("number"),
      Options.withDescription("Of the holder that is meant, as show prints it.")
    ),
    yes: Options.boolean("yes").pipe(
      Options.withAlias("y"),
      Options.withDescription("Do not ask.")
    ),
    ...connection
  },
  (options) =>
    withModule(
      () => import("./release.js"),
      (module) => module.release(options)
    )
).pipe(
  Command.withDescription(
    "Free a key whose holder does not. Its work goes on until it notices: only the fencing token tells the two apart."
  )
)

const ui = Command.make(
  "ui",
  {
    keys: prefixArg,
    port: Options.integer("port").pipe(
      Options.withPseudoName("number"),
      Options.withDescription(
        "Where the page is, on 127.0.0.1; 0: any that is free. Default: 4870."
      ),
      Options.withDefault(4_870)
    ),
    every: duration("every").pipe(
      Options.withDescription("The time between two looks. Default: 1s."),
      Options.withDefault(Duration.seconds(1))
    ),
    allowRelease: Options.boolean("allow-release").pipe(
      Options.withDescription("Let the page free keys by force.")
    ),
    leaders: Options.text("leaders").pipe(
      Options.withPseudoName("prefix"),
      Options.withDescription(
        "Keys that begin with that are shown as those of leaders. Several can be given."
      ),
      Options.repeated
    ),
    ...connection
  },
  (options) =>
    withModule(
      () => import("./ui.js"),
      (module) => module.ui(options)
    )
).pipe(
  Command.withDescription("Serve a page that shows who holds what, who waits, and what happened.")
)

const doctor = Command.make("doctor", { json, ...connection }, (options) =>
  withModule(
    () => import("./doctor.js"),
    (module) => module.doctor(options)
  )
).pipe(
  Command.withDescription(
    "Look for what is wrong with a server for locks, and say what to do. Exit code 1: something is."
  )
)

/** Without the `--`, the parser would call the command an unknown argument. */
const lacksCommand = (args: ReadonlyArray<string>, command: ReadonlyArray<string>): boolean =>
  args[0] === "run" &&
  command.length === 0 &&
  !args.some((arg) => /^(-h|--(help|version|wizard|completions))$/.test(arg))

export const main = (args: ReadonlyArray<string>, command: ReadonlyArray<string>) =>
  lacksCommand(args, command)
    ? needsCommand
    : Command.run(
        Command.make("effect-redis-lock").pipe(
          Command.withDescription("Locks in Redis: run commands under them, and look at them."),
          Command.withSubcommands([run(command), ls, show, watch, leader, release, ui, doctor])
        ),
        { name: "effect-redis-lock", version: VERSION, executable: "effect-redis-lock" }
      )(["node", "effect-redis-lock", ...args])
