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

const readHeld = (entry: unknown, isForeign: boolean, micros: number): HeldEntry => {
  const [left, known, store] = entry as [number | string, string, string | undefined]
  const [, fence, claim] = /^(\d+) ([^]*)$/.exec(String(known)) ?? []
  const { limit, owner, share } = readClaim(claim ?? "")
  return {
    owner: isForeign ? undefined : owner,
    heldForMillis:
      isForeign || fence === undefined
        ? undefined
        : Math.max(0, Math.round((micros - Number(fence)) / 1_000)),
    foreign: isForeign,
    share,
    limit,
    fencingToken: isForeign || fence === undefined ? undefined : Number(fence),
    incarnation: store === undefined ? undefined : incarnationOf(store.replace("!", "")),
    isLeft: store?.endsWith("!") === true,
    ttlLeftMillis: Number(left) < 0 ? undefined : Number(left)
  }
}

const readPending = (entry: unknown): PendingEntry & { readonly kind: Kind | undefined } => {
  const [waited, claim] = entry as [number | string, string]
  return { ...readClaim(String(claim)), waitedMillis: Number(waited) }
}

/** `undefined`: not an answer of the script. */
export const readLook = (reply: unknown): Look | undefined => {
  if (!Array.isArray(reply) || reply.length !== 8) return undefined
  const [kind, inUse, count, least, held, queued, queuedCount, time] =
    reply as ReadonlyArray<unknown>
  if (!Array.isArray(held) || !Array.isArray(queued)) return undefined
  const micros = Number(time)
  const waiting = queued.map(readPending)
  return {
    // what a foreign program holds, it holds as a lock is held
    kind: kind === "foreign" ? "lock" : (kinds[String(kind)] ?? waiting[0]?.kind),
    limit: Number(count) === 0 ? undefined : Number(least),
    inUse: Number(inUse),
    held: held.map((entry) => readHeld(entry, kind === "foreign", micros)),
    pending: waiting.map(({ limit, owner, share, waitedMillis }) => ({
      owner,
      share,
      limit,
      waitedMillis
    })),
    heldCount: Number(count),
    pendingCount: Number(queuedCount)
  }
}
