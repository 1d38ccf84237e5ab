/**
 * The checks on options, and their defaults. Plain TypeScript: durations are milliseconds here.
 */
import { drift } from "./timing.js"

export const minTtl = 10
export const maxOwnerLength = 1_024
export const maxKeyLength = 65_536
export const maxLimit = 1_000_000

/** Options as the user gave them, durations decoded; `undefined` where not given. */
export interface RawOptions {
  readonly ttl: number | undefined
  readonly renewEvery: number | undefined
  readonly waitAtMost: number | undefined
  readonly warnAfter: number | undefined
  readonly margin: number | undefined
  readonly owner: string | undefined
  readonly name: string | undefined
}

export interface LeaseOptions {
  readonly ttlMillis: number
  readonly renewEveryMillis: number
  readonly waitMillis: number
  readonly warnAfterMillis: number
  readonly marginMillis: number
  readonly owner: string | undefined
  readonly name: string | undefined
  /** (Where it is given: a member that is not there costs nothing.) */
  readonly maxHoldMillis?: number
  readonly holdAtLeastMillis?: number
  /** Where it was adopted: the fencing token of the grant from which these two are counted. */
  readonly firstFencingToken?: number
}

/** A sentence that names an impossible option, and its value. */
export const impossible = (option: string, value: unknown, why: string): string =>
  `Impossible lock option ${option}: ${show(value)}${
    typeof value === "number" && durations.has(option) ? " ms" : ""
  }. ${why}`

const durations: ReadonlySet<string> = new Set([
  "ttl",
  "renewEvery",
  "margin",
  "waitAtMost",
  "warnAfter",
  "every",
  "maxHold",
  "holdAtLeast",
  "longestTtl",
  "nodeTimeout"
])

export const show = (value: unknown): string => {
  const text =
    typeof value === "string"
      ? JSON.stringify(value)
      : Array.isArray(value) && value.length === 0
        ? "[]"
        : typeof value === "object" && value !== null
          ? Object.prototype.toString.call(value)
          : String(value)
  return text.length > 100 ? `${text.slice(0, 100)}… (${text.length} characters)` : text
}

/** Says what is wrong with a key, or nothing. */
export const checkKey = (key: unknown, option = "key"): string | undefined => {
  if (typeof key !== "string") return impossible(option, key, "A key must be a string.")
  if (key.length === 0) return impossible(option, key, "A key must have at least one character.")
  if (key.length > maxKeyLength) {
    return impossible(option, key, `A key must have at most ${maxKeyLength} characters.`)
  }
  if (/\p{Surrogate}/u.test(key)) {
    return impossible(option, key, "It contains half of a surrogate pair, which cannot be stored.")
  }
  return undefined
}

/** Says what is wrong with the beginning of keys, or nothing. */
export const checkPrefix = (prefix: unknown): string | undefined =>
  prefix === "" ? undefined : checkKey(prefix, "prefix")?.replace("A key must", "It must")

/** Says what is wrong with several keys, or nothing. */
export const checkKeys = (keys: unknown): string | undefined => {
  if (!Array.isArray(keys)) return impossible("keys", keys, "They must be an array of strings.")
  if (keys.length === 0) return impossible("keys", keys, "There must be at least one key.")
  for (const key of keys) {
    const wrong = checkKey(key)
    if (wrong !== undefined) return wrong
  }
  return undefined
}

/** Says what is wrong with a limit, or with a number of permits, or nothing. */
export const checkPermits = (limit: unknown, permits: unknown): string | undefined =>
  isWhole(limit, maxLimit)
    ? isWhole(permits, limit)
      ? undefined
      : impossible("permits", permits, `It must be a whole number from 1 to the limit, ${limit}.`)
    : impossible("limit", limit, `It must be a whole number from 1 to ${maxLimit}.`)

/** What is said to a fiber that asks, as `reentrant`, for more permits than it is inside of. */
export const notSoManyPermits = (key: string, permits: number, own: number): string =>
  impossible(
    "permits",
    permits,
    `With reentrant: true, inner code shares the permits of ${show(key)} that its fiber has, and these are ${own}. Take as many outside as the work inside needs.`
  )

/** What is said to a fiber that asks, as `reentrant`, for keys of which no lease of its own has all. */
export const notAllInOne = (keys: ReadonlyArray<string>): string => {
  const all = JSON.stringify(keys)
  return `Impossible lock option keys: ${all.length > 200 ? `${all.slice(0, 200)}…` : all}. With reentrant: true, inner code shares the lease that its fiber has, and that has some of these keys and not all of them: it would wait for itself for ever. Take all of them outside, in one MultiLock.`
}

/** Says what is wrong with the nodes of a quorum, or nothing. */
export const checkNodes = (nodes: unknown): string | undefined => {
  const why = "A quorum needs an odd number of nodes, and at least 3:"
  if (!Array.isArray(nodes)) return impossible("nodes", nodes, "It must be an array of layers.")
  const { length } = nodes
  if (length < 3) {
    return impossible("nodes", length, `${why} fewer cannot lose one and have a majority left.`)
  }
  return length % 2 === 1
    ? undefined
    : impossible(
        "nodes",
        length,
        `${why} one more than ${length - 1} can fail, and no more may do so.`
      )
}

/** Says what is wrong with a time of a quorum, or nothing. */
export const checkQuorumTime = (option: string, millis: number): string | undefined =>
  Number.isSafeInteger(Math.floor(millis)) && millis >= minTtl
    ? undefined
    : impossible(option, millis, `It must be a finite duration of at least ${minTtl} ms.`)

/** Says what is wrong with a flag, or nothing. */
export const checkFlag = (option: string, value: unknown): string | undefined =>
  value === undefined || typeof value === "boolean"
    ? undefined
    : impossible(option, value, "It must be true or false.")

/** Says what is wrong with the time between two looks, or nothing. */
export const checkEvery = (every: number, least = minTtl): string | undefined =>
  Number.isFinite(every) && every >= least
    ? undefined
    : impossible("every", every, `It must be finite, and at least ${least} ms.`)

/** Says what is wrong with a schedule, or nothing. */
export const checkSchedule = (retry: unknown, isSchedule: boolean): string | undefined =>
  isSchedule ? undefined : impossible("retry", retry, "It must be a Schedule.")

/** Says what is wrong with a fencing token, or nothing. */
export const checkFencingToken = (fencingToken: unknown): string | undefined =>
  isWhole(fencingToken, Number.MAX_SAFE_INTEGER)
    ? undefined
    : impossible("fencingToken", fencingToken, "It must be a whole number, and at least 1.")

/** What is said to a fiber that holds a read of the key, and asks for the write lock. */
export const impossibleUpgrade = (key: string): string =>
  `Impossible upgrade of the read-write lock ${show(key)}: its write lock was asked for by a fiber that holds a read of it, or that was forked from one that does. A writer waits for the readers inside, so it would wait for itself for ever. End the read first, or take the write lock from the beginning: it can be downgraded to a read.`

const isWhole = (value: unknown, most: number): value is number =>
  Number.isInteger(value) && (value as number) >= 1 && (value as number) <= most

/** The message for a duration that cannot be read as one. */
export const notADuration = (option: string, value: unknown): string =>
  impossible(
    option,
    value,
    'It must be a duration, for example "5 seconds" or 5000 (milliseconds).'
  )

/** The options with their defaults, or a sentence that names the impossible one. */
export const resolveOptions = (raw: RawOptions): LeaseOptions | string => {
  const ttl = raw.ttl ?? 5_000
  if (!Number.isFinite(ttl) || ttl < minTtl) {
    return impossible("ttl", ttl, `It must be finite, and at least ${minTtl} ms.`)
  }
  const ttlMillis = Math.floor(ttl)
  if (!Number.isSafeInteger(ttlMillis * 1_000)) {
    return impossible("ttl", ttl, "It must be at most 9007199254740 ms (some 285 years).")
  }
  const renewEveryMillis = raw.renewEvery ?? ttlMillis / 2
  const validity = ttlMillis - drift(ttlMillis)
  if (!(renewEveryMillis > 0) || renewEveryMillis >= validity) {
    return impossible(
      "renewEvery",
      renewEveryMillis,
      `It must be more than 0, and less than the time for which a new lease is proven (${validity} ms with a ttl of ${ttlMillis} ms): a later renewal would be too late.`
    )
  }
  const room = validity - renewEveryMillis
  const marginMillis = raw.margin ?? Math.min(ttlMillis / 10, room / 4)
  if (!(marginMillis >= 0) || marginMillis >= room) {
    return impossible(
      "margin",
      marginMillis,
      `It must be less than ${room} ms with a ttl of ${ttlMillis} ms and a renewal every ${renewEveryMillis} ms, so that there is time for a renewal.`
    )
  }
  const waitMillis = raw.waitAtMost ?? Number.POSITIVE_INFINITY
  if (!(waitMillis >= 0)) return impossible("waitAtMost", waitMillis, "It cannot be negative.")
  const warnAfterMillis = raw.warnAfter ?? 10_000
  if (!(warnAfterMillis > 0)) {
    return impossible("warnAfter", warnAfterMillis, "It must be more than 0.")
  }
  const wrong = checkText("owner", raw.owner) ?? checkText("name", raw.name)
  if (wrong !== undefined) return wrong
  return {
    ttlMillis,
    renewEveryMillis,
    waitMillis,
    warnAfterMillis,
    marginMillis,
    owner: raw.owner,
    name: raw.name
  }
}

/** The same, with how long a lease may be held, and must be; or a sentence. */
export const withHolds = (
  options: LeaseOptions,
  maxHold: number | undefined,
  holdAtLeast: number | undefined
): LeaseOptions | string => {
  const { ttlMillis } = options
  if (maxHold !== undefined && !(Number.isFinite(maxHold) && maxHold >= ttlMillis)) {
    const least = `at least the ttl, which is ${ttlMillis} ms`
    return impossible("maxHold", maxHold, `It must be finite, and ${least}.`)
  }
  if (holdAtLeast !== undefined && !(Number.isFinite(holdAtLeast) && holdAtLeast >= 0)) {
    return impossible("holdAtLeast", holdAtLeast, "It must be finite, and cannot be negative.")
  }
  if (maxHold !== undefined && holdAtLeast !== undefined && holdAtLeast > maxHold) {
    const most = `It must be at most maxHold, which is ${maxHold} ms.`
    return impossible("holdAtLeast", holdAtLeast, most)
  }
  for (const [option, value] of Object.entries({ maxHold, holdAtLeast })) {
    if (value === undefined || Number.isSafeInteger(Math.ceil(value) * 1_000)) continue
    return impossible(option, value, "It must be at most 9007199254740 ms (some 285 years).")
  }
  const most = maxHold === undefined ? {} : { maxHoldMillis: Math.floor(maxHold) }
  const least = holdAtLeast ? { holdAtLeastMillis: Math.ceil(holdAtLeast) } : {}
  return { ...options, ...most, ...least }
}

const checkText = (option: string, value: unknown): string | undefined =>
  value === undefined
    ? undefined
    : typeof value !== "string"
      ? impossible(option, value, "It must be a string.")
      : value.length > maxOwnerLength
        ? impossible(option, value, `It must have at most ${maxOwnerLength} characters.`)
        : undefined
