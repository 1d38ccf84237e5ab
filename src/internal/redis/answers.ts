/** What the scripts answer. A user's client can be set to give numbers as strings. */
import type { LossReason, Ownership } from "../engine.js"
import type { Outcome } from "./call.js"
import { fencingBlock } from "./lua.js"

/** Why a lock was not granted. */
export interface Busy {
  readonly leftMillis: number | undefined
  readonly foreign: boolean
  readonly owner: string | undefined
  readonly heldForMillis: number | undefined
  /** The last that was minted for the key, or 0: a grant with no greater one is an old one. */
  readonly lastFence: number
  /** The server's time of the answer, in µs. */
  readonly micros: number
  /** How many stand before the asker in the queue; -1 if it does not stand there. */
  readonly rank: number
  /** The smallest limit among the holders; `undefined` where that is not told, or there are none. */
  readonly limit: number | undefined
}

export const replyOf = (outcome: Outcome): unknown =>
  outcome._tag === "Answered" ? outcome.reply : undefined

/** A whole number that is one here as well, as a number or as its digits. */
const readNumber = (reply: unknown): number | undefined => {
  const number = typeof reply === "string" ? Number(reply) : reply
  if (!Number.isSafeInteger(number)) return undefined
  // (not "", "1e3" or "0x10")
  return number === reply || String(number) === reply ? (number as number) : undefined
}

/** A fencing token has 16 digits; the short numbers are codes. */
const asFence = (reply: unknown): number | undefined => {
  const fence = readNumber(reply)
  return fence !== undefined && fence >= 100_000 ? fence : undefined
}

/**
 * The parts of a grant: its fencing token; and where several can hold the key the smallest fencing token
 * and limit of all holders, and where it was kept the last of the fencing tokens that come with it.
 */
const partOf = (reply: unknown, index: number): unknown => {
  if (typeof reply === "string" && reply.includes(":")) {
    // (of every grant: no list is made)
    let from = 0
    for (let before = 0; before < index; before++) {
      from = reply.indexOf(":", from) + 1
      if (from === 0) return undefined
    }
    const to = reply.indexOf(":", from)
    return to < 0 ? reply.slice(from) : reply.slice(from, to)
  }
  // (of a claim with bounds, see `readBound`)
  const grant: unknown = Array.isArray(reply) && reply.length === 3 ? reply[0] : reply
  return grant !== reply ? partOf(grant, index) : index === 0 ? reply : undefined
}

/** Of a grant. */
export const readFence = (reply: unknown): number | undefined => asFence(partOf(reply, 0))

/** The smallest fencing token among the holders, at a grant of that one. */
export const readFloor = (reply: unknown, fencingToken: number): number =>
  asFence(partOf(reply, 1)) ?? fencingToken

/** Of a lock: how many fencing tokens before that of the grant come with it. */
export const readEarlier = (reply: unknown): number => {
  const count = readNumber(partOf(reply, 1)) ?? 0
  return count > 0 && count < fencingBlock ? count : 0
}

/** The last of the fencing tokens from that of a grant on; `undefined` where that is not told. */
export const readLast = (reply: unknown, fencingToken: number): number | undefined => {
  const last = readNumber(partOf(reply, 3))
  if (last === undefined) return undefined
  return last > fencingToken && last - fencingToken < fencingBlock ? last : fencingToken
}

/** The smallest limit among the holders, at a grant; `undefined` where that is not told. */
export const readLimit = (reply: unknown): number | undefined => readNumber(partOf(reply, 2))

/** What is told of a grant. */
export interface Told {
  readonly fencingToken: number
  readonly fencingFloor: number
  /** The smallest limit of all holders; `undefined` where that is not told. */
  readonly leastLimit: number | undefined
  /** The last of the fencing tokens that come with it; `undefined`: none come behind it. */
  readonly lastToken?: number | undefined
  /** How many come before it. */
  readonly earlierTokens?: number
  /** Of a message: the server's time of the last heartbeat that had come to it, in ms. */
  readonly beatMillis?: number
  /** Of a claim with `maxHold`: what is left of it. */
  readonly holdMillis?: number | undefined
}

/** Of a grant with that fencing token. */
export const toldBy = (reply: unknown, fencingToken: number): Told => ({
  fencingToken,
  fencingFloor: readFloor(reply, fencingToken),
  leastLimit: readLimit(reply),
  lastToken: readLast(reply, fencingToken)
})

/** Of a claim with bounds: what is left of its lease, beside the answer to a plain one. */
export interface BoundAnswer {
  /** Of its ttl. */
  readonly leftMillis: number
  /** Of `maxHold`; `undefined` where it has none. */
  readonly holdMillis: number | undefined
}

export const readBound = (reply: unknown): BoundAnswer | undefined => {
  if (!Array.isArray(reply) || reply.length !== 3) return undefined
  const [leftMillis, holdMillis] = [readNumber(reply[1]), readNumber(reply[2])]
  if (leftMillis === undefined || holdMillis === undefined) return undefined
  return { leftMillis, holdMillis: holdMillis < 0 ? undefined : holdMillis }
}

/** Of a claim with a tick: the last one that was granted, where the claim's is not later. */
export const readLastTick = (reply: unknown): number | undefined =>
  Array.isArray(reply) && reply.length === 2 && reply[0] === "tick"
    ? readNumber(reply[1])
    : undefined

/** Of a node of a quorum that does not count yet: for how many ms. */
export const readJoining = (reply: unknown): number | undefined =>
  Array.isArray(reply) && reply.length === 2 && reply[0] === "joining"
    ? readNumber(reply[1])
    : undefined

/** Of a heartbeat: the token is neither queued nor granted. */
export const isNowhere = (reply: unknown): boolean => readNumber(reply) === 0

export const readBusy = (reply: unknown): Busy | undefined => {
  if (!Array.isArray(reply) || (reply.length !== 5 && reply.length !== 7)) return undefined
  const [left, ours, micros, rank] = [reply[0], reply[1], reply[3], reply[4]].map(readNumber)
  if (left === undefined || ours === undefined || micros === undefined || rank === undefined) {
    return undefined
  }
  const foreign = ours !== 1
  // (what is not known of the owner's name is what stood there before there were versions)
  const last = /^(\d+) (?:lock\/\d+ \d+ |[a-z]+\/\d+ \d+ \d+ \d+ )?([^]*)$/.exec(String(reply[2]))
  const record = foreign ? null : last
  return {
    leftMillis: left < 0 ? undefined : left,
    foreign,
    owner: record?.[2],
    heldForMillis: record === null ? undefined : Math.max(0, (micros - Number(record[1])) / 1_000),
    lastFence: readNumber(reply[5]) ?? Number(last?.[1] ?? 0),
    micros,
    rank,
    limit: readNumber(reply[6]) || undefined
  }
}

/** Whether it was done; `undefined`: that is not known. */
export const readDone = (outcome: Outcome): boolean | undefined => {
  const answer = outcome._tag === "Answered" ? readNumber(outcome.reply) : undefined
  return answer === 1 ? true : answer === 0 ? false : undefined
}

/** Of an adoption: why there is nothing to take over. */
export const readAdoption = (outcome: Outcome): LossReason | undefined => {
  const found = readOwnership(outcome)
  if (found !== undefined) return found === "Ours" ? undefined : found
  return readNumber(replyOf(outcome)) === 4 ? "MaxHold" : undefined
}

export const readOwnership = (outcome: Outcome): Ownership | undefined => {
  if (outcome._tag !== "Answered") return undefined
  switch (readNumber(outcome.reply)) {
    case 1:
      return "Ours"
    case 0:
      return "Missing"
    case 2:
      return "Taken"
    case 3:
      return "Revoked"
    default:
      return undefined
  }
}
