/** The seal of a handle: whoever changes what it says, and does not know how it is made, is found out. */
import { createHash } from "node:crypto"

/** `parts`: all that the handle says, but for its token. */
export const sealOf = (token: string, parts: ReadonlyArray<unknown>): string =>
  createHash("sha256")
    .update(JSON.stringify([token, ...parts.map((part) => part ?? null)]))
    .digest("base64url")
    .slice(0, 22)
