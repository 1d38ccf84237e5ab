/** Errors of ioredis and Redis, with what a user can do about them. */
import { type Claim, type LockStoreOperation, StoreFailure } from "../engine.js"
import type { Outcome } from "./call.js"
import type { Commands } from "./commands.js"
import {
  closedMessage,
  isPassing,
  isServerError,
  messageOf,
  runsNoScripts,
  withoutTokens
} from "./replyErrors.js"
import type { Route } from "./transport.js"

/** A command without a usable answer. */
export const storeError = (
  commands: Commands,
  operation: LockStoreOperation,
  key: string | undefined,
  outcome: Outcome
): StoreFailure => {
  const { timeoutMillis } = commands
  const route = commands.routeOfLock(key ?? "")
  const { lastError } = route
  switch (outcome._tag) {
    case "Answered":
      return new StoreFailure(
        operation,
        key,
        `Redis gave an answer that this library does not expect: ${withoutTokens(JSON.stringify(outcome.reply) ?? "").slice(0, 200)}.`,
        false
      )
    case "Failed":
      return new StoreFailure(
        operation,
        key,
        explain(outcome.error),
        !route.ended && mayPass(outcome.error),
        outcome.error,
        isPassing(outcome.error)
      )
    case "Silent":
      return new StoreFailure(
        operation,
        key,
        `Redis did not answer within ${timeoutMillis} ms. ${
          speaksNoTls(route)
            ? "The connection was not secured: does the server speak TLS on that port?"
            : lastError === undefined
              ? `The connection's state is "${route.status}": is the server overloaded, or the network down?${route.isOwn ? "" : " The store does not replace the connection of a client that you pass in: set socketTimeout in the client's options, so that ioredis gives up a dead connection (and keepAlive against idle timeouts)."}`
              : `The connection's last error: ${explain(lastError)}`
        }`,
        !route.ended && !speaksNoTls(route) && (lastError === undefined || mayPass(lastError)),
        lastError
      )
  }
}

/** Such a server waits for the rest of a command, and does not answer. */
const speaksNoTls = ({ isReady, lastError, options }: Route): boolean =>
  (options.tls ?? options.redisOptions?.tls) !== undefined &&
  !isReady &&
  (lastError === undefined || messageOf(lastError).includes("ETIMEDOUT"))

/** A lease that was granted, but not proven any more when the answer came. */
export const tooLate = (claim: Claim, tookMillis: number): StoreFailure =>
  new StoreFailure(
    "acquire",
    claim.key,
    `Redis took ${Math.round(tookMillis)} ms to answer. With a ttl of ${claim.ttlMillis} ms, the lease was no longer proven to be held by then, so it was given back. Choose a longer ttl, or find out why Redis or this process is slow.`,
    true
  )

/**
 * A release that did not find our token, perhaps because it was applied after the end of the ttl.
 */
export const cameLate = (claim: Claim, tookMillis: number): StoreFailure =>
  new StoreFailure(
    "release",
    claim.key,
    `The release was answered after ${Math.round(tookMillis)} ms. The lease may have ended by its ttl before that, so it is not confirmed that it was released. The lease was still held when the release was sent.`,
    true
  )

const advice: ReadonlyArray<readonly [RegExp, string]> = [
  [
    /^MOVED/,
    "The server is a node of a Cluster: use RedisLockStore.layerCluster({ nodes: [{ host, port }] }), or layerFromClient with a Cluster client."
  ],
  [
    /cluster support disabled|unknown command.*\bcluster\b/i,
    "The server is no node of a Cluster: use RedisLockStore.layer."
  ],
  [
    /unknown command.*\bsentinel\b/i,
    "An address in sentinels is that of a server, and not of a Sentinel: give the server's as url."
  ],
  [
    /sentinel.*(NOAUTH|WRONGPASS|invalid (username|password))/i,
    "Check sentinelUsername and sentinelPassword, which are the Sentinels' own."
  ],
  [
    runsNoScripts,
    "Locks need Lua scripts, by EVAL and EVALSHA: this server, or a proxy before it, does not run them. See docs/guarantees.md, Servers."
  ],
  [/^(NOAUTH|WRONGPASS)|invalid (username|password)/i, "Check the user name and the password."],
  [
    /^NOPERM|no permissions|can't run this command|can't access at least one of the keys/i,
    "The ACL gives this Redis user no permissions for a command or a key that locks need: see docs/protocol.md."
  ],
  [
    /^NOTIME/,
    "Locks need the server's clock: its scripts must be able to ask TIME. See docs/guarantees.md, Servers."
  ],
  [
    /^NORUN/,
    "A node of a quorum needs the server's run_id, to know whether it may have forgotten leases: its scripts must be able to ask INFO server."
  ],
  [
    /bad lua script/i,
    "The service checks the text of scripts, and refuses keys with an index that is computed: switch that off (script_check_enable). See docs/guarantees.md, Servers."
  ],
  [/DB index|SELECT is not/i, "The server does not have the database of the options."],
  [
    /^WRONGTYPE/,
    "The key, or one that the library keeps beside it, contains something else than a lock. Use another key or prefix."
  ],
  [/^OOM/, "The server is out of memory (maxmemory): nothing was locked."],
  [/^READONLY/, "The server is a read-only replica: connect to the master, or through Sentinel."],
  [/^LOADING/, "The server is still loading its data."],
  [/^BUSY/, "The server is busy with a script that does not end."],
  [/^MISCONF/, "The server cannot save its data and refuses writes."],
  [
    /unknown command.*\binfo\b|\binfo\b.*(not allowed|unsupported|disabled)/i,
    "The server does not allow INFO, which ioredis uses to check that the server is ready: set enableReadyCheck: false in the options of the connection (redis: { enableReadyCheck: false })."
  ],
  [
    /^TRYAGAIN|^Too many Cluster redirections.*(TRYAGAIN|ASK|MOVED) /,
    "The key's slot is being moved to another node of the Cluster, which refuses operations on several keys until all of them have moved. Nothing was done; try again in a moment."
  ],
  [
    /CLUSTERDOWN.*slot not served/i,
    "No node of the Cluster serves the key's slot. Nothing was done; try again when one does."
  ],
  [
    /^(Too many Cluster redirections.*)?CLUSTERDOWN/,
    "The Cluster is down, which serves nobody while a slot has no master or most masters are missing. Nothing was done; try again in a moment."
  ],
  [/^MASTERDOWN/, "Part of the server is down, or is being reconfigured."],
  [
    /^OTHERKIND/,
    "A key is of one kind at a time, as long as it is held or waited for: use another key."
  ],
  [/^CROSSSLOT/, "The keys of one lock are in different Cluster slots. Please report this."],
  [
    /ECONNREFUSED|ENOENT/,
    "No server listens at that address: is Redis running, and are host and port right?"
  ],
  [/ENOTFOUND|EAI_AGAIN/, "The host name cannot be resolved."],
  [
    /ECONNRESET|EPIPE|Connection is closed|ETIMEDOUT|EHOSTUNREACH|writeable/,
    "The connection to Redis is down."
  ],
  [/certificate|SSL|TLS/i, "Check the TLS options and the certificate."]
]

export const explain = (error: unknown): string => {
  const message = messageOf(error) || String((error as { code?: unknown }).code ?? error)
  const found = advice.find(([pattern]) => pattern.test(message))
  return found === undefined ? message : `${message.replace(/\.*$/, ".")} ${found[1]}`
}

/**
 * Whether it can succeed later with nothing changed here: also where the server cannot write for
 * now; not where the TLS options do not fit.
 */
const mayPass = (error: unknown): boolean =>
  isTransient(error)
    ? !/certificate|SSL|No Sentinel knows|unknown command/i.test(messageOf(error))
    : /^(OOM|MISCONF|NOREPLICAS)/.test(messageOf(error))

/** Whether the same command can succeed in a moment: the connection's trouble, or a passing state. */
export const isTransient = (error: unknown): boolean =>
  (!isServerError(error) && messageOf(error) !== closedMessage) ||
  /^(LOADING|READONLY|CLUSTERDOWN|TRYAGAIN|MASTERDOWN|BUSY )/.test(messageOf(error))

export const closedError = (key: string): StoreFailure =>
  new StoreFailure("acquire", key, "The store is closed: its layer's scope has ended.", false)

/** What the Cluster has refused for now: a wait goes on. */
export const isPostponed = (outcome: Outcome): boolean =>
  outcome._tag === "Failed" && isPassing(outcome.error)
