/**
 * Tokens: 128 random bits that only their holder knows, behind a mark that tells them from the
 * values that other programs write to the same keys.
 */
import { createHash, randomBytes, randomFillSync } from "node:crypto"

export const tokenMark = "erl1:"

// random bytes are drawn in bulk: a system call for each token would cost more than the token
const pool = Buffer.alloc(16 * 256)
let used = pool.length

/** A new token; `store` says where its holder can be told something. */
export const makeToken = (store: string): string => {
  if (used === pool.length) {
    randomFillSync(pool)
    used = 0
  }
  const token = `${store}.${pool.toString("base64url", used, used + 16)}`
  // what was given out must not stay in memory to be given out again
  pool.fill(0, used, (used += 16))
  return token
}

/** A name of the store that made a token: unlike the token it is no secret, and a restart has another one. */
export const incarnationOf = (token: string): string =>
  token.slice(tokenMark.length).split(".", 1)[0]!

/**
 * A name for a token that does not tell it, and has 16 characters. (The mark of a token whose holder has left
 * it is no part of the token.)
 */
export const idOf = (token: string): string =>
  createHash("sha1").update(token.replace(/!$/, "")).digest("hex").slice(0, 16)

/** The part that all tokens of one store share: the mark, and a name. */
export const makeStoreId = (): string => tokenMark + randomBytes(9).toString("base64url")
