/** What can be said of an error of the client or the server without looking further. */

/** The name of the store is left, so that it can be told whose it was. */
export const withoutTokens = (text: string): string =>
  text.replace(/(erl1:[\w-]+)\.[\w-]{8,}/g, "$1.***")

export const closedMessage = "The lock store is closed."

export const isServerError = (error: unknown): error is Error =>
  error instanceof Error && error.name === "ReplyError"

/** Before Redis 7 an error of a script has words before it that say where. */
const inScript = /^ERR Error running script \(call to [^)]*\): (?:@user_script: ?\d+: )*-?/

export const messageOf = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).replace(inScript, "")

/**
 * The key's slot is on its way to another node of the Cluster: some of the command's keys are still here, some
 * are there already, or nobody has them. Nothing was done. (ioredis tries again some times before it says so.)
 */
export const isOnItsWay = (error: unknown): boolean =>
  /^(TRYAGAIN|Too many Cluster redirections\. Last error: (ReplyError: )?(TRYAGAIN|ASK|MOVED) )/.test(
    messageOf(error)
  )

/** What the server has refused and will go on to refuse. */
export const isFinal = (error: unknown): boolean =>
  isServerError(error) &&
  /^(WRONGTYPE|NOPERM|NOAUTH|WRONGPASS|CROSSSLOT|MOVED|The address is that of a Sentinel)|unknown command|no permissions|can't run this command|can't access/i.test(
    messageOf(error)
  )
