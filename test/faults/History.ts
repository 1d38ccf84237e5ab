/**
 * What happened in a run, as the processes wrote it down while it happened: one line of JSON for
 * each event, times in milliseconds of CLOCK_MONOTONIC, which all processes of a machine share.
 */
export type Event =
  /** A fiber asked for a lock. */
  | {
      readonly _tag: "Asked"
      readonly at: number
      readonly worker: string
      readonly section: string
      readonly key: string
      readonly way: string
      /** How much of the key's capacity it takes, and within which capacity. */
      readonly weight: number
      readonly limit: number
      /** The section of which it is the rest, with less, and the same lease. */
      readonly restOf?: string
    }
  /** The critical section began; `until` is the end of the proven validity, 0 where none is left. */
  | {
      readonly _tag: "Granted"
      readonly at: number
      readonly section: string
      readonly token: string
      readonly fence: number
      readonly until: number
      /** Of a job: which tick it is for. */
      readonly tick?: number | undefined
    }
  /** The critical section ran, and looked at its lease. */
  | {
      readonly _tag: "Seen"
      readonly at: number
      readonly section: string
      readonly until: number
    }
  /** The critical section's last act, before anything is released. */
  | {
      readonly _tag: "Ended"
      readonly at: number
      readonly section: string
      readonly how: "done" | "refused" | "interrupted"
      readonly until: number
    }
  /** What the library said in the end: `ok`, the tag of an error with its reason, `interrupted`. */
  | {
      readonly _tag: "Settled"
      readonly at: number
      readonly section: string
      readonly outcome: string
    }
  /** The worker's event loop did not turn: stopped, blocked, or a busy machine. */
  | {
      readonly _tag: "Stalled"
      readonly at: number
      readonly worker: string
      readonly from: number
    }
  /** The register was written to, or refused it. In the order of the register. */
  | {
      readonly _tag: "Write"
      readonly at: number
      readonly key: string
      readonly section: string
      readonly phase: Phase
      readonly fence: number
      /** The smallest fencing token of those who held the key when this one was granted. */
      readonly floor: number
      /** Of a key with readers: it must not be behind anything. */
      readonly alone?: boolean | undefined
      readonly accepted: boolean
    }
  | {
      readonly _tag: "Fault"
      readonly at: number
      readonly until: number
      readonly fault: string
      readonly target: string
      /** Of these keys, leases that were granted before it may be forgotten. */
      readonly forgets: ReadonlyArray<string>
      /** `at` and `until` by the machine's wall clock, which is the server's. */
      readonly wallAt: number
      readonly wallUntil: number
    }
  /** A master died, and its replica has taken over. */
  | {
      readonly _tag: "TakenOver"
      readonly at: number
      /** When it died, also by the wall clock. */
      readonly diedAt: number
      readonly wallDiedAt: number
      /** When its replica was cut off from it, by the wall clock. */
      readonly wallCutAt: number
      /** Whose server it was. */
      readonly keys: ReadonlyArray<string>
      /** What the replica had: of each key the last fencing token; of each holder the end of its ttl. */
      readonly fences: Readonly<Record<string, number>>
      readonly ends: Readonly<Record<string, number>>
    }
  /** A subscriber was refused from then on; how often it came nevertheless. */
  | {
      readonly _tag: "Refused"
      readonly at: number
      readonly from: number
      readonly worker: string
      readonly connections: number
      /** The most SUBSCRIBEs that came on one connection. */
      readonly subscribes: number
    }
  | { readonly _tag: "Killed"; readonly at: number; readonly worker: string }
  /** A process that was killed had this key, by the store's own word. */
  | {
      readonly _tag: "Found"
      readonly at: number
      readonly worker: string
      readonly key: string
      readonly token: string
      /** When the look before began, which did not find it: so it was granted after that. */
      readonly since?: number | undefined
    }
  /** Something is there at the end that should not be. */
  | { readonly _tag: "Left"; readonly at: number; readonly where: string; readonly what: string }
  /** An error that nobody handled, or a process that ended by itself. */
  | { readonly _tag: "Broke"; readonly at: number; readonly worker: string; readonly what: string }
  /** The heap after a garbage collection. */
  | {
      readonly _tag: "Memory"
      readonly at: number
      readonly worker: string
      readonly bytes: number
    }

export type Phase = "enter" | "middle" | "exit"

export type History = ReadonlyArray<Event>

/** The clock of all histories: the same in every process of a machine, and nobody can set it. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6

type Of<Tag extends Event["_tag"]> = Extract<Event, { readonly _tag: Tag }>

export const eventsOf = <Tag extends Event["_tag"]>(
  history: History,
  tag: Tag
): ReadonlyArray<Of<Tag>> => history.filter((event): event is Of<Tag> => event._tag === tag)

/** One attempt to take a lock, and what became of it. */
export interface Section {
  readonly id: string
  readonly asked: Of<"Asked">
  granted: Of<"Granted"> | undefined
  ended: Of<"Ended"> | undefined
  settled: Of<"Settled"> | undefined
  /** Every look at the lease, from the grant to the end. */
  readonly looks: Array<Pick<Of<"Seen">, "at" | "until">>
}

export const sectionsOf = (history: History): ReadonlyArray<Section> => {
  const sections = new Map<string, Section>()
  for (const event of eventsOf(history, "Asked")) {
    sections.set(event.section, {
      id: event.section,
      asked: event,
      granted: undefined,
      ended: undefined,
      settled: undefined,
      looks: []
    })
  }
  for (const event of history) {
    if (!("section" in event)) continue
    const section = sections.get(event.section)
    if (section === undefined) continue
    switch (event._tag) {
      case "Granted":
        section.granted = event
        section.looks.push(event)
        break
      case "Seen":
        section.looks.push(event)
        break
      case "Ended":
        section.ended = event
        section.looks.push(event)
        break
      case "Settled":
        section.settled = event
        break
    }
  }
  return [...sections.values()]
}

/** When the critical section was running *and* its lease was proven to be held. */
export const provenOf = ({
  ended,
  looks
}: Section): ReadonlyArray<{ readonly from: number; readonly to: number }> => {
  const end = ended?.at ?? Number.POSITIVE_INFINITY
  const proven: Array<{ from: number; to: number }> = []
  for (const { at, until } of looks) {
    const to = Math.min(until, end)
    if (to <= at) continue
    const last = proven.at(-1)
    if (last !== undefined && at <= last.to) last.to = Math.max(last.to, to)
    else proven.push({ from: at, to })
  }
  return proven
}

/** Reads what a process wrote; one that was killed can have left half a line. */
export const parse = (lines: string): Array<Event> =>
  lines.split("\n").flatMap((line) => {
    try {
      return [JSON.parse(line) as Event]
    } catch {
      return []
    }
  })
