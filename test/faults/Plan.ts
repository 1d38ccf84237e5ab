/**
 * Which faults, when, to whom: a value that can be replayed. A random plan is made of its seed
 * alone; a scripted one puts a fault where it hurts.
 */
import { seeded } from "../redis/support.js"
import type { Latency } from "../support/FaultProxy.js"
import { type FaultName, faultNamed, faultNames, longestWay } from "./faults.js"
import type { Row } from "./Rows.js"

export interface Step {
  /** In milliseconds, from the beginning of the run. */
  readonly at: number
  readonly fault: FaultName
  /**
   * A slot, or whoever holds the hot key at that moment, in a section that is going to last for
   * longer than a ttl, or somebody else.
   */
  readonly target: number | "holder" | "another"
  /** In milliseconds; infinite: until all are through. */
  readonly for: number
}

export interface Plan {
  readonly name: string
  readonly seed: number
  readonly ttl: number
  /** How long the workload goes on, at least. */
  readonly millis: number
  readonly fibers: number
  /** Nobody gives up, everybody stays for a while: the order of service can be seen. */
  readonly patient: boolean
  /** Everybody takes the least that there is, within all of it: so the hot key is never free. */
  readonly alike: boolean
  /** The first process is never killed, so that its memory can be watched. */
  readonly sparesFirst: boolean
  /**
   * How long the way to the server is, from the start, where the row has proxies: of each process
   * in turn. None: as short as it is.
   */
  readonly links: ReadonlyArray<Latency>
  readonly steps: ReadonlyArray<Step>
}

/** The faults that a row can be given. */
export const faultsOf = ({ topology, without }: Row): ReadonlyArray<FaultName> =>
  faultNames.filter((name) => {
    const { in: rows, on } = faultNamed(name)
    return (
      !without.includes(name) &&
      rows?.includes(topology) !== false &&
      (on === "process" ||
        (on === "store" && topology !== "none") ||
        topology === "redis behind proxies")
    )
  })

export const linkOf = ({ links }: Plan, slot: number): Latency =>
  links[slot % Math.max(1, links.length)] ?? {}

const deaths: ReadonlySet<FaultName> = new Set<FaultName>([
  "connections lead nowhere",
  "idle connections lead nowhere"
])

/**
 * Whether nobody may lose a lease of it, and no call may fail: one kind of harmless fault, or none.
 * (Over a slow link a new connection is made too late for a lease.)
 */
export const isHarmless = ({ links, steps }: Pick<Plan, "links" | "steps">): boolean =>
  new Set(steps.map(({ fault }) => fault)).size <= 1 &&
  steps.every(
    ({ fault }) => faultNamed(fault).harmless === true && !(links.length > 0 && deaths.has(fault))
  )

/** The longest way to the server and back that anybody has. */
export const wayOf = ({ links, steps, ttl }: Plan): number =>
  Math.max(
    steps.some(({ fault }) => fault === "latency jumps") ? ttl * longestWay : 0,
    ...links.map(({ toClient = 0, toServer = 0 }) => toClient + toServer)
  )

/** The same plan for the same seed, row and length. */
export const random = (seed: number, row: Row, millis: number): Plan => {
  const next = seeded(seed)
  const among = <A>(values: ReadonlyArray<A>): A => values[Math.floor(next() * values.length)]!
  const all = faultsOf(row)
  const slow = row.topology === "redis behind proxies" && next() < 0.2
  const harmless = all.filter(
    (name) => faultNamed(name).harmless === true && !(slow && deaths.has(name))
  )
  // of what must not cost anybody anything, one kind at a time, and with time to get over it
  const gentle = harmless.length > 0 && next() < 0.2
  // what is slow, or made anew, must be in time on a busy machine as well
  const ttl = among(slow || gentle ? [1_500, 2_400] : [600, 900, 1_500])
  const links = Array.from({ length: slow ? 8 : 0 }, () => {
    const way = next() * ttl * longestWay
    const there = next()
    return { toServer: way * there, toClient: way * (1 - there) }
  })
  const names = gentle ? [among(harmless)] : all
  const steps: Array<Step> = []
  for (
    let at = 200 + next() * ttl;
    at < millis;
    at += (gentle ? 1.5 * ttl : 0) + next() * 1.6 * ttl
  ) {
    const fault = among(names)
    const { lasts, stays = 0 } = faultNamed(fault)
    const [least, most] = lasts
    steps.push({
      at: Math.round(at),
      fault,
      target: next() < 0.4 ? "holder" : Math.floor(next() * 16),
      for:
        next() < stays
          ? Number.POSITIVE_INFINITY
          : Math.round((least + next() * (most - least)) * ttl)
    })
  }
  return {
    name: `seed ${seed}`,
    seed,
    ttl,
    millis,
    fibers: among([4, 8, 24]),
    patient: false,
    alike: false,
    sparesFirst: true,
    links,
    steps
  }
}

const ttl = 800

const scripted = (
  name: string,
  ...steps: ReadonlyArray<Omit<Step, "at"> & { at?: number }>
): Plan => ({
  name,
  seed: 1,
  ttl,
  millis:
    1_000 +
    Math.max(
      0,
      ...steps.map(({ at = 0, for: millis }) => at + (Number.isFinite(millis) ? millis : 3 * ttl))
    ),
  fibers: 8,
  patient: false,
  alike: false,
  sparesFirst: false,
  links: [],
  steps: steps.map((step) => ({ at: 200, ...step }))
})

/** No fault at all. */
export const calm: Plan = { ...scripted("calm"), millis: 1_500 }

/** No fault, and nobody who gives up. */
export const patient: Plan = { ...calm, name: "calm and patient", patient: true }

/** Lines are short, so that who gives up leaves its process without a place. */
const few: Plan = { ...calm, name: "calm, few fibers", fibers: 3, millis: 3_000 }

const toHolder = (fault: FaultName, millis = 0): Plan =>
  scripted(`${fault}: the holder`, { fault, target: "holder", for: millis })

const toAnother = (fault: FaultName, millis = 0): Plan =>
  scripted(`${fault}: a waiter`, { fault, target: "another", for: millis })

/** What the dead had is there again, while the others go on and the hot key is never free. */
const oneAfterTheOther: Plan = {
  ...scripted(
    "killed: one after the other",
    // by then, processes hold it together
    { at: 1_000, fault: "killed", target: "holder", for: 0 },
    { at: 1_600, fault: "killed", target: "holder", for: 0 }
  ),
  millis: 8 * ttl,
  fibers: 16,
  patient: true,
  alike: true
}

const longer = 1.8 * ttl
const shorter = 0.5 * ttl

/** Long enough for a way of a third of it, and for a new connection, on a busy machine. */
const longTtl = 1_500
const atEase = (plan: Plan): Plan => ({ ...plan, ttl: longTtl, millis: plan.millis + longTtl })

const slow = (name: string, link: Latency): Plan => ({
  ...atEase(calm),
  name: `slow links: ${name}`,
  links: [link]
})

const wayThere = longTtl * longestWay
const stays = Number.POSITIVE_INFINITY

const subscriberFaults = [
  "subscriber cut",
  "subscriber never greeted",
  "subscribers forbidden",
  "no more clients"
] as const

/** One for each fault, and for some of them more: in every CI run. */
const everyScript: ReadonlyArray<Plan> = [
  calm,
  few,
  patient,
  toHolder("killed"),
  toAnother("killed"),
  oneAfterTheOther,
  toHolder("stopped", longer),
  toAnother("stopped", longer),
  toHolder("blocked", longer),
  toHolder("clock moved"),
  toHolder("redis stopped", longer),
  toHolder("debug sleep", shorter),
  toHolder("client pause", longer),
  toHolder("restart"),
  toHolder("restart empty"),
  toHolder("flushall"),
  toHolder("script flush"),
  toHolder("client kill"),
  toHolder("out of memory", ttl),
  toHolder("readonly", ttl),
  toHolder("failover"),
  toHolder("master dies", 0.4 * ttl),
  toHolder("slot moves", 1.5 * ttl),
  toHolder("delay", ttl),
  toHolder("late answers", ttl),
  toHolder("later and later", 3 * ttl),
  // heartbeats get through again, and only then the messages of the time before
  scripted(
    "a partition that heals in parts",
    { fault: "requests held", target: 1, for: 1.5 * ttl },
    { fault: "messages held", target: 1, for: 2 * ttl }
  ),
  toHolder("jitter", ttl),
  toHolder("black hole", longer),
  toAnother("black hole", longer),
  toHolder("half-open", longer),
  toHolder("requests held", longer),
  toHolder("answers held", longer),
  toAnother("messages held", shorter),
  toAnother("messages lost", ttl),
  toHolder("reset after apply", ttl),
  toAnother("reset before apply", ttl),
  toHolder("reordered", shorter),
  toHolder("throttled", ttl),
  toHolder("refused", longer),
  slow("both ways", { toServer: wayThere / 2, toClient: wayThere / 2 }),
  slow("the answers", { toClient: wayThere }),
  slow("the commands", { toServer: wayThere }),
  atEase(toHolder("latency jumps", stays)),
  atEase(toAnother("latency jumps", stays)),
  atEase(toHolder("connections lead nowhere")),
  atEase(toAnother("connections lead nowhere")),
  atEase(toHolder("idle connections lead nowhere", longTtl)),
  atEase(toAnother("idle connections lead nowhere", longTtl)),
  ...subscriberFaults.flatMap((fault) => [
    atEase(toAnother(fault, longTtl)),
    { ...atEase(toAnother(fault, stays)), name: `${fault}: to the end` }
  ])
]

export const scripts = (row: Row): ReadonlyArray<Plan> => {
  const known = faultsOf(row)
  return everyScript.filter(
    ({ links, steps }) =>
      steps.every(({ fault }) => known.includes(fault)) &&
      (links.length === 0 || row.topology === "redis behind proxies")
  )
}

/** One line for each step. */
export const show = ({ fibers, links, name, steps, ttl }: Plan): string =>
  [
    `plan "${name}", ttl ${ttl} ms, ${fibers} fibers a process`,
    ...links.map(
      ({ toClient = 0, toServer = 0 }, slot) =>
        `  process ${slot}: ${Math.round(toServer)} ms to the server, ${Math.round(toClient)} ms back`
    ),
    ...steps.map(
      ({ at, fault, for: millis, target }) =>
        `  at ${at} ms: ${fault}${millis === stays ? " to the end" : millis > 0 ? ` for ${millis} ms` : ""}, ${typeof target === "number" ? `process ${target}` : target}`
    )
  ].join("\n")
