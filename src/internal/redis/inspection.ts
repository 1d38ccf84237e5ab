/** What operators do with a key: they look at it, and free it by force. */
import { type Forget, type Look, StoreFailure } from "../engine.js"
import { makeToken } from "../common/token.js"
import { readDone, replyOf } from "./answers.js"
import { storeError } from "./errors.js"
import type { LockKeys } from "./layout.js"
import { readLook } from "./look.js"
import { look } from "./lookScript.js"
import { revoke } from "./revokeScript.js"
import type { Surroundings } from "./surroundings.js"

export class Inspection {
  constructor(
    private readonly around: Surroundings,
    /** All keys that there can be, or a sentence that says why there are none. */
    private readonly keysOf: (key: string) => LockKeys | string
  ) {}

  look(key: string, atMost: number, onExit: (exit: Look | StoreFailure) => void): Forget {
    const { commands } = this.around
    const keys = this.keysOf(key)
    if (typeof keys === "string") {
      onExit(new StoreFailure("look", key, keys, false))
      return nothing
    }
    const call = commands.call(look, keys, [String(atMost)])
    return call.within(commands.timeoutMillis, (outcome) =>
      onExit(readLook(replyOf(outcome)) ?? storeError(commands, "look", key, outcome))
    )
  }

  /** Whether this request has ended the lease with that fencing token. */
  revoke(
    key: string,
    fencingToken: number,
    onExit: (exit: boolean | StoreFailure) => void
  ): Forget {
    const { commands, revokedKey, storeId } = this.around
    const keys = this.keysOf(key)
    if (typeof keys === "string") {
      onExit(new StoreFailure("revoke", key, keys, false))
      return nothing
    }
    // (a name for the request: as any, no other one has it)
    const args = [String(fencingToken), makeToken(storeId)]
    const call = commands.call(revoke, keys.concat(revokedKey(key)), args)
    return call.within(commands.timeoutMillis, (outcome) =>
      onExit(readDone(outcome) ?? storeError(commands, "revoke", key, outcome))
    )
  }
}

const nothing = (): void => {}
