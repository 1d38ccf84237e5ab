/**
 * Checks the models of the protocol in all their schedules: docs/protocol.pml (of kinds that several can
 * hold, with docs/holders.pml), and docs/quorum.pml. Then puts known bugs into them, which the search must
 * find. Exit code 1 if a property does not hold, if a search was cut short, or if a bug was not found.
 *
 *   npm run model
 *   npm run model -- --only semaphore
 */
import { spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"

interface Check {
  readonly name: string
  /** What Spin's preprocessor is told: the size of the world, and the mistake. */
  readonly define: Readonly<Record<string, string | number>>
  /** Default: protocol.pml. */
  readonly model?: string
}

interface Result {
  readonly errors: number
  readonly states: number
  readonly seconds: number
  /** Nothing was left out for want of memory or depth. */
  readonly isWhole: boolean
}

const { values } = parseArgs({ options: { only: { type: "string", default: "" } } })
const docs = join(import.meta.dirname, "../docs")
const protocol = join(docs, "protocol.pml")
const quorum = join(docs, "quorum.pml")

const back = { N: 2, TTL: 2, SHORT: 1, WINDOW: 1, BACK: 1, RESTART: 0, REPEAT: 0, TRY: 0 }
const timely = { TIMELY: 1, LATE: 0 }
/** A pass takes a place: a client has a second token for it. */
const place = { K: 2 }
/** Commands come twice, and no client starts anew: then nothing may be left behind. */
const again = { N: 2, ...place, LATE: 0, TRY: 0, RESTART: 0 }
const latePass = {
  N: 2,
  ...place,
  TTL: 2,
  WINDOW: 1,
  TRY: 0,
  PASS: 2,
  LATE: 2,
  REPEAT: 0,
  RESTART: 0
}

/** Three clients of what several can hold: of what can go wrong, they start anew, and nothing else. */
const three = { N: 3, TTL: 2, WINDOW: 1, LATE: 0, PASS: 0, TRY: 0, REPEAT: 0 }
const threeInTime = { N: 3, ...timely, PASS: 0, TRY: 0, REPEAT: 0, BOUND: 10 }
/** Of a quorum: a lease is not renewed, and a ttl is one tick. */
const once = { TTL: 1, RENEW: 0, CRASHES: 0 }
/** Two clients: commands come twice, late, or from a connection that was given up. */
const two = { N: 2, TTL: 2, WINDOW: 1 }

const checks: ReadonlyArray<Check> = [
  {
    name: "2 clients: commands that come twice, late, or from a connection that was given up; exclusion",
    define: { N: 2 }
  },
  {
    name: "2 clients, whose callers have two ttls: exclusion",
    define: { N: 2, SHORT: 2, LATE: 0 }
  },
  {
    name: "2 clients, two ttls, a server's clock that is set back: exclusion, and ttls that are too long become right again",
    define: back
  },
  {
    name: "2 clients in time, with one fault: exclusion, and no client waits for more than 8 ticks",
    define: { N: 2, ...timely, FAULTS: 1, BOUND: 8 }
  },
  {
    name: "the same, and a pass takes a place",
    define: { N: 2, ...place, ...timely, FAULTS: 1, BOUND: 8 }
  },
  {
    name: "3 clients in time, and a pass takes a place: exclusion, and no client waits for more than 10 ticks",
    define: { N: 3, ...place, ...timely, TRY: 0, FAULTS: 0, BOUND: 10 }
  },
  {
    name: "2 clients, and a pass takes a place, commands that come twice: exclusion, and nothing is left behind",
    define: again
  },
  {
    name: "2 clients, and a pass takes a place, and comes late, or from a connection that was given up: exclusion",
    define: latePass
  },
  {
    name: "semaphore of 2, 2 clients that want 2 and 1: commands that come twice, late, or from a connection that was given up; never more than 2, in order",
    define: { N: 2, LIMIT: 2, S0: 2 }
  },
  {
    name: "semaphore, 2 clients with the limits 2 and 1, the same: nobody's limit is exceeded",
    define: { ...two, LIMIT: 2, L1: 1 }
  },
  {
    name: "semaphore of 2, 3 clients that start anew at any time: never more than 2, in order",
    define: { ...three, LIMIT: 2 }
  },
  {
    name: "semaphore of 2, 3 clients in time, of which one dies: what is free is taken, and no client waits for more than 10 ticks",
    define: { ...threeInTime, LIMIT: 2, PAUSE: 0, FAULTS: 1 }
  },
  {
    name: "readers and writers, 2 clients that write, and read on without a gap: commands that come twice, late, or from a connection that was given up; exclusion",
    define: { ...two, LIMIT: 2, S0: 2, S1: 2, DOWNGRADE: 1, PASS: 0 }
  },
  {
    name: "readers and writers, a writer and 2 readers in time: exclusion, in order, and no client waits for more than 10 ticks",
    define: { ...threeInTime, LIMIT: 3, S0: 3, DOWNGRADE: 1, FAULTS: 0 }
  },
  {
    name: "quorum of three, 2 clients, commands that come late, and a node that comes back empty: one holder, in the order of the fencing tokens, and nothing is left behind",
    define: once,
    model: quorum
  },
  {
    name: "quorum of three, 2 clients of which one can stop for ever, commands that come late: the same",
    define: { ...once, EMPTY: 0, CRASHES: 1 },
    model: quorum
  },
  {
    name: "quorum of three, 2 clients of which one can stop for ever, and a node that comes back empty, in one run: the same",
    define: { ...once, CRASHES: 1 },
    model: quorum
  }
]

const planted = (name: string, BUG: string, define: Check["define"] = { N: 2 }): Check => ({
  name,
  define: { ...define, BUG }
})
const ofQuorum = (name: string, BUG: string, define: Check["define"] = {}): Check => ({
  name: `quorum: ${name}`,
  define: { ...once, EMPTY: 0, BUG, ...define },
  model: quorum
})
const waiting = { N: 2, ...timely, BOUND: 10 }
const places = { N: 2, ...place, ...timely, RESTART: 0, BOUND: 10 }

const mistakes: ReadonlyArray<Check> = [
  planted("validity is counted from the answer", "validFromAnswer"),
  planted("a grant is counted from its message", "validFromMessage"),
  planted("a grant is counted from a heartbeat that has no answer yet", "proofFromUnanswered"),
  planted("the message of an old grant is believed", "staleMessage"),
  planted("a waiter that is absent queues with the same token", "sameTokenAgain"),
  planted("a release does not check the token", "releaseUnchecked"),
  planted("a renewal does not check the token", "renewUnchecked"),
  planted("a late command shortens the ttl", "lateShortens", { N: 2, SHORT: 2, PASS: 0, TRY: 0 }),
  planted("a renewal shortens the ttl", "renewShortens", { N: 2, SHORT: 2, PASS: 1, TRY: 0 }),
  planted("a renewal leaves a ttl that is too long", "renewHealsNothing", { N: 2, BACK: 1 }),
  planted("a late pass forgets the longest ttl", "passForgetsLongest", back),
  planted("a renewal forgets to record a longer ttl", "renewForgetsLongest", back),
  planted("a late pass hands the lock over", "latePassServes"),
  planted("a late pass that kept the lock takes its place", "latePassPlaces", places),
  planted("a pass is told of another token, and its place stays", "lostPlaceStays", places),
  planted("who gives up behind a pass leaves its place", "leftPlaceStays", places),
  planted("the place of a pass overtakes those who wait", "placeOvertakes", places),
  planted("a pass is told of another token, and no release follows", "lostPassIsEnough", again),
  planted("a client without a place goes on with its heartbeats", "absentWaitsOn", waiting),
  planted("a heartbeat leaves a free key alone", "heartbeatLeavesFree", waiting),
  planted("a heartbeat does not claim its grant", "heartbeatClaimsNone", waiting),
  planted("semaphore: the count is read before it is changed", "countIsOld", {
    ...three,
    LIMIT: 2,
    S0: 2
  }),
  planted("semaphore: a release frees two", "releaseFreesTwo", { ...three, LIMIT: 2 }),
  planted("semaphore: an expired holder still counts", "expiredStays", {
    ...threeInTime,
    LIMIT: 2
  }),
  planted("semaphore: an expired holder is subtracted twice", "expiredTwice", {
    ...two,
    LIMIT: 2,
    S0: 2
  }),
  planted("semaphore: the holders' limits are forgotten", "limitForgotten", {
    ...two,
    LIMIT: 2,
    L1: 1
  }),
  planted("semaphore: what is small overtakes the first one", "smallOvertakes", {
    ...threeInTime,
    LIMIT: 2,
    S0: 2
  }),
  planted("semaphore: a newcomer overtakes those who wait", "newcomerOvertakes", {
    ...threeInTime,
    LIMIT: 2
  }),
  planted(
    "readers and writers: a reader joins others, though a writer waits",
    "newcomerOvertakes",
    {
      ...threeInTime,
      LIMIT: 3,
      S0: 3
    }
  ),
  planted("readers and writers: a writer overtakes", "writerOvertakes", {
    ...three,
    LIMIT: 3,
    S0: 3,
    S1: 3
  }),
  planted("readers and writers: to read on is to give back, and to take again", "downgradeGap", {
    ...three,
    LIMIT: 3,
    S0: 3,
    S1: 3,
    DOWNGRADE: 1
  }),
  planted("readers and writers: a late renewal makes a reader a writer again", "renewRaises", {
    ...two,
    LIMIT: 2,
    S0: 2,
    DOWNGRADE: 1,
    PASS: 0
  }),
  ofQuorum("the fencing token is not written back", "noWriteBack"),
  ofQuorum("a node that comes back empty votes at once", "noMarker", { EMPTY: 1 }),
  ofQuorum("a minority is enough", "minority"),
  ofQuorum("what is granted late is not given back", "lateStays"),
  ofQuorum("the clock of a node that comes back empty is behind", "0", { EMPTY: 1, CLOCKS: 0 })
]

const run = (cwd: string, command: string, args: ReadonlyArray<string>): string => {
  const { error, status, stderr, stdout } = spawnSync(command, args, {
    cwd,
    encoding: "utf8",
    maxBuffer: 1 << 28
  })
  if (error !== undefined || status !== 0) {
    throw new Error(
      `${command} ${args.join(" ")} failed: ${error?.message ?? ""}${stderr}${stdout.slice(-2_000)}`
    )
  }
  return stdout
}

const isThere = (command: string): boolean =>
  spawnSync(command, ["--version"], { stdio: "ignore" }).error === undefined

/** Spin, and the C compiler that it needs: a root user of a Debian gets them. */
const ensureTools = (): void => {
  const missing = ["spin", "cc"].filter((command) => !isThere(command))
  if (missing.length === 0) return
  if (process.getuid?.() === 0 && isThere("apt-get")) {
    console.log(`No ${missing.join(", no ")} found: installing with apt-get`)
    run("/", "apt-get", ["update", "-qq"])
    run("/", "apt-get", [
      "install",
      "-qq",
      "-y",
      "--no-install-recommends",
      "spin",
      "gcc",
      "libc6-dev"
    ])
    return
  }
  console.error(
    `${missing.join(" and ")} not found: install Spin and a C compiler (Debian: apt-get install spin gcc)`
  )
  process.exit(1)
}

const search = ({ define, model = protocol }: Check): Result => {
  const dir = mkdtempSync(join(tmpdir(), "lock-model-"))
  try {
    const world = Object.entries(define).map(([name, value]) => `-D${name}=${value}`)
    run(dir, "spin", ["-a", ...world, model])
    // without partial order reduction: every step here touches the server, or a clock
    run(dir, "cc", ["-w", "-O2", "-DSAFETY", "-DNOREDUCE", "-DMEMLIM=6000", "-o", "pan", "pan.c"])
    const output = run(dir, "./pan", ["-m4000000", "-w24"])
    const number = (pattern: RegExp) => Number(pattern.exec(output)?.[1] ?? Number.NaN)
    return {
      errors: number(/errors: (\d+)/),
      states: number(/([\d.e+]+) states, stored/),
      seconds: number(/elapsed time ([\d.e+-]+) seconds/),
      isWhole: !/max search depth too small|Search not completed|out of memory/.test(output)
    }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

const row = (cells: ReadonlyArray<string>): void => console.log(`| ${cells.join(" | ")} |`)

const report = (
  title: string,
  list: ReadonlyArray<Check>,
  verdict: (result: Result) => readonly [boolean, string]
): boolean => {
  row([title, "states", "seconds", ""])
  row(["---", "---:", "---:", "---"])
  const verdicts = list.map((check) => {
    const result = search(check)
    const [isGood, words] = verdict(result)
    row([check.name, result.states.toLocaleString("en"), result.seconds.toFixed(1), words])
    return isGood
  })
  console.log()
  return verdicts.every((isGood) => isGood)
}

ensureTools()
const lines = (file: string) => readFileSync(join(docs, file), "utf8").split("\n").length
console.log(
  `${lines("protocol.pml") + lines("holders.pml") + lines("quorum.pml")} lines of model\n`
)
const chosen = (list: ReadonlyArray<Check>) => list.filter(({ name }) => name.includes(values.only))

const hold = report("checked", chosen(checks), ({ errors, isWhole }) =>
  errors > 0
    ? [false, "FAILS"]
    : isWhole
      ? [true, "holds in every schedule"]
      : [false, "not searched to the end"]
)
const found = report("planted", chosen(mistakes), ({ errors }) =>
  errors > 0 ? [true, "found"] : [false, "NOT found"]
)
process.exit(hold && found ? 0 : 1)
