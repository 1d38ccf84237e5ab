/** docs/benchmarks.md and its pictures, from a report. */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Prettier from "prettier"
import type { Result, RowResult } from "./Measure.js"
import { plots, type Svg } from "./Plots.js"
import { isMeasured, number, rowsOf, time, versions, type Report } from "./Report.js"
import type { Group } from "./Row.js"
import { complaintsOf, markdown } from "./Tables.js"

/** Gives the names of the files that it wrote. */
export const write = async (root: string, report: Report): Promise<ReadonlyArray<string>> => {
  const svgs = plots(report)
  const directory = join(root, "docs/benchmarks")
  mkdirSync(directory, { recursive: true })
  for (const name of readdirSync(directory))
    if (name.endsWith(".svg")) rmSync(join(directory, name))
  for (const { name, text } of svgs) writeFileSync(join(directory, `${name}.svg`), text)
  const path = join(root, "docs/benchmarks.md")
  const config = await Prettier.resolveConfig(path)
  writeFileSync(path, await Prettier.format(text(report, svgs), { ...config, parser: "markdown" }))
  return ["docs/benchmarks.md", ...svgs.map(({ name }) => `docs/benchmarks/${name}.svg`)]
}

const text = (report: Report, svgs: ReadonlyArray<Svg>): string => {
  const section = (group: Group, title: string, ...about: ReadonlyArray<string>) => {
    const rows = rowsOf(report, group)
    return rows.length === 0
      ? []
      : [
          `## ${title}`,
          ...about,
          ...svgs
            .filter((svg) => svg.group === group)
            .map(({ alt, name }) => `![${alt}](benchmarks/${name}.svg)`),
          ...rows.flatMap((row) => [
            `### ${row.row.title}`,
            markdown(row),
            ...complaintsOf(row).map((complaint) => `- ${complaint}`),
            ...remarks(row)
          ])
        ]
  }
  const { machine, millis, pollMillis, rounds, ttlMillis } = report
  const [least, most] = pollMillis
  return [
    "# Benchmarks",
    `Every figure below comes from one run of

\`\`\`sh
npm run bench${report.form === "full" ? " -- --full" : ""}
\`\`\`

which builds the library, installs the others beside it, starts a Redis server of its own, and writes this page. Compare what stands side by side; as absolute times the figures say more about the machine than about the libraries.`,
    `| | |
| --- | --- |
| processor | ${machine.cpu}, ${machine.cores} cores, shared by the server and everyone who makes load |
| system | ${machine.platform}, Node.js ${machine.node}, Redis ${machine.redis} without persistence, on the loopback interface |
| versions | ${[...versions(report)].map(([name, version]) => `${name} ${version}`).join(", ")} |
| rounds | ${rounds} of ${number(millis / 1_000)} s times the row's length, after one to warm up |`,
    "## How it is measured",
    `- Everyone works in processes of their own, one after the other within each round (A B C, A B C, …), so that a slow moment of the machine hits all. A figure is the median of the rounds; in parentheses are the least and the most. Ratios are taken within a round.
- A cycle is: ask for the lock, get it, do the work, give it back. Cycles that end within the round count; those who wait at its end may finish, and their waits count, too.
- Before the first round each process has done the same work for a while (1.4 s in the short form, 3 s with \`--full\`). V8 goes on optimising for longer than that: who runs much JavaScript per cycle, as effect-redis-lock and redlock-universal do, looks better in a process that has run for a minute.
- Leases last ${number(ttlMillis / 1_000)} s. Who polls sleeps ${least} to ${most} ms between two tries (${(least + most) / 2} ms where no jitter can be set): shorter than any of these libraries does by itself, to their advantage. Waiting has no limit of time or tries.
- *raw* is the lock that people write by hand: \`SET key token NX PX ttl\`, and a script that deletes the key if the token is still there; one connection, nothing else. It renews nothing and keeps no order.
- CPU is \`process.cpuUsage\` of the processes that make load, garbage collection included, and \`used_cpu_*\` of the server. *requests* are what clients send, per cycle (a script call with several locks in it is one), counted by MONITOR in a round of its own; *commands* are what the server does, inside of scripts included (\`INFO commandstats\`); *bytes* are both ways; *connections* are those of one process.
- *wait* is the time from asking to the first line under the lock. *turns of a caller* are those of the caller that had the fewest and of the one that had the most in a round.
- Everybody's critical sections are compared, within a process by a counter per key, between processes by the machine's monotonic clock: an overlap would be listed below the table.
- In the pictures this library is blue, what is written by hand black, and what comes from npm brown. In the tables "max" is the largest of all rounds.`,
    ...setUps(report),
    ...section(
      "check",
      "Are they locks?",
      "Each reads a counter from Redis under the lock and writes it back plus one. What is lost was done by two holders at a time. *no lock* shows that the check finds such."
    ),
    ...section(
      "free",
      "Free locks",
      "Nobody waits for anybody: what a lock costs that no one else wants."
    ),
    ...section(
      "hot",
      "One hot key",
      "All callers want the same key, and the work under it is one suspension. What counts here is how soon the next one starts, how long the unlucky wait, and how many requests the waiting costs."
    ),
    ...section(
      "handoff",
      "Handoff between two processes",
      "Two processes take turns, and each holds the lock for 2 ms, so that the other one is waiting by then. The time is from the last line under the lock in one process to the first line in the other. *echo* is no lock: the same two processes, with a PUBLISH and a subscriber each, from the call to the message; no lock that lives in Redis can be faster. `cycles/s` includes the 2 ms."
    )
  ].join("\n\n")
}

const setUps = (report: Report): ReadonlyArray<string> => {
  const known = new Map(
    report.rows
      .flatMap(({ results }) => results)
      .map(({ about, contender, problem }) => [contender, about ?? problem] as const)
  )
  const lines = [...known].map(([contender, about]) =>
    typeof about === "object"
      ? `| ${contender} | ${about.setUp} | ${about.leavesOut || "–"} |`
      : `| ${contender} | could not be started: ${about} | |`
  )
  return [
    `| | set up | leaves out, of what effect-redis-lock does |
| --- | --- | --- |
${lines.join("\n")}`
  ]
}

/** Where somebody else does better: it is said, and why. */
const remarks = ({ results, row }: RowResult): ReadonlyArray<string> => {
  const measured = results.filter(isMeasured)
  const ours = measured.find(({ contender }) => contender.startsWith("effect-redis-lock"))
  if (ours === undefined || row.group === "check") return []
  return measured
    .filter(({ contender }) => !contender.startsWith("effect-redis-lock"))
    .flatMap((other) => remark[row.group as keyof typeof remark](other, ours) ?? [])
    .map((text) => `- ${text}`)
}

/** Less than this is noise. */
const noticeable = 1.05

const remark = {
  free: (other: Result, ours: Result) => {
    const factor = other.cyclesPerSecond.median / ours.cyclesPerSecond.median
    return factor < noticeable
      ? undefined
      : `${other.contender} is ${number(factor)} × as fast as effect-redis-lock here. It does less: ${other.about?.leavesOut}.`
  },
  hot: (other: Result, ours: Result) => {
    const factor = other.cyclesPerSecond.median / ours.cyclesPerSecond.median
    const sooner = other.wait.p50.median * noticeable < ours.wait.p50.median
    if (factor < noticeable && !sooner) return undefined
    const facts = [
      factor < noticeable ? undefined : `${number(factor)} × as many cycles as effect-redis-lock`,
      sooner
        ? `a median wait of ${time(other.wait.p50.median)} (ours ${time(ours.wait.p50.median)})`
        : undefined
    ].filter((it) => it !== undefined)
    const seen = `a 99th percentile of ${time(other.wait.p99.median)} (ours ${time(ours.wait.p99.median)}), ${number(other.fewest.median)} to ${number(other.most.median)} turns in a round (ours ${number(ours.fewest.median)} to ${number(ours.most.median)}), and ${number(other.requests)} requests per cycle (ours ${number(ours.requests)})`
    const price =
      other.wait.p99.median > ours.wait.p99.median * noticeable
        ? `The price is paid by those who sleep between two tries: ${seen}.`
        : `Those who sleep between two tries do not wait longer than ours under this load: ${seen}.`
    return `${other.contender} has ${facts.join(" and ")}: whoever has just had the lock can take it again before anyone else looks, without a message to another process. ${price}`
  },
  handoff: (other: Result, ours: Result) => {
    if (other.contender === "echo" || other.handoff === undefined || ours.handoff === undefined) {
      return undefined
    }
    if (other.changes.median < 0.9) {
      return `${other.contender}: ${Math.round(100 * (1 - other.changes.median))} % of its turns are followed by another one of the same process, while the other process sleeps (the 99th percentile of its waits is ${time(other.wait.p99.median)}, of ours ${time(ours.wait.p99.median)}). Its time above is only of those tries that happened to fall into the short while in which the key was free.`
    }
    const factor = other.handoff.p50.median / ours.handoff.p50.median
    return factor * noticeable > 1
      ? undefined
      : `${other.contender} takes ${number(factor)} × our time. It does less: ${other.about?.leavesOut}.`
  }
}
