/** docs/benchmarks.md and its pictures, from a report. */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Prettier from "prettier"
import { budgetTable, whys } from "./Budgets.js"
import { patienceMillis } from "./Crew.js"
import { allCosts, costs, exponent, type Cost, type Line } from "./Growth.js"
import type { Held } from "./Held.js"
import type { Result, RowResult } from "./Measure.js"
import { plots, type Svg } from "./Plots.js"
import { isMeasured, number, rowsOf, time, versions, type Report } from "./Report.js"
import type { Group } from "./Row.js"
import type { Start } from "./StartUp.js"
import {
  complaintsOf,
  growthTable,
  heldComplaintsOf,
  heldTable,
  markdown,
  seriesTable,
  startComplaintsOf,
  startTable,
  tableOf
} from "./Tables.js"

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
  const pictures = (group: Group) =>
    svgs
      .filter((svg) => svg.group === group)
      .map(({ alt, name }) => `![${alt}](benchmarks/${name}.svg)`)
  const section = (group: Group, title: string, ...about: ReadonlyArray<string>) => {
    const rows = rowsOf(report, group)
    return rows.length === 0
      ? []
      : [
          `## ${title}`,
          ...about,
          ...pictures(group),
          ...rows.flatMap((row) => [
            `### ${row.row.title}`,
            markdown(tableOf(row)),
            ...notes([...fewer(row, rounds), ...complaintsOf(row), ...remarks(row)])
          ])
        ]
  }
  const { machine, millis, pollMillis, rounds, ttlMillis, warmUpMillis } = report
  const [least, most] = pollMillis
  return [
    "# Benchmarks",
    `Every figure below comes from one run of

\`\`\`sh
npm run bench${report.form === "full" ? " -- --full" : ""}
\`\`\`

which builds the library, installs the others beside it, starts a Redis server of its own, and writes this page. Compare what stands side by side; as absolute times the figures say more about the machine than about the libraries.${
      report.form === "full"
        ? ""
        : " This is the short form: where someone was left out to save time, it is said below the table, and `npm run bench -- --full` measures everyone in everything, and some rows that are not here."
    }`,
    `| | |
| --- | --- |
| processor | ${machine.cpu}, ${machine.cores} cores, shared by the server and everyone who makes load |
| system | ${machine.platform}, Node.js ${machine.node}, ${machine.redis} without persistence, on the loopback interface |
| versions | ${[...versions(report)].map(([name, version]) => `${name} ${version}`).join(", ")} |
| rounds | ${rounds} of ${number(millis / 1_000)} s times the row's length |`,
    ...budgets(report),
    "## How it is measured",
    `- Everyone works in processes of their own, one after the other within each round (A B C, A B C, …), so that a slow moment of the machine hits all. A figure is the median of the rounds; in parentheses are the least and the most. Ratios are taken within a round.
- A cycle is: ask for the lock, get it, do the work, give it back. Cycles that end within the round count; those who wait at its end may finish, within ${patienceMillis / 1_000} s, and their waits count, too. Who has not finished by then is stopped, and the table shows what was reached.
- Before a process is measured it has worked for ${number(warmUpMillis / 1_000)} s (for a fifth of that in the check and over a slow network), in this row and in those before it. Code that has just been loaded is slow: in its first second, who runs much JavaScript per cycle, as effect-redis-lock and redlock-universal do, takes two to four times the processor time that it takes later; V8 goes on optimising for longer than the warm-up, too.
- Leases last ${number(ttlMillis / 1_000)} s. Who polls sleeps ${least} to ${most} ms between two tries (${(least + most) / 2} ms where no jitter can be set): shorter than any of these libraries does by itself, to their advantage. Waiting has no limit of time or tries.
- *raw* is the lock that people write by hand: \`SET key token NX PX ttl\`, and a script that deletes the key if the token is still there; one connection, nothing else. It renews nothing (but where leases are held, below) and keeps no order.
- CPU is \`process.cpuUsage\` of the processes that make load, garbage collection included, and \`used_cpu_*\` of the server. *requests* are what clients send, per cycle (a script call with several locks in it is one), counted by MONITOR in a round of its own; *commands* are what the server does, inside of scripts included (\`INFO commandstats\`); *bytes* are both ways; *connections* are those of one process.
- *wait* is the time from asking to the first line under the lock. *turns of a caller* are those of the caller that had the fewest and of the one that had the most in a round.
- Everybody's critical sections are compared in every row, within a process by a counter per key, between processes by the machine's monotonic clock: an overlap would be listed below the table.
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
      "many",
      "Ten keys, a thousand callers",
      "Each turn of a caller is for one of ten keys, drawn so that the n-th is wanted 1/n as often as the first (Zipf): a third of all turns are for one key."
    ),
    ...section(
      "handoff",
      "Handoff between two processes",
      "Two processes take turns, and each holds the lock for 2 ms, so that the other one is waiting by then. The time is from the last line under the lock in one process to the first line in the other. *echo* is no lock: the same two processes, with a PUBLISH and a subscriber each, from the call to the message; no lock that tells the next holder by a message can be faster. `cycles/s` includes the 2 ms."
    ),
    ...heldSection(report),
    ...queueSection(report),
    ...section(
      "slow",
      "A slow network",
      `A process between clients and server makes the way longer, by as much in each direction as is said above each table; it adds some time of its own, so the time of a PING was measured as well: ${pings(report)}. *round trips* are how often that time passes in a cycle: of one caller where each has a key of its own, and of all of them where they share one.`
    ),
    ...startSection(report),
    ...growthSection(report, pictures("growth"))
  ].join("\n\n")
}

const notes = (lines: ReadonlyArray<string>): ReadonlyArray<string> =>
  lines.length === 0 ? [] : [lines.map((line) => `- ${line}`).join("\n")]

const list = (names: ReadonlyArray<string>): string =>
  names.length < 2 ? names.join() : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`

/** What the short form leaves out. */
const fewer = (
  { results, row: { group, leftOut = [] } }: RowResult,
  rounds: number
): ReadonlyArray<string> => {
  const most = Math.max(...results.map((result) => result.rounds))
  return [
    ...(group === "check" || most >= rounds
      ? []
      : [`${most === 1 ? "One round" : `${most} rounds`} only, where others have ${rounds}.`]),
    ...(leftOut.length === 0 ? [] : [`Not in the short form: ${list(leftOut)}.`])
  ]
}

const budgets = (report: Report): ReadonlyArray<string> => {
  const table = budgetTable(report)
  const missed = table.rows.filter((row) => row.at(-1) !== "yes").length
  if (table.rows.length === 0) return []
  return [
    "## What is wanted, and what was measured",
    `The library was written to limits that were set beforehand. In this run ${table.rows.length - missed} of ${table.rows.length} are kept${missed === 0 ? "" : `, ${missed} ${missed === 1 ? "is" : "are"} not`}.`,
    markdown(table),
    ...notes(whys(report))
  ]
}

const heldSection = ({ form, held }: Report): ReadonlyArray<string> => {
  if (held === undefined) return []
  const largest = Math.max(...held.results.map(({ leases }) => leases))
  const mine = held.results.find(
    ({ contender, leases }) => contender === "effect-redis-lock" && leases === largest
  )
  return [
    "## Leases held",
    `One process takes many leases with a ttl of ${held.ttlMillis / 1_000} s, each on a key of its own, and keeps them; here *raw* is the loop with a \`setInterval\` per lease that renews. What is shown was seen in the ${number(held.watchedMillis / 1_000)} s after the last one was taken${form === "full" ? "" : ", by all processes at the same time, each with a server of its own"}; some libraries renew at the very end of the ttl, once in the time in which others renew twice or three times. *KB each* is what the heap has more after a garbage collection, per lease; *fibers* are those that are in the heap then, with ended ones that something still refers to. *lost* are leases whose key was gone at the end, or that the library itself gave up. redlock renews nothing: it is here to show that a loss is found.`,
    markdown(heldTable(held)),
    ...notes([
      ...heldComplaintsOf(held),
      ...(mine === undefined ? [] : heldRemarks(held.results, mine))
    ])
  ]
}

const heldRemarks = (all: ReadonlyArray<Held>, mine: Held): ReadonlyArray<string> =>
  all
    .filter(
      ({ contender, leases, problem }) =>
        leases === mine.leases && problem === undefined && contender !== mine.contender
    )
    .flatMap((other) => {
      const less = (title: string, of: (held: Held) => number) => {
        const factor = of(mine) / of(other)
        return factor < noticeable ? undefined : `${title} (ours: ${number(factor)} ×)`
      }
      const facts = [
        less("memory", ({ bytesPerLease }) => bytesPerLease.median),
        less("CPU", ({ cpuPercent }) => cpuPercent.median),
        less("commands", ({ commandsPerSecond }) => commandsPerSecond.median)
      ].filter((it) => it !== undefined)
      return facts.length === 0
        ? []
        : [
            `${other.contender} needs less ${list(facts)}. It does less: ${other.about?.leavesOut.replace(other.contender === "raw" ? "no renewal, " : "", "")}.`
          ]
    })

const queueSection = (report: Report): ReadonlyArray<string> => {
  const [byHand, stores] = [rowsOf(report, "queue"), rowsOf(report, "stores")]
  return [
    ...(byHand.length + stores.length === 0
      ? []
      : [
          "## The queue in Redis",
          "A process has one place in the queue of a key, however many of its fibers wait, so a long queue means as many processes. Most of them are played here, by the scripts that they would send."
        ]),
    ...(byHand.length === 0
      ? []
      : [
          "### All waiters by hand",
          "The holder's release and its new place at the end of the queue are sent on one connection, and the message to the first in the queue is awaited on another: what the queue itself costs, per handoff with the place that is taken behind it.",
          markdown(seriesTable(byHand)),
          ...notes(byHand.flatMap(complaintsOf))
        ]),
    ...(stores.length === 0
      ? []
      : [
          "### Stores of the library, and others behind them",
          "Ten stores of one process, with connections of their own, stand at the head of the queue, and the others behind them. The time is from the last line under the lock in one store to the first line in the next.",
          markdown(seriesTable(stores)),
          ...notes(stores.flatMap(complaintsOf))
        ])
  ]
}

const pings = (report: Report): string =>
  list([
    ...new Set(
      rowsOf(report, "slow").map(
        ({ pingMillis, row }) => `${time(pingMillis)} with ${row.oneWayMillis} ms more each way`
      )
    )
  ])

const startSection = ({ startUp }: Report): ReadonlyArray<string> =>
  startUp === undefined
    ? []
    : [
        "## Start-up",
        `A program that loads the library, connects, and takes one lock: the time from its first line to the end of the imports (the client's included), and to the first line under the lock. Medians of ${startUp.rounds} starts each, one after the other in turns, with the files in the disk's cache. Sizes are those of the package alone, as \`npm pack\` says; effect-redis-lock wants effect, @effect/platform (which it loads for \`HttpLock\` only) and ioredis beside it.`,
        markdown(startTable(startUp)),
        ...notes([...startComplaintsOf(startUp), ...startRemarks(startUp.results)])
      ]

const startRemarks = (all: ReadonlyArray<Start>): ReadonlyArray<string> => {
  const of = (name: string) => all.find(({ who }) => who === name)
  const [mine, effect, ioredis] = ["effect-redis-lock", "effect", "ioredis"].map(of)
  if (mine?.lockedMillis === undefined) return []
  const locked = mine.lockedMillis.median
  const sooner = all.filter(
    ({ lockedMillis }) => lockedMillis !== undefined && lockedMillis.median * noticeable < locked
  )
  return [
    ...(sooner.length === 0
      ? []
      : [
          `${list(sooner.map(({ lockedMillis, who }) => `${who} (${time(lockedMillis!.median)})`))} ${sooner.length === 1 ? "has" : "have"} the first lock sooner than effect-redis-lock (${time(locked)}).`
        ]),
    ...(effect === undefined || ioredis === undefined
      ? []
      : [
          `A program that uses both has paid for them already: ioredis alone is loaded in ${time(ioredis.importMillis.median)}, all of Effect in ${time(effect.importMillis.median)} (effect-redis-lock with the parts that it needs in ${time(mine.importMillis.median)}).`
        ])
  ]
}

const growthSection = (report: Report, pictures: ReadonlyArray<string>): ReadonlyArray<string> => {
  const shown = allCosts.filter((cost) => costs(report, cost).length > 0)
  return shown.length === 0
    ? []
    : [
        "## Growth",
        "What one piece of the work costs as there is more of it, with both axes on a log scale: a level line is work that grows in proportion, a falling one is work that is shared. *exponent* is the slope: the cost of one piece grows as the size to that power, 0 is linear in all, 1 is quadratic.",
        ...shown.flatMap((cost) => [
          `### ${cost.title}`,
          ...pictures.filter((picture) => picture.includes(`/${cost.name}.svg`)),
          `${cost.label}, by the number of ${cost.of}:`,
          markdown(growthTable(report, cost)),
          ...notes(costs(report, cost).flatMap((line) => growthRemark(cost, line)))
        ])
      ]
}

/** Beyond this exponent a cost is said to grow with the size. */
const flat = 0.1

const growthRemark = ({ of }: Cost, { contender, points }: Line): ReadonlyArray<string> => {
  if (!/^(effect-redis-lock|queue)/.test(contender)) return []
  const [first, last] = [points[0]!, points.at(-1)!]
  const sizes = `From ${first.size.toLocaleString("en-US")} to ${last.size.toLocaleString("en-US")} ${of}`
  const factor = last.value / first.value
  const log = Math.log2(last.size + 1) / Math.log2(first.size + 1)
  const power = exponent(points)
  const verdict =
    power <= flat
      ? "the whole grows no faster than in proportion"
      : factor <= log
        ? `no more than the logarithm, which grows ${number(log)} ×`
        : "**the whole grows faster than in proportion**"
  return [
    `${contender}: ${sizes} the cost of one is ${number(factor)} × what it was (the dearest of all sizes ${number(Math.max(...points.map(({ value }) => value)) / first.value)} ×): ${verdict}.`
  ]
}

const setUps = (report: Report): ReadonlyArray<string> => {
  const known = new Map(
    report.rows
      .flatMap(({ results }) => results)
      .map(({ about, contender, problem }) => [contender, about ?? problem] as const)
  )
  if (known.size === 0) return []
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
  const say = remark[row.group]
  if (ours === undefined || say === undefined) return []
  const others = measured.filter(({ contender }) => !contender.startsWith("effect-redis-lock"))
  return say(others, ours)
}

/** Less than this is noise. */
const noticeable = 1.05

type Remark = (others: ReadonlyArray<Result>, ours: Result) => ReadonlyArray<string>

const factorOf = (other: Result, ours: Result): number =>
  other.cyclesPerSecond.median / ours.cyclesPerSecond.median

const named = (others: ReadonlyArray<Result>, figure: (other: Result) => string): string =>
  list(others.map((other) => `${other.contender} (${figure(other)})`))

/** What all of them leave out, and what only some do. */
const doLess = (others: ReadonlyArray<Result>): string => {
  const each = others.map(({ about }) => about?.leavesOut.split(/[,;] /) ?? [])
  const all = each[0]?.filter((it) => each.every((left) => left.includes(it))) ?? []
  const rest = each.some((left) => left.length > all.length)
  const who = others.length === 1 ? "It does" : "They do"
  return `${who} less: ${all.join(", ") || "each something else"}${rest && all.length > 0 ? ", and what else is said for each where it is set up" : ""}.`
}

const faster: Remark = (others, ours) => {
  const those = others.filter((other) => factorOf(other, ours) >= noticeable)
  return those.length === 0
    ? []
    : [
        `Faster than effect-redis-lock here: ${named(those, (other) => `${number(factorOf(other, ours))} ×`)}. ${doLess(those)}`
      ]
}

const span = (
  results: ReadonlyArray<Result>,
  of: (result: Result) => number,
  format: (value: number) => string
): string => {
  const values = results.map(of)
  const [least, most] = [Math.min(...values), Math.max(...values)].map(format)
  return least === most ? least! : `${least} to ${most}`
}

const sooner: Remark = (others, ours) => {
  const more = others.filter((other) => factorOf(other, ours) >= noticeable)
  const before = others.filter(
    ({ wait }) => wait.p50.median * noticeable < ours.wait.p50.median && wait.p50.median > 0
  )
  const those = others.filter((other) => more.includes(other) || before.includes(other))
  if (those.length === 0) return []
  const isPatient = ({ wait }: Result) => wait.p99.median > ours.wait.p99.median * noticeable
  const [patient, lucky] = [those.filter(isPatient), those.filter((it) => !isPatient(it))]
  const figures = (results: ReadonlyArray<Result>) =>
    `the 99th percentile of their waits is ${span(results, ({ wait }) => wait.p99.median, time)} (ours ${time(ours.wait.p99.median)}), a caller has ${number(Math.min(...results.map(({ fewest }) => fewest.median)))} to ${number(Math.max(...results.map(({ most }) => most.median)))} turns in a round (ours ${number(ours.fewest.median)} to ${number(ours.most.median)}), and a cycle takes ${span(results, ({ requests }) => requests, number)} requests (ours ${number(ours.requests)})`
  return [
    [
      more.length === 0
        ? undefined
        : `More cycles than effect-redis-lock: ${named(more, (other) => `${number(factorOf(other, ours))} ×`)}.`,
      before.length === 0
        ? undefined
        : `A shorter median wait (ours ${time(ours.wait.p50.median)}): ${named(before, ({ wait }) => time(wait.p50.median))}.`,
      "Whoever has just had the lock can take it again there before anyone else looks, without a message to another process.",
      patient.length === 0
        ? undefined
        : `Where they sleep between two tries, the price is in the tail${lucky.length === 0 ? "" : ` (${list(patient.map(({ contender }) => contender))})`}: ${figures(patient)}.`,
      lucky.length === 0
        ? undefined
        : `Under this load nobody waits longer for it than with effect-redis-lock${patient.length === 0 ? "" : ` (${list(lucky.map(({ contender }) => contender))})`}: ${figures(lucky)}.`
    ]
      .filter((it) => it !== undefined)
      .join(" ")
  ]
}

const handedOver: Remark = (others, ours) => {
  const locks = others.filter(
    ({ contender, handoff }) => contender !== "echo" && handoff !== undefined
  )
  const keeping = locks.filter(({ changes }) => changes.median < 0.9)
  const polling = keeping.filter(({ about }) => about?.setUp.includes("polls"))
  const quick = locks.filter(
    (other) =>
      !keeping.includes(other) &&
      other.handoff!.p50.median * noticeable < (ours.handoff?.p50.median ?? 0)
  )
  return [
    ...(keeping.length === 0
      ? []
      : [
          `With ${list(keeping.map(({ contender }) => contender))}, ${span(
            keeping,
            ({ changes }) => 100 * (1 - changes.median),
            (share) => String(Math.round(share))
          )} % of the turns are followed by another one of the same process, while the other process waits or sleeps: the 99th percentile of the waits is ${span(keeping, ({ wait }) => wait.p99.median, time)} (ours ${time(ours.wait.p99.median)}).${polling.length === 0 ? "" : ` The time above of those that poll (${list(polling.map(({ contender }) => contender))}) is only of tries that happened to fall into the short while in which the key was free.`}`
        ]),
    ...(quick.length === 0
      ? []
      : [
          `Faster than effect-redis-lock: ${named(quick, ({ handoff }) => time(handoff!.p50.median))}. ${doLess(quick)}`
        ])
  ]
}

const remark: Partial<Record<Group, Remark>> = {
  free: faster,
  slow: faster,
  hot: sooner,
  many: sooner,
  handoff: handedOver
}
