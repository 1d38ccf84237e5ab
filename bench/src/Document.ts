/** docs/benchmarks.md and its pictures, from a report. */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Prettier from "prettier"
import { budgetTable, whys } from "./Budgets.js"
import { patienceMillis } from "./Crew.js"
import * as Figures from "./Figures.js"
import { allCosts, costs, exponent, type Cost, type Line } from "./Growth.js"
import type { Held } from "./Held.js"
import type { Result, RowResult } from "./Measure.js"
import { plots, type Svg } from "./Plots.js"
import { isMeasured, number, rowsOf, time, versions, type Report } from "./Report.js"
import type { Group } from "./Row.js"
import type { Start } from "./StartUp.js"
import {
  complaintsOf,
  failoverTable,
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
  Figures.write(root, report)
  return [
    "docs/benchmarks.md",
    Figures.path,
    ...svgs.map(({ name }) => `docs/benchmarks/${name}.svg`)
  ]
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

It builds the library, installs the other libraries, starts a Redis server of its own, and writes this page. Compare the figures of one table with each other: as absolute times they say more about the machine than about the libraries.${
      report.form === "full"
        ? ""
        : " This is the short form. If a library was left out of a table to save time, a line below the table says so. `npm run bench -- --full` measures all libraries in all rows, and has some more rows."
    }`,
    `| | |
| --- | --- |
| processor | ${machine.cpu}, ${machine.cores} cores, shared by the server and the processes that make load |
| system | ${machine.platform}, Node.js ${machine.node}, ${machine.redis} without persistence, on the loopback interface |
| versions | ${[...versions(report)].map(([name, version]) => `${name} ${version}`).join(", ")} |
| rounds | ${rounds} of ${number(millis / 1_000)} s times the row's length |`,
    ...budgets(report),
    "## How it is measured",
    `- Each library works in processes of its own. Within a round the libraries are measured one after the other (A B C, A B C, …), so that a slow moment of the machine affects all of them. A figure is the median of the rounds; the least and the most are in parentheses. Ratios are of two figures of the same round.
- A cycle is: ask for the lock, get it, do the work, give it back. Cycles that end within the round are counted. Callers that wait at its end may finish within ${patienceMillis / 1_000} s, and their waits are counted, too. Callers that have not finished by then are stopped, and the table shows what they have done until then.
- Before a process is measured, it warms up for ${number(warmUpMillis / 1_000)} s in all, in this row and in those before it (for a fifth of that in the check and over a slow network). Code that has just been loaded is slow: libraries that run much JavaScript per cycle, such as effect-redis-lock and redlock-universal, take two to four times as much processor time in their first second as later. V8 goes on optimising after the warm-up, too.
- Leases last ${number(ttlMillis / 1_000)} s. Libraries that poll sleep ${least} to ${most} ms between two tries (${(least + most) / 2} ms if no jitter can be set). This is shorter than the default of each of them, and to their advantage. Waits have no limit of time or tries.
- *raw* is the lock that people write by hand: \`SET key token NX PX ttl\`, and a script that deletes the key if the token is still there; one connection, nothing else. It does not renew (except in the section on held leases) and keeps no order.
- *CPU* is \`process.cpuUsage\` of the processes that make load, garbage collection included, and \`used_cpu_*\` of the server. *requests* is how many commands the clients send per cycle, counted by MONITOR in a round of its own; a script call with several locks in it is one request. *commands* is how many commands the server executes, those inside of scripts included (\`INFO commandstats\`). *bytes* are those in both directions. *connections* are those of one process.
- *wait* is the time from the request for the lock to the first line of work under it. *turns of a caller* shows the turns in a round of the caller with the fewest and of the caller with the most.
- Every row checks whether critical sections overlap: within a process by a counter per key, between processes by the machine's monotonic clock. An overlap is listed below the table.
- In the pictures this library is blue, locks written by hand are black, and libraries from npm are brown. In the tables "max" is the largest value of all rounds.`,
    ...setUps(report),
    ...section(
      "check",
      "Are they locks?",
      "Each caller reads a counter from Redis under the lock, and writes it back plus one. If updates are lost, two callers had the lock at a time. *no lock* shows that the check finds this."
    ),
    ...section(
      "free",
      "Free locks",
      "No caller waits for another. This is what a lock costs that no one else needs."
    ),
    ...section(
      "permits",
      "Free semaphores",
      "The same with semaphores whose limit is 10. No caller waits for another. The lock of the same library is here to compare with."
    ),
    ...section(
      "several",
      "Four keys at once",
      "`MultiLock.withLocks` of four keys that no other caller wants, and for comparison one lock. The four travel in one request, so with one caller the difference is what four scripts cost server and client; with many callers it is throughput."
    ),
    ...section(
      "readers",
      "Readers of one key",
      "64 callers of one process, all of which read the same key with a read-write lock that nobody writes, and for comparison 64 callers that have a lock each which no one else needs. Readers of a process share what it has got from Redis."
    ),
    ...section(
      "readWrite",
      "Readers and a few writers",
      "All callers use the same key, every hundredth turn of a process writes, and the work is one suspension. A read-write lock lets the readers in together; with a lock, each turn is alone. *writer's wait* is that of the turns that write; for the lock these are all. That who writes is alone is checked afterwards, by the machine's monotonic clock."
    ),
    ...section(
      "hot",
      "One hot key",
      "All callers lock the same key, and the work under the lock is one suspension. It shows how soon the next caller starts, how long the longest waits are, and how many requests a waiting caller sends."
    ),
    ...section(
      "semaphore",
      "One semaphore",
      "All callers want one of ten permits of the same key, and the work is one suspension. That there are never more than ten is checked by a count in each process, and between processes by the machine's monotonic clock."
    ),
    ...section(
      "many",
      "Ten keys, a thousand callers",
      "For each turn, a caller chooses one of ten keys at random, the n-th key 1/n as often as the first (Zipf). So a third of all turns are for one key."
    ),
    ...section(
      "handoff",
      "Handoff between two processes",
      "Two processes take turns. Each holds the lock for 2 ms, so that the other one is waiting when it is released. The time is from the last line under the lock in one process to the first line in the other. *echo* is not a lock: it is two such processes with a PUBLISH and a subscriber each, and its time is from the call to the message. A lock that tells the next holder by a message cannot be faster. `cycles/s` includes the 2 ms."
    ),
    ...heldSection(report),
    ...queueSection(report),
    ...section(
      "holders",
      "A semaphore with many holders",
      "Holders and waiters are simulated, by the scripts that they would send. In each cycle a holder gives its permit back, which goes to the first in the queue, a new one comes to its end, and a holder renews. *longest call* is the longest time for which one script kept the server from everything else, in all rounds."
    ),
    ...section(
      "slow",
      "A slow network",
      `A process between the clients and the server adds a delay in each direction; the title of each table says how much. The process itself takes some time, too, so the time of a PING was measured: ${pings(report)}. *round trips* is the time of a cycle divided by the time of a PING. It is the cycle of one caller if each caller has a key of its own, and the time per cycle of all callers if they share a key.`
    ),
    ...startSection(report),
    ...failoverSection(report),
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
    "## Limits, and what was measured",
    `These limits were set before the library was written. In this run ${table.rows.length - missed} of ${table.rows.length} are kept${missed === 0 ? "" : `, ${missed} ${missed === 1 ? "is" : "are"} not`}.`,
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
    `One process takes many leases with a ttl of ${held.ttlMillis / 1_000} s, each on a key of its own, and keeps them. Here, *raw* is the loop with a \`setInterval\` per lease that renews it. The figures are of the ${number(held.watchedMillis / 1_000)} s after the last lease was taken${form === "full" ? "" : ". All processes run at the same time, each with a server of its own"}. Some libraries renew at the very end of the ttl: once in the time in which others renew two or three times. *KB each* is how much larger the heap is after a garbage collection, per lease. *fibers* are the fibers in the heap at that time, including ended ones that are still referenced. *lost* counts leases whose key was gone at the end, or which the library itself gave up. redlock does not renew: it is here to show that a loss is found.`,
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
            `${other.contender} needs less ${list(facts)}.${butLess(other.about?.leavesOut.replace(other.contender === "raw" ? "no renewal, " : "", ""))}`
          ]
    })

const butLess = (leavesOut: string | undefined): string =>
  leavesOut ? ` But it does less: ${leavesOut}.` : ""

const queueSection = (report: Report): ReadonlyArray<string> => {
  const [byHand, stores] = [rowsOf(report, "queue"), rowsOf(report, "stores")]
  return [
    ...(byHand.length + stores.length === 0
      ? []
      : [
          "## The queue in Redis",
          "A process has one place in the queue of a key, however many of its fibers wait. So a long queue means many processes. Most of them are simulated here, by the scripts that they would send."
        ]),
    ...(byHand.length === 0
      ? []
      : [
          "### All waiters simulated",
          "On one connection, the holder sends its release, and takes a new place at the end of the queue. On another, the message to the first in the queue is awaited. This is what the queue itself costs: a handoff, and the new place.",
          markdown(seriesTable(byHand)),
          ...notes(byHand.flatMap(complaintsOf))
        ]),
    ...(stores.length === 0
      ? []
      : [
          "### Stores of the library, and simulated waiters behind them",
          "Ten stores of one process, with connections of their own, have the first places in the queue; the simulated waiters are behind them. The time is from the last line under the lock in one store to the first line in the next.",
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
        `A program loads the library, connects, and takes one lock. *import* is the time from its first line to the end of the imports (the client's included), *first lock* the time to the first line under the lock. Each figure is the median of ${startUp.rounds} starts; the programs were started in turns, with the files in the cache of the disk. Sizes are those of the package alone, from \`npm pack\`. effect-redis-lock also needs effect, ioredis, and, for \`HttpLock\` only, @effect/platform.`,
        markdown(startTable(startUp)),
        ...notes([...startComplaintsOf(startUp), ...startRemarks(startUp.results)])
      ]

const failoverSection = ({ failover }: Report): ReadonlyArray<string> =>
  failover === undefined
    ? []
    : [
        "## After a failover",
        `A master behind three Sentinels (\`down-after-milliseconds ${failover.downAfterMillis}\`) is killed, and its replica takes over: the first line is the time from the death to the Sentinels' message \`+switch-master\`. The others are the times from that message to the next grant. *Who waited* stood in the queue for a lock whose holder released it when the master died: the grant needs the release to reach the new master, and a message from there. *Who came* asked for a free lock when the master had died, and tried again after each error (as did who waited, if the failover took so long that the wait failed). *raw* is a loop around \`SET NX\` on an ioredis client. All take part in the same failovers; each figure is the median of ${failover.rounds}, with the least and the most.`,
        markdown(failoverTable(failover))
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
          `${list(sooner.map(({ lockedMillis, who }) => `${who} (${time(lockedMillis!.median)})`))} ${sooner.length === 1 ? "takes" : "take"} the first lock sooner than effect-redis-lock (${time(locked)}).`
        ]),
    ...(effect === undefined || ioredis === undefined
      ? []
      : [
          `A program that uses ioredis and Effect anyway has loaded them already: ioredis alone takes ${time(ioredis.importMillis.median)}, all of Effect takes ${time(effect.importMillis.median)}, and effect-redis-lock with the parts of both that it needs takes ${time(mine.importMillis.median)}.`
        ])
  ]
}

const growthSection = (report: Report, pictures: ReadonlyArray<string>): ReadonlyArray<string> => {
  const shown = allCosts.filter((cost) => costs(report, cost).length > 0)
  return shown.length === 0
    ? []
    : [
        "## Growth",
        "These pictures show the cost of one piece of work as the amount of work grows. Both axes have a log scale. If the line is level, the whole cost grows in proportion to the size; if it falls, pieces share work. *exponent* is the slope: the cost of one piece grows as the size to that power. With 0 the whole cost is linear, with 1 it is quadratic.",
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
  if (!/^(effect-redis-lock|queue|semaphore by hand)/.test(contender)) return []
  const [first, last] = [points[0]!, points.at(-1)!]
  const sizes = `From ${first.size.toLocaleString("en-US")} to ${last.size.toLocaleString("en-US")} ${of}`
  const factor = last.value / first.value
  const log = Math.log2(last.size + 1) / Math.log2(first.size + 1)
  const power = exponent(points)
  const verdict =
    power <= flat
      ? "the whole cost grows no faster than in proportion"
      : factor <= log
        ? `no more than the logarithm of the size, which becomes ${number(log)} × as much`
        : "**the whole cost grows faster than in proportion**"
  return [
    `${contender}: ${sizes}, the cost of one becomes ${number(factor)} × as much (${number(Math.max(...points.map(({ value }) => value)) / first.value)} × at the most expensive size): ${verdict}.`
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
    `| | set up | what it does not do, and effect-redis-lock does |
| --- | --- | --- |
${lines.join("\n")}`
  ]
}

/** If another library does better, this says so, and why. */
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

/** What none of them does, and that there is more for some. */
const doLess = (others: ReadonlyArray<Result>): string => {
  const each = others.map(({ about }) => about?.leavesOut.split(/[,;] /) ?? [])
  const all = each[0]?.filter((it) => each.every((left) => left.includes(it))) ?? []
  const rest = each.some((left) => left.length > all.length)
  const who = others.length === 1 ? "It does" : "They do"
  return `${who} less: ${all.join(", ") || "see the table of set-ups"}${rest && all.length > 0 ? "; the table of set-ups says what else each of them does not do" : ""}.`
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
      "There, a caller that has just released the lock can take it again before any other caller asks, without a message to another process.",
      patient.length === 0
        ? undefined
        : `Those that sleep between two tries have some much longer waits${lucky.length === 0 ? "" : ` (${list(patient.map(({ contender }) => contender))})`}: ${figures(patient)}.`,
      lucky.length === 0
        ? undefined
        : `Under this load no caller waits longer than with effect-redis-lock${patient.length === 0 ? "" : ` (${list(lucky.map(({ contender }) => contender))})`}: ${figures(lucky)}.`
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
          )} % of the turns are followed by another turn of the same process, while the other process waits or sleeps. The 99th percentile of the waits is ${span(keeping, ({ wait }) => wait.p99.median, time)} (ours ${time(ours.wait.p99.median)}).${polling.length === 0 ? "" : ` For those that poll (${list(polling.map(({ contender }) => contender))}), the time in the table is only of tries that happened to come in the short time in which the key was free.`}`
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
  permits: faster,
  hot: sooner,
  semaphore: sooner,
  many: sooner,
  handoff: handedOver
}
