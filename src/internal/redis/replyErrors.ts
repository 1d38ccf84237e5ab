/** What can be said of an error of the client or the server without looking further. */

/** The name of the store is left, so that it can be told whose it was. */
export const withoutTokens = (text: string): string =>
  text.replace(/(erl1:[\w-]+)\.[\w-]{8,}/g, "$1.***")

export const closedMessage = "The lock store is closed."

export const isServerError = (error: unknown): error is Error =>
  error instanceof Error && error.name === "ReplyError"

/** Where in a script it was: before the message up to Redis 6.2, behind it since. */
const inScript =
  /^ERR Error running script \(call to [^)]*\): (?:@user_script: ?\d+: )*-?|\.? script: (?:[0-9a-f]{40}, )?on @user_script:\d+\.?/g

/** What such an error repeats: the text of a script, or keys and owners. */
const whatWasSent = /,? with args beginning with:[^]*/

export const messageOf = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error))
    .replace(inScript, "")
    .replace(whatWasSent, "")
    .replace(/^ERR (?=(NOTIME|NORUN) )/, "")

/** In the words of servers, services and proxies. */
export const runsNoScripts =
  /(unknown|unsupported) .*\beval|\beval(sha)?\b.* not (allowed|support)|\bscript\w* .*disabled/i

/**
 * The key's slot is on its way to another node of the Cluster: some of the command's keys are still here, some
 * are there already, or nobody has them. Nothing was done. (ioredis tries again some times before it says so.)
 */
export const isOnItsWay = (error: unknown): boolean =>
  /^(TRYAGAIN|Too many Cluster redirections\. Last error: (ReplyError: )?(TRYAGAIN|ASK|MOVED) )/.test(
    messageOf(error)
  )

/**
 * No node of the Cluster serves the key's slot, or the Cluster as a whole serves nobody. Nothing was done.
 * (ioredis tries again some times before it says so.)
 */
export const isDown = (error: unknown): boolean =>
  /^(Too many Cluster redirections\. Last error: (ReplyError: )?)?CLUSTERDOWN/.test(
    messageOf(error)
  )

/**
 * The server does not know the script, and has done nothing. (As the last of ioredis's tries in a Cluster that
 * was down, it is told with those.)
 */
export const lacksScript = (error: unknown): boolean =>
  /^(Too many Cluster redirections\. Last error: (ReplyError: )?)?NOSCRIPT/.test(messageOf(error))

/** The server is there, has done nothing, and may do it in a while. */
export const isPassing = (error: unknown): boolean => isOnItsWay(error) || isDown(error)

/** As ioredis says it. */
export const connectionClosed = (): Error => new Error("Connection is closed.")

/** What the server has refused and will go on to refuse. */
export const isFinal = (error: unknown): boolean => {
  if (!isServerError(error)) return false
  const message = messageOf(error)
  return (
    runsNoScripts.test(message) ||
    /^(WRONGTYPE|NOPERM|NOAUTH|WRONGPASS|CROSSSLOT|MOVED|NOTIME|NORUN|The address is that of a Sentinel)|unknown command|no permissions|can't run this command|can't access/i.test(
      message
    )
  )
}
