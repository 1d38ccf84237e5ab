/** What a look at a key found. */
import type { HeldEntry, Kind, Look, PendingEntry } from "../engine.js"
import { incarnationOf } from "../common/token.js"

const kinds: Record<string, Kind> = {
  lock: "lock",
  semaphore: "semaphore",
  rwlock: "readWriteLock"
}

interface ReadClaim {
  readonly kind: Kind | undefined
  readonly share: number
  readonly limit: number
  readonly owner: string | undefined
}

/** As a protocol writes it (before there were versions: the owner alone). */
const readClaim = (text: string): ReadClaim => {
  const [, kind, rest] = /^([a-z]+)\/\d+ \d+ ([^]*)$/.exec(text) ?? []
  if (kind === undefined || rest === undefined) {
    return { kind: "lock", share: 1, limit: 1, owner: text === "" ? undefined : text }
  }
  const [, share, limit, owner] = /^(\d+) (\d+) ([^]*)$/.exec(rest) ?? []
  return kind === "lock" || share === undefined || limit === undefined
    ? { kind: kinds[kind], share: 1, limit: 1, owner: rest }
    : { kind: kinds[kind], share: Number(share), limit: Number(limit), owner }
}

/** Between that and now, in whole milliseconds of the server's clock. */
const since = (micros: string, nowMillis: number): number =>
  Math.max(0, nowMillis - Math.floor(Number(micros) / 1_000))

const incarnation = (store: string): string | undefined =>
  store === "" ? undefined : incarnationOf(store.replace("!", ""))

const readHeld = (entry: unknown, isForeign: boolean, nowMillis: number): HeldEntry => {
  const [left, known, store, id] = entry as [number | string, string, string, string]
  const [, fence, claim] = /^(\d+) ([^]*)$/.exec(String(known)) ?? []
  const { limit, owner, share } = readClaim(claim ?? "")
  return {
    owner: isForeign ? undefined : owner,
    heldForMillis: isForeign || fence === undefined ? undefined : since(fence, nowMillis),
    foreign: isForeign,
    share,
    limit,
    fencingToken: isForeign || fence === undefined ? undefined : Number(fence),
    incarnation: incarnation(store),
    isLeft: store.endsWith("!"),
    ttlLeftMillis: Number(left) < 0 ? undefined : Number(left),
    id
  }
}

type Waiting = [came: string, claim: string, store: string, id: string]

const readPending = ([came, claim, store, id]: Waiting, nowMillis: number): PendingEntry => {
  const { limit, owner, share } = readClaim(claim)
  return {
    owner,
    share,
    limit,
    waitedMillis: since(came, nowMillis),
    incarnation: incarnation(store),
    id
  }
}

/** `undefined`: not an answer of the script. */
export const readLook = (reply: unknown, waitingHere: number): Look | undefined => {
  if (!Array.isArray(reply) || reply.length !== 10) return undefined
  const [kind, inUse, count, least, held, queued, queuedCount, time, revoked, tick] =
    reply as ReadonlyArray<unknown>
  if (!Array.isArray(held) || !Array.isArray(queued) || !Array.isArray(revoked)) return undefined
  const atMillis = Math.floor(Number(time) / 1_000)
  const waiting = queued as ReadonlyArray<Waiting>
  const [first] = waiting
  return {
    // what a foreign program holds, it holds as a lock is held
    kind:
      kind === "foreign"
        ? "lock"
        : (kinds[String(kind)] ?? (first === undefined ? undefined : readClaim(first[1]).kind)),
    limit: Number(count) === 0 ? undefined : Number(least),
    inUse: Number(inUse),
    held: held.map((entry) => readHeld(entry, kind === "foreign", atMillis)),
    pending: waiting.map((entry) => readPending(entry, atMillis)),
    heldCount: Number(count),
    pendingCount: Number(queuedCount),
    atMillis,
    waitingHere,
    revoked: revoked.map(Number),
    lastTick: tick === "" ? undefined : Number(tick)
  }
}
