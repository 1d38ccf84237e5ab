/**
 * What must hold of every history. Each check is a function of a history and of what the row
 * promises, and answers with the violations that it found, in words.
 *
 * A process can be stopped, and a machine can be busy: a body that ran late *because its event loop
 * did not turn* is told from one that was not interrupted by the `Stalled` events.
 */
import {
  type Event,
  eventsOf,
  type History,
  provenOf,
  type Section,
  sectionsOf
} from "./History.js"

/** What a run was made of, as far as the checks need it. */
export interface Terms {
  /** In milliseconds. */
  readonly ttl: number
  readonly renewEvery: number
  /**
   * By how many milliseconds, as fencing tokens count, a token can be behind one that was granted
   * before it was asked for: where several hold a key, and a process has it before its caller comes.
   */
  readonly behind: number
  /** First come, first served between processes. */
  readonly inOrder: boolean
  /** Whether every worker that is alive must have had a turn. */
  readonly everyoneServed: boolean
  /** Whether nothing happens of which a lease may be lost, or a call fail. */
  readonly harmless: boolean
  /** The longest way to the server and back, in milliseconds. */
  readonly way: number
  /** Within how long a free key is taken, whatever the plan's faults are; if that can be said. */
  readonly handoff: number | undefined
}

/** Who is stalled when the proxies are, or when a server does not answer at once. */
export const network = "the network"
export const server = "the server"

export interface Violation {
  readonly check: CheckName
  readonly what: string
}

type Check = (history: History, terms: Terms) => ReadonlyArray<string>

/** A body that is interrupted, a timer that fires, an answer that is read: on a busy machine. */
const grace = 150

/** A stall of so long is one (`worker.ts`). */
const aStall = 12

// -----------------------------------------------------------------------------
// as many holders at a time as there is room for
// -----------------------------------------------------------------------------

/**
 * Sections whose leases were proven at the same time, and together had more of a key than the limit of
 * one of them (of a mutex: two). The only excuse is a fault by which the store forgot the first one's
 * lease (a flush, a restart without the data) before it granted the second one, or a master that died: the
 * next one had not heard of the first one's lease, or of its last renewals, when it granted the second one.
 */
const exclusion: Check = (history, { ttl }) => {
  const sections = sectionsOf(history)
  const forgets = forgettings(history)
  const died = eventsOf(history, "TakenOver")
  /** Both proven at that time. */
  const unheard = (earlier: Section, later: Section, at: number) =>
    died.some(
      (death) =>
        grantOf(later) > death.wallDiedAt - clockSlack &&
        grantOf(later) >= unknownSince(earlier, death) - clockSlack &&
        at < death.diedAt + ttl
    )
  const forgotten = (earlier: Section, later: Section) =>
    grantOf(earlier) < grantOf(later) &&
    forgets.some(
      ({ forgets: keys, wallAt, wallUntil }) =>
        keys.includes(earlier.asked.key) &&
        grantOf(earlier) <= wallUntil + clockSlack &&
        grantOf(later) >= wallAt - clockSlack
    )
  const violations: Array<string> = []
  for (const ofKey of byKey(sections)) {
    const intervals = ofKey
      .flatMap((section) => provenOf(section).map((interval) => ({ section, ...interval })))
      .sort((a, b) => a.from - b.from)
    let active: typeof intervals = []
    for (const interval of intervals) {
      active = active.filter(({ to }) => to > interval.from)
      const others = active.filter(
        ({ section }) =>
          section !== interval.section &&
          !forgotten(section, interval.section) &&
          !forgotten(interval.section, section) &&
          !unheard(section, interval.section, interval.from) &&
          !unheard(interval.section, section, interval.from)
      )
      if (others.length > 0 && isTooMuch([interval, ...others].map(({ section }) => section))) {
        const [{ section, to } = interval, ...more] = others
        violations.push(
          `${show(section)} was proven until ${time(to)}, ${show(interval.section)} from ${time(interval.from)}, both at the same time${more.map((other) => `, and ${show(other.section)} until ${time(other.to)}`).join("")}`
        )
      }
      active.push(interval)
    }
  }
  return violations
}

/**
 * A tick of a job is run once, unless the store forgot the first run before it granted the second one, or the
 * next master had not heard of it.
 */
const ticks: Check = (history) => {
  const forgets = forgettings(history)
  const died = eventsOf(history, "TakenOver")
  return byKey(sectionsOf(history)).flatMap((ofKey) => {
    const first = new Map<number, Section>()
    return ofKey
      .filter(({ granted }) => granted?.tick !== undefined)
      .sort((one, other) => grantOf(one) - grantOf(other))
      .flatMap((section) => {
        const tick = section.granted!.tick!
        const earlier = first.get(tick)
        first.set(tick, section)
        return earlier === undefined ||
          died.some((death) => isLost(earlier, death) && grantOf(section) > death.wallDiedAt) ||
          forgets.some(
            ({ forgets: keys, wallAt, wallUntil }) =>
              keys.includes(section.asked.key) &&
              grantOf(earlier) <= wallUntil + clockSlack &&
              grantOf(section) >= wallAt - clockSlack
          )
          ? []
          : [`${show(earlier)} and ${show(section)} both ran the tick ${tick}`]
      })
  })
}

/** It asked for its lease, and has not got it from a part before it. */
const isAsked = ({ asked }: Section): boolean => asked.restOf === undefined

const weightOf = (sections: ReadonlyArray<Section>): number =>
  sections.reduce((sum, { asked }) => sum + asked.weight, 0)

/** Nobody's limit is exceeded while it holds. */
const isTooMuch = (sections: ReadonlyArray<Section>): boolean =>
  weightOf(sections) > Math.min(...sections.map(({ asked }) => asked.limit))

/**
 * When the store granted it, by the machine's wall clock, in milliseconds: what the holder hears of
 * it can be much later, but a fencing token is made of the server's time.
 */
const grantOf = ({ granted }: Section): number => granted!.fence / 1_000

type Death = Extract<Event, { readonly _tag: "TakenOver" }>

/** It was granted by the master that died, and its replica had not heard of it. */
const isLost = (
  section: Section,
  { ends, fences, keys, wallCutAt, wallDiedAt }: Death
): boolean => {
  const { fence, token } = section.granted!
  const { key } = section.asked
  return (
    keys.includes(key) &&
    fence > (fences[key] ?? 0) &&
    ends[token] === undefined &&
    grantOf(section) >= wallCutAt - clockSlack &&
    grantOf(section) <= wallDiedAt + clockSlack
  )
}

/**
 * When, by the wall clock, the next master could give to others what this one had: at once, if it had not heard
 * of it; otherwise when what it knew of its ttl had run out, if it heard no more of it.
 */
const unknownSince = (section: Section, death: Death): number => {
  if (!death.keys.includes(section.asked.key)) return Number.POSITIVE_INFINITY
  if (isLost(section, death)) return death.wallCutAt
  return death.ends[section.granted!.token] ?? Number.POSITIVE_INFINITY
}

/** Both clocks are the machine's; one of them is read before or after the other. */
const clockSlack = 5

// -----------------------------------------------------------------------------
// fencing
// -----------------------------------------------------------------------------

/**
 * The register never accepts a write below the greatest floor that it has seen, a token belongs to one
 * section, no floor is above its own token, and a refusal meets only those who could not know better:
 * whose process had been stalled, or whose lease the store had forgotten.
 */
const fencing: Check = (history) => {
  const violations: Array<string> = []
  const floors = new Map<string, number>()
  const greatest = new Map<string, number>()
  const owners = new Map<string, string>()
  const sections = new Map(sectionsOf(history).map((section) => [section.id, section]))
  const forgets = forgettings(history)
  const died = eventsOf(history, "TakenOver")
  const stalls = stallsOf(history)
  for (const write of eventsOf(history, "Write")) {
    const { accepted, alone, fence, floor, key, phase, section } = write
    const most = greatest.get(key) ?? 0
    const seen = alone === true ? Math.max(most, floors.get(key) ?? 0) : (floors.get(key) ?? 0)
    const token = `${key} ${fence}`
    const lease = sections.get(section)?.asked.restOf ?? section
    const owner = owners.get(token) ?? lease
    if (owner !== lease) {
      violations.push(`${section} and ${owner} both had the fencing token ${fence}`)
    }
    owners.set(token, owner)
    if (floor > fence) violations.push(`${section} had ${fence}, and the floor ${floor} above it`)
    if (accepted) {
      if (fence < seen) {
        violations.push(
          `the register accepted the ${phase} of ${section} with ${fence} behind ${seen}`
        )
      }
      floors.set(key, Math.max(floors.get(key) ?? 0, floor))
      greatest.set(key, Math.max(most, fence))
      continue
    }
    const writer = sections.get(section)
    if (writer === undefined) continue
    const since = writer.granted?.at ?? writer.asked.at
    const excused =
      stalls(writer.asked.worker).some(({ at, from }) => at >= since && from <= write.at) ||
      forgets.some((fault) => fault.forgets.includes(key) && fault.at <= write.at) ||
      (writer.granted !== undefined &&
        died.some((death) => Number.isFinite(unknownSince(writer, death))))
    if (!excused) {
      violations.push(
        `the register refused the ${phase} of ${show(writer)}, behind ${seen}: its process had not been stalled`
      )
    }
  }
  return violations
}

/**
 * Who asked after another one's grant has a greater token: also across a flush and a restart. While a
 * failover goes on, and a ttl longer, two masters give tokens of their own.
 */
const growing: Check = (history, { behind, ttl }) => {
  const violations: Array<string> = []
  const failovers = eventsOf(history, "Fault").filter(({ fault }) => fault === "failover")
  const ofTwoMasters = (one: Section, other: Section) =>
    failovers.some(({ at, until }) =>
      [one, other].every(({ granted }) => at <= granted!.at && granted!.at <= until + ttl)
    )
  for (const ofKey of byKey(sectionsOf(history).filter(isAsked))) {
    const granted = ofKey.filter((section) => section.granted !== undefined)
    const byAsking = granted.slice().sort((a, b) => a.asked.at - b.asked.at)
    const byGrant = granted.slice().sort((a, b) => a.granted!.at - b.granted!.at)
    let next = 0
    let greatest: Section | undefined
    for (const section of byAsking) {
      while (byGrant[next] !== undefined && byGrant[next]!.granted!.at < section.asked.at) {
        const earlier = byGrant[next++]!
        if (greatest === undefined || earlier.granted!.fence > greatest.granted!.fence) {
          greatest = earlier
        }
      }
      if (
        greatest !== undefined &&
        section.granted!.fence <= greatest.granted!.fence - behind * 1_000 &&
        !ofTwoMasters(section, greatest)
      ) {
        violations.push(
          `${show(section)} asked after ${show(greatest)} had been granted, and has no greater token`
        )
      }
    }
  }
  return violations
}

// -----------------------------------------------------------------------------
// losses
// -----------------------------------------------------------------------------

/**
 * A body was interrupted while its lease was still proven, unless the store said that it is gone, or
 * the event loop did not turn: then at once, with one look at its lease at most. (A grant can come
 * with a few milliseconds of proof left, which a timer can miss by some: that is a violation where
 * somebody else had the key by then. And after a stall the answer to a renewal can be read before the
 * timer of the loss is due in its turn: the lease is proven again, and the next stall is another one.)
 */
const interruption: Check = (history) => {
  const violations: Array<string> = []
  const stalls = stallsOf(history)
  const sections = sectionsOf(history)
  for (const section of sections) {
    const { asked, ended, granted, looks, settled } = section
    // of those whose process was killed, or that never came back, other checks speak
    if (granted === undefined || ended === undefined) continue
    // (of a proof of less than a millisecond nothing is left to see)
    const proven = Math.max(granted.at, ...looks.map(({ until }) => until))
    const toldByStore = /Missing|Taken/.test(settled?.outcome ?? "")
    const overrun = ended.at - proven
    const lastStall = Math.max(
      ...stalls(asked.worker)
        .filter(({ at, from }) => at > granted.at && from < ended.at)
        .map(({ at }) => at)
    )
    if (ended.until === 0 && overrun > 0 && !toldByStore) {
      const meanwhile = () =>
        sections.filter(
          (other) =>
            other !== section &&
            other.asked.key === asked.key &&
            provenOf(other).some(({ from, to }) => from < ended.at && to > proven)
        )
      const harmless = overrun < 25 && !isTooMuch([section, ...meanwhile()])
      if (!harmless && ended.at - lastStall > grace) {
        violations.push(
          `${show(section)} went on for ${overrun.toFixed(1)} ms after its validity, and its event loop turned`
        )
      }
    }
    const blind = looks.filter((look) => look.until === 0 && look !== ended && look !== granted)
    const again = blind.find(
      ({ at }, index) =>
        index > 0 && during(stalls(asked.worker), blind[index - 1]!.at, at) < aStall
    )
    if (again !== undefined) {
      violations.push(
        `${show(section)} went on for ${blind.length} steps, over ${(ended.at - blind[0]!.at).toFixed(1)} ms, without a lease`
      )
    }
  }
  return violations
}

/** A loss is an error, also where the body was through by then. */
const lossIsTold: Check = (history) =>
  sectionsOf(history).flatMap((section) => {
    const { ended, settled } = section
    if (ended?.until !== 0 || settled === undefined || ended.how === "refused") return []
    return settled.outcome.includes("LockLost")
      ? []
      : [`${show(section)} had no lease at its end, and settled as ${settled.outcome}`]
  })

/**
 * A lease is kept that can be: over a link that is slow, or gets slow, where a connection leads
 * nowhere at any moment, where messages are refused. Excused are those of which less than half a
 * ttl was proven when something happened to them, and a machine that was too busy.
 */
const kept: Check = (history, { harmless, ttl }) => {
  if (!harmless) return []
  const faults = eventsOf(history, "Fault")
  const stalls = stallsOf(history)
  return sectionsOf(history).flatMap((section) => {
    const { asked, granted, looks, settled } = section
    if (granted === undefined || settled?.outcome.includes("LockLost") !== true) return []
    const lostAt = settled.at
    const left = (at: number) => {
      const look = looks.filter((look) => look.at <= at).at(-1)
      return look === undefined || at > lostAt ? ttl : look.until - at
    }
    const weak = faults.some(
      ({ at, target, until }) =>
        (target === asked.worker || target.startsWith("redis")) &&
        Math.min(left(at), left(until)) < ttl / 2
    )
    const from = Math.max(asked.at, lostAt - 2 * ttl)
    const stalled = [asked.worker, network, server]
      .flatMap(stalls)
      .reduce(
        (sum, stall) => sum + Math.max(0, Math.min(stall.at, lostAt) - Math.max(stall.from, from)),
        0
      )
    return weak || stalled > ttl / 30
      ? []
      : [`${show(section)} was lost at ${time(lostAt)} (${settled.outcome})`]
  })
}

/** … and no call fails of it: who waits has its turn, who tries is told. */
const unfailing: Check = (history, { harmless, ttl }) => {
  if (!harmless) return []
  const stalls = stallsOf(history)
  return sectionsOf(history).flatMap((section) => {
    const { asked, settled } = section
    if (settled?.outcome.includes("LockStoreError") !== true) return []
    // (an answer that comes after a ttl is too late)
    const stalled = during([asked.worker, network, server].flatMap(stalls), asked.at, settled.at)
    return stalled > ttl / 2
      ? []
      : [
          `${show(section)}, asked at ${time(asked.at)}, failed at ${time(settled.at)} (${settled.outcome})`
        ]
  })
}

/**
 * A subscriber that is refused comes again after pauses that double, and sends its subscription once
 * on each connection.
 */
const patience: Check = (history, { harmless }) =>
  harmless
    ? eventsOf(history, "Refused").flatMap(({ at, connections, from, subscribes, worker }) => {
        const most = 4 + 1.5 * Math.log2(1 + (at - from) / 50)
        return [
          ...(connections > most
            ? [
                `${worker} made ${connections} connections in the ${(at - from).toFixed(0)} ms in which its subscriber was refused`
              ]
            : []),
          ...(subscribes > 2 ? [`${worker} subscribed ${subscribes} times on one connection`] : [])
        ]
      })
    : []

/**
 * A holder whose lease the store has forgotten is told at its next renewal: no validity is proven
 * for longer than a ttl after that, and where nothing else is broken its body has been interrupted
 * after `renewEvery`. One whose lease was lost with the master that had granted it is told by then as well:
 * that one answers nothing more.
 */
const told: Check = (history, { renewEvery, ttl }) => {
  const violations: Array<string> = []
  const sections = sectionsOf(history)
  const stalls = stallsOf(history)
  const faults = eventsOf(history, "Fault")
  const failovers = faults.filter(({ fault }) => fault === "failover")
  for (const death of eventsOf(history, "TakenOver")) {
    for (const section of sections) {
      if (section.granted === undefined || !isLost(section, death)) continue
      const believed = section.looks.find(({ until }) => until > death.diedAt + ttl)
      if (believed === undefined) continue
      violations.push(
        `${show(section)} was lost with its master at ${time(death.diedAt)}, and thought it held at ${time(believed.at)} until ${time(believed.until)}`
      )
    }
  }
  for (const fault of forgettings(history)) {
    // a failover may forget; while it goes on there are two masters, of which the other one has not
    if (failovers.some(({ at, until }) => at <= fault.at && fault.at <= until)) continue
    for (const section of sections) {
      const { asked, ended, granted, looks } = section
      if (granted === undefined || !fault.forgets.includes(asked.key)) continue
      if (grantOf(section) >= fault.wallAt - clockSlack) continue
      if (ended !== undefined && ended.at <= fault.until) continue
      const believed = looks.find(({ until }) => until > fault.until + ttl)
      if (believed !== undefined) {
        violations.push(
          `${show(section)} was forgotten at ${time(fault.at)} (${fault.fault}), and thought it held at ${time(believed.at)} until ${time(believed.until)}`
        )
      }
      const due = fault.until + (fault.fault === "flushall" ? renewEvery : ttl) + 3 * grace
      const disturbed =
        faults.some((other) => other !== fault && other.at < due && other.until > granted.at) ||
        stalls(asked.worker).some(({ at, from }) => at > fault.at && from < due)
      if (!disturbed && ended !== undefined && ended.at > due) {
        violations.push(
          `${show(section)} was forgotten at ${time(fault.at)} (${fault.fault}), and went on until ${time(ended.at)}`
        )
      }
    }
  }
  return violations
}

// -----------------------------------------------------------------------------
// nobody waits for the dead, or for ever
// -----------------------------------------------------------------------------

/**
 * No lease outlives its process by more than the ttl, counted from when the store runs again. A
 * process that died in the queue can still be granted the lock within its claim window (a ttl here),
 * for as long again, and not after that.
 */
const outliving: Check = (history, { ttl, way }) => {
  const killed = killedAt(history)
  const faults = eventsOf(history, "Fault")
  const held = new Set(eventsOf(history, "Granted").map(({ token }) => token))
  return eventsOf(history, "Found").flatMap(({ at, key, since = 0, token, worker }) => {
    const from = Math.max(
      killed.get(worker) ?? 0,
      ...faults.filter((fault) => fault.at < at).map(({ until }) => Math.min(until, at))
    )
    const most = held.has(token) ? ttl : 2 * ttl
    // (what it had sent still arrives)
    if (at > from + most + way + 2 * grace) {
      return [`${worker} had ${key} still, ${(at - from).toFixed(0)} ms after it was killed`]
    }
    return since > from + ttl + way + grace
      ? [
          `${worker} was granted ${key}, ${(since - from).toFixed(0)} ms after it was killed, or later`
        ]
      : []
  })
}

/** Whoever asks is answered; and every process that is there gets its turn. */
const answered: Check = (history, { everyoneServed }) => {
  const killed = killedAt(history)
  const sections = sectionsOf(history)
  const forgotten = sections
    .filter(({ asked, settled }) => settled === undefined && !killed.has(asked.worker))
    .map((section) =>
      section.granted === undefined
        ? `${show(section)} asked at ${time(section.asked.at)}, and was never answered`
        : `${show(section)} never came back`
    )
  const served = new Set(
    sections.filter(({ granted }) => granted !== undefined).map(({ asked }) => asked.worker)
  )
  const starved = new Set(
    sections
      .map(({ asked }) => asked.worker)
      .filter((worker) => everyoneServed && !served.has(worker) && !killed.has(worker))
  )
  if (served.size === 0) forgotten.push("nobody was ever granted anything")
  return [...forgotten, ...[...starved].map((worker) => `${worker} never had a turn`)]
}

/** Of a process: leases and places run out, and then all is as if it had never been. */
const ofProcesses = new Set(["killed", "stopped", "blocked", "clock moved"])

/**
 * Without faults no key is idle while somebody waits for it, and there is room for the first in line: a
 * release hands it over at once, and a lost message costs a heartbeat, a third of the ttl.
 * So it is where messages are all that is lost. And what a process had that died or stood still is
 * missing for a ttl, or, if it was granted to one that had died in the queue, for its claim window and
 * a ttl.
 */
const idle: Check = (history, { handoff, ttl }) => {
  const faults = eventsOf(history, "Fault")
  const known = faults.every(({ fault }) => ofProcesses.has(fault))
  if (handoff === undefined && !known) return []
  const most = handoff ?? ttl / 3
  const disturbed = faults
    .filter(({ fault }) => ofProcesses.has(fault))
    .map(({ at, until }) => ({ at, until: until + 2 * ttl + most }))
  const stalls = eventsOf(history, "Stalled")
  const killed = killedAt(history)
  return byKey(sectionsOf(history)).flatMap((ofKey) =>
    waitsForNobody(ofKey, killed, ttl, known).flatMap(({ at, from, section }) => {
      const last = disturbed.filter((fault) => fault.at < at).map(({ until }) => until)
      const waitedFrom = Math.max(from, ...last)
      const waited = at - waitedFrom - during(stalls, waitedFrom, at)
      return waited > most + 2 * grace
        ? [
            `${show(section)} waited for ${waited.toFixed(0)} ms for a key that nobody had, or that had room`
          ]
        : []
    })
  )
}

/** Until it was granted, or the key was full. */
interface Wait {
  readonly section: Section
  readonly from: number
  readonly at: number
}

/**
 * Since when there was room for each of those that were granted, together with all before it: those with
 * a smaller fencing token, and those that gave up in the end. And, where a grant is heard of at once, for
 * how long there was room for the first in line, whoever that was: so a permit is missed that nobody has.
 */
const waitsForNobody = (
  ofKey: ReadonlyArray<Section>,
  killed: ReadonlyMap<string, number>,
  ttl: number,
  atOnce: boolean
): ReadonlyArray<Wait> => {
  const waiting = new Set<Section>()
  const inside = new Set<Section>()
  const open = new Map<Section, number>()
  const waits: Array<Wait> = []
  let first: { readonly section: Section; readonly from: number } | undefined
  const steps = ofKey.flatMap((section) => {
    const { asked, ended, granted, settled } = section
    const death = killed.get(asked.worker)
    const leaves = granted?.at ?? settled?.at ?? death ?? Number.POSITIVE_INFINITY
    const ends = ended?.at ?? (death === undefined ? Number.POSITIVE_INFINITY : death + ttl)
    const enter = () => {
      waiting.delete(section)
      if (granted === undefined) return
      inside.add(section)
      const from = open.get(section)
      if (from !== undefined) waits.push({ section, from, at: granted.at })
    }
    return [
      { at: asked.at, does: () => void waiting.add(section) },
      { at: leaves, does: enter },
      ...(granted === undefined ? [] : [{ at: ends, does: () => void inside.delete(section) }])
    ]
  })
  const rank = ({ granted }: Section) => granted?.fence ?? 0
  for (const { at, does } of steps.sort((one, other) => one.at - other.at)) {
    does()
    const taken = [...inside]
    let head: Section | undefined
    for (const section of [...waiting].sort((one, other) => rank(one) - rank(other))) {
      taken.push(section)
      if (isTooMuch(taken)) open.delete(section)
      else if (!open.has(section)) open.set(section, at)
      if (section.granted !== undefined) head ??= section
    }
    if (head !== undefined && open.has(head)) {
      first = { section: head, from: first?.from ?? at }
    } else {
      if (first !== undefined && atOnce && Number.isFinite(at)) waits.push({ ...first, at })
      first = undefined
    }
  }
  return waits
}

/**
 * First come, first served between processes: a process that has been waiting at the head of its own
 * line for a while before another one began to is served before it, in the order of fencing tokens.
 *
 * Only for patient callers, and without faults. Who stands in the queue is a process, with so many of
 * its first callers as could hold the key together. It need not stand there while it has all of the key.
 */
const order: Check = (history, { inOrder, ttl }) => {
  if (!inOrder) return []
  const violations: Array<string> = []
  const sections = sectionsOf(history)
  const faults = eventsOf(history, "Fault")
  const stalls = stallsOf(history)
  /** For a command to reach the store, on a busy machine. */
  const underWay = 250
  for (const ofKey of byKey(sections)) {
    const granted = ofKey.filter((section) => section.granted !== undefined && isAsked(section))
    const lines = new Map<string, { readonly before: Array<Section>; since: number }>()
    const turns = granted
      .sort((a, b) => a.asked.at - b.asked.at)
      .map((section) => {
        const { at, worker } = section.asked
        const line = lines.get(worker) ?? { before: [], since: 0 }
        lines.set(worker, line)
        const notBefore = Math.max(at, soonestInLine(section, line.before))
        line.since = Math.max(at, line.since, surelyInLine(section, line.before))
        line.before.push(section)
        return { section, worker, inLineSince: line.since, notBefore }
      })
      .sort((a, b) => a.section.granted!.fence - b.section.granted!.fence)
    turns.forEach((early, index) => {
      for (const late of turns.slice(index + 1)) {
        // `late` was served after `early`: had it been in line before it?
        const sent = Math.max(
          late.inLineSince,
          ...stalls(late.worker)
            .filter(({ at, from }) => at > late.inLineSince && from < late.inLineSince + 20)
            .map(({ at }) => at)
        )
        if (late.worker === early.worker || sent + underWay > early.notBefore) continue
        const { at: servedAt } = late.section.granted!
        if (faults.some(({ at, until }) => until > sent && at < servedAt)) continue
        // (who does not come for its place, or its grant, in time stands at the end of the queue again)
        const stalled = [late.worker, network, server].flatMap(stalls)
        if (during(stalled, sent, servedAt) > ttl / 3) continue
        violations.push(
          `${show(late.section)} was in line since ${time(late.inLineSince)}, and served after ${show(early.section)}, in line since ${time(early.notBefore)}`
        )
      }
    })
  }
  return violations
}

/** When so much of what those take has ended that it fits beside the rest. */
const roomSince = (
  { asked: { limit, weight } }: Section,
  others: ReadonlyArray<Section>,
  endOf: (other: Section) => number
): number => {
  let left = weightOf(others)
  if (left + weight <= limit) return 0
  for (const other of others.slice().sort((a, b) => endOf(a) - endOf(b))) {
    left -= other.asked.weight
    if (left + weight <= limit) return endOf(other)
  }
  return Number.POSITIVE_INFINITY
}

const grantedAt = ({ granted }: Section): number => granted?.at ?? Number.POSITIVE_INFINITY
const endedAt = ({ ended }: Section): number => ended?.at ?? Number.POSITIVE_INFINITY

/** Beside all of its own process that asked before it, also those that have the key. */
const surelyInLine = (section: Section, before: ReadonlyArray<Section>): number =>
  roomSince(section, before, endedAt)

/** Beside those that wait before it; not while its own process has all of the key in such shares. */
const soonestInLine = (section: Section, before: ReadonlyArray<Section>): number => {
  const { at, limit, weight } = section.asked
  const since = Math.max(at, roomSince(section, before, grantedAt))
  if (before.some((other) => grantedAt(other) > since)) return since
  const holders = before.filter((other) => endedAt(other) > since)
  const same = holders.every(({ asked }) => asked.limit === limit && asked.weight === weight)
  return same && weightOf(holders) >= limit ? Math.min(...holders.map(endedAt)) : since
}

// -----------------------------------------------------------------------------
// what is left
// -----------------------------------------------------------------------------

export const leftIn = (history: History): ReadonlyArray<string> =>
  eventsOf(history, "Left").map(({ what, where }) => `${where}: ${what}`)

const soundness: Check = (history) =>
  eventsOf(history, "Broke").map(({ what, worker }) => `${worker}: ${what}`)

/** Bytes a minute that a heap may grow, by a line through its samples, after a time to warm up. */
const maxGrowth = 64 * 1024

export const memoryGrowth = (history: History): ReadonlyArray<string> =>
  [...heapGrowth(history)].flatMap(([worker, growth]) =>
    growth > maxGrowth
      ? [`the heap of ${worker} grew by ${Math.round(growth / 1024)} KB a minute`]
      : []
  )

/**
 * Of each process that was there for long enough: bytes a minute, all the time. What grows once (code
 * that is compiled late, some megabyte) is in one half of the time and not in the other.
 */
export const heapGrowth = (history: History): ReadonlyMap<string, number> => {
  const samples = eventsOf(history, "Memory")
  const workers = new Set(samples.map(({ worker }) => worker))
  return new Map(
    [...workers].flatMap((worker) => {
      const all = samples.filter((sample) => sample.worker === worker)
      const from = all[0]!.at + 180_000
      const warm = all.filter(({ at }) => at >= from)
      if (warm.length < 16) return []
      const middle = Math.floor(warm.length / 2)
      const halves = [warm.slice(0, middle), warm.slice(middle)]
      const slopes = halves.map((half) => slope(half.map(({ at, bytes }) => [at / 60_000, bytes])))
      return [[worker, Math.min(...slopes)] as const]
    })
  )
}

/** Of a line through the points, by least squares. */
export const slope = (points: ReadonlyArray<readonly [number, number]>): number => {
  const mean = (axis: 0 | 1) => points.reduce((sum, point) => sum + point[axis], 0) / points.length
  const [meanX, meanY] = [mean(0), mean(1)]
  const over = points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0)
  return over / points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0)
}

// -----------------------------------------------------------------------------
// all of them
// -----------------------------------------------------------------------------

export const checks = {
  exclusion,
  "no tick twice": ticks,
  fencing,
  "growing tokens": growing,
  interruption,
  "losses are told": lossIsTold,
  "no lease is lost that can be kept": kept,
  "no call fails without need": unfailing,
  "a refused subscriber is patient": patience,
  "forgotten leases are noticed": told,
  "no lease outlives its process": outliving,
  "no waiter is forgotten": answered,
  "no key is idle while somebody waits": idle,
  "first come, first served": order,
  "nothing is left": leftIn,
  "nothing breaks": soundness,
  "memory is flat": memoryGrowth
} satisfies Record<string, Check>

export type CheckName = keyof typeof checks

export const judge = (history: History, terms: Terms): ReadonlyArray<Violation> =>
  Object.entries(checks).flatMap(([check, find]) =>
    (find as Check)(history, terms).map((what) => ({ check: check as CheckName, what }))
  )

// -----------------------------------------------------------------------------

const byKey = (sections: ReadonlyArray<Section>): ReadonlyArray<ReadonlyArray<Section>> => {
  const keys = new Map<string, Array<Section>>()
  for (const section of sections) {
    const { key } = section.asked
    const known = keys.get(key)
    if (known === undefined) keys.set(key, [section])
    else known.push(section)
  }
  return [...keys.values()]
}

const forgettings = (history: History) =>
  eventsOf(history, "Fault").filter(({ forgets }) => forgets.length > 0)

/**
 * When a process was not run: as it says itself, and of one that was killed before it could, as was
 * done to it, or since it said so for the last time.
 */
const stallsOf = (history: History) => {
  const stalls = eventsOf(history, "Stalled")
  const done = eventsOf(history, "Fault")
    .filter(({ fault }) => fault === "stopped" || fault === "blocked")
    .map(({ at, target, until }) => ({ worker: target, from: at, at: until }))
  const killed = [...killedAt(history)].flatMap(([worker, at]) => {
    const from = Math.max(...stalls.filter((stall) => stall.worker === worker).map(({ at }) => at))
    return at - from < 1_000 ? [{ worker, from, at }] : []
  })
  return (worker: string) =>
    [...stalls, ...done, ...killed].filter((stall) => stall.worker === worker)
}

/** How much of that time somebody stood still. */
const during = (
  stalls: ReadonlyArray<{ readonly at: number; readonly from: number }>,
  from: number,
  to: number
): number => {
  let sum = 0
  let last = from
  for (const stall of stalls.slice().sort((a, b) => a.from - b.from)) {
    sum += Math.max(0, Math.min(stall.at, to) - Math.max(stall.from, last))
    last = Math.max(last, Math.min(stall.at, to))
  }
  return sum
}

const killedAt = (history: History): ReadonlyMap<string, number> =>
  new Map(eventsOf(history, "Killed").map(({ at, worker }) => [worker, at]))

const time = (at: number): string => at.toFixed(1)

const show = ({ asked, granted, id }: Section): string =>
  `${id} (${asked.way} of ${asked.key}${granted === undefined ? "" : `, fencing token ${granted.fence}, granted at ${time(granted.at)}`})`
