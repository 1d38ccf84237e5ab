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

export const isDenied = (error: unknown): boolean => /^NOPERM|permission/i.test(messageOf(error))
