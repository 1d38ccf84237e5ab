/** What ioredis and Redis say, in words that a person can act on. */
import { messageOf } from "./commands.js"

const advice: ReadonlyArray<readonly [RegExp, string]> = [
  [/^(NOAUTH|WRONGPASS)|invalid (username|password)/i, "Check the user name and the password."],
  [
    /^NOPERM|this user has no permissions/i,
    "The ACL of this Redis user forbids a command or a key: docs/protocol.md lists what the library needs."
  ],
  [
    /^WRONGTYPE/,
    "The key, or one beside it, holds something that is not a lock. Use another key or prefix."
  ],
  [/^OOM/, "The server is out of memory (maxmemory): nothing was locked."],
  [/^READONLY/, "The server is a read-only replica: connect to the master, or through Sentinel."],
  [/^LOADING/, "The server is still loading its data."],
  [/^BUSY/, "The server is busy with a script that does not end."],
  [/^MISCONF/, "The server cannot save its data and refuses writes."],
  [/^(CLUSTERDOWN|TRYAGAIN|MASTERDOWN)/, "Part of the server is down or changing."],
  [/^CROSSSLOT/, "The keys of one lock are in different Cluster slots. Please report this."],
  [/ECONNREFUSED|ENOENT/, "Nothing listens there: is Redis running, and are host and port right?"],
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
  return found === undefined ? message : `${message}. ${found[1]}`
}

/** Whether the same command can succeed in a moment: the connection's trouble, or a passing state. */
export const isTransient = (error: unknown): boolean =>
  !(error instanceof Error && error.name === "ReplyError") ||
  /^(LOADING|READONLY|CLUSTERDOWN|TRYAGAIN|MASTERDOWN|BUSY )/.test(error.message)
