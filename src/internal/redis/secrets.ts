import type { ClientOptions } from "./client.js"
import { messageOf, withoutTokens } from "./replyErrors.js"

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
