/** What the scripts answer. A user's client can be set to give numbers as strings. */
import type { Ownership } from "../../LockStore.js"
import type { Outcome } from "./commands.js"

/** Why a lock was not granted. */
export interface Busy {
  readonly leftMillis: number | undefined
  readonly foreign: boolean
  readonly owner: string | undefined
  readonly heldForMillis: number | undefined
  /** How many stand before the asker in the queue; -1 if it does not stand there. */
  readonly rank: number
}

/** A fencing token has 16 digits; the short numbers are codes. */
export const readFence = (reply: unknown): number | undefined =>
  (typeof reply === "string" || typeof reply === "number") && /^\d{6,16}$/.test(String(reply))
    ? Number(reply)
    : undefined

/** Of a heartbeat: the token is neither queued nor granted. */
export const isNowhere = (reply: unknown): boolean => String(reply) === "0"

export const readBusy = (reply: unknown): Busy | undefined => {
  if (!Array.isArray(reply) || reply.length !== 5) return undefined
  const left = Number(reply[0])
  const foreign = Number(reply[1]) !== 1
  const record = foreign ? null : /^(\d+) ([^]*)$/.exec(String(reply[2]))
  return {
    leftMillis: left < 0 ? undefined : left,
    foreign,
    owner: record?.[2],
    heldForMillis:
      record === null ? undefined : Math.max(0, (Number(reply[3]) - Number(record[1])) / 1_000),
    rank: Number(reply[4])
  }
}

export const readOwnership = (outcome: Outcome): Ownership | undefined => {
  if (outcome._tag !== "Answered") return undefined
  switch (String(outcome.reply)) {
    case "1":
      return "Ours"
    case "0":
      return "Missing"
    case "2":
      return "Taken"
    default:
      return undefined
  }
}
