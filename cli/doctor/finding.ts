/** What a check found. */
import type { Cluster, Redis } from "ioredis"

/**
 * - `ok`: as it should be;
 * - `note`: locks work, and something about it should be known;
 * - `wrong`: locks do not work, or do not hold what they promise;
 * - `unknown`: the user may not ask.
 */
export type Level = "ok" | "note" | "wrong" | "unknown"

export interface Finding {
  readonly check: string
  readonly level: Level
  readonly found: string
  /** Why it matters for locks, and what to do. */
  readonly why?: string
  readonly advice?: string
}

/** Connections of the doctor's own. */
export interface Patient {
  readonly client: Redis | Cluster
  readonly masters: ReadonlyArray<Redis>
  readonly isCluster: boolean
  readonly prefix: string
}

export const ok = (check: string, found: string): Finding => ({ check, level: "ok", found })

export const note = (check: string, found: string, why: string, advice: string): Finding => ({
  check,
  level: "note",
  found,
  why,
  advice
})

export const wrong = (check: string, found: string, why: string, advice: string): Finding => ({
  check,
  level: "wrong",
  found,
  why,
  advice
})

export const unknown = (check: string, error: unknown): Finding => ({
  check,
  level: "unknown",
  found: `cannot be asked: ${messageOf(error)}`
})

export const messageOf = (error: unknown): string =>
  error instanceof Error ? error.message : String(error)

/** In the words of Redis 6.2, and of later ones. */
export const isDenied = (error: unknown): boolean =>
  /^NOPERM|permission|can't (run this command|access)/i.test(messageOf(error))

export const isUnknownCommand = (error: unknown): boolean =>
  /unknown (redis )?command/i.test(messageOf(error))

/** A server that refuses whatever is written, whoever does it. */
export const refusesWrites = (error: unknown): boolean =>
  /\b(OOM|READONLY|MISCONF|NOREPLICAS)\b/.test(messageOf(error))

/** What to do about an error that is not about permissions. */
export const adviceFor = (error: unknown): string =>
  /\bOOM\b/.test(messageOf(error))
    ? "Give the server more memory (maxmemory), or locks a server of their own."
    : /\bREADONLY\b/.test(messageOf(error))
      ? "Connect to the master, or by --sentinel."
      : "Look into the server's log."
