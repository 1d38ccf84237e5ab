/** What can be said of an error of the client or the server without looking further. */
import type { ClientOptions } from "./client.js"

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
 * ioredis attaches the command to its errors, with all arguments, and Redis repeats those of a
 * command that it does not know: a password, or a token. Errors are printed and logged; these must
 * not be.
 */
export const withoutSecrets = (options: ClientOptions, error: unknown): unknown => {
  if (!(error instanceof Error)) return error
  const { password, redisOptions, sentinelPassword } = options
  const hide = (text: string) =>
    [password, sentinelPassword, redisOptions?.password].reduce<string>(
      (shown, secret) =>
        secret === undefined || secret === null || secret === ""
          ? shown
          : shown.replaceAll(secret, "***"),
      withoutTokens(text)
    )
  const clean = new Error(hide(messageOf(error)))
  clean.name = error.name
  if (error.stack !== undefined) clean.stack = hide(error.stack)
  return "code" in error ? Object.assign(clean, { code: error.code }) : clean
}

/** What the server has refused and will go on to refuse. */
export const isFinal = (error: unknown): boolean =>
  isServerError(error) &&
  /^(WRONGTYPE|NOPERM|NOAUTH|WRONGPASS|CROSSSLOT)|unknown command|no permissions|can't run this command|can't access/i.test(
    messageOf(error)
  )
