/** What operators do with a key: they look at it, and free it by force. And which server it is. */
import { type Forget, type Look, type Page, StoreFailure, type OnAnswer } from "../engine.js"
import { makeToken } from "../common/token.js"
import { readDone, replyOf } from "./answers.js"
import { storeError } from "./errors.js"
import type { LockKeys } from "./layout.js"
import type { Line } from "./line.js"
import { readLook } from "./look.js"
import { look } from "./lookScript.js"
import { identify } from "./nodeScripts.js"
import { revoke } from "./revokeScript.js"
import { readPage, scan, scanArgs } from "./scan.js"
import type { Surroundings } from "./surroundings.js"

export class Inspection {
  constructor(
    private readonly around: Surroundings,
    private readonly prefix: string,
    /** All keys that there can be, or a sentence that says why there are none. */
    private readonly keysOf: (key: string) => LockKeys | string,
    /** What this process has to do with the key. */
    private readonly linesOf: (key: string) => ReadonlyArray<Line>
  ) {}

  look(key: string, atMost: number, ended: ReadonlyArray<number>, onExit: OnAnswer<Look>): Forget {
    const { commands, revokedKey, tickKey } = this.around
    const keys = this.keysOf(key)
    if (typeof keys === "string") {
      onExit(new StoreFailure("look", key, keys, false))
      return nothing
    }
    const args = [String(atMost), ...ended.map(String)]
    const call = commands.call(look, keys.concat(revokedKey(key), tickKey(key)), args)
    return call.within(commands.timeoutMillis, (outcome) => {
      const waiting = this.linesOf(key).reduce((sum, line) => sum + line.waiting, 0)
      onExit(readLook(replyOf(outcome), waiting) ?? storeError(commands, "look", key, outcome))
    })
  }

  keys(prefix: string, from: string | undefined, onExit: OnAnswer<Page>): Forget {
    const { commands } = this.around
    const clientPrefix = commands.transport.options.keyPrefix ?? ""
    const call = commands.call(scan, [], scanArgs(clientPrefix + this.prefix, prefix, from))
    return call.within(commands.timeoutMillis, (outcome) =>
      onExit(
        readPage(replyOf(outcome), clientPrefix, this.prefix, prefix) ??
          storeError(commands, "keys", undefined, outcome)
      )
    )
  }

  /** Which run of a server it is. */
  identify(onExit: OnAnswer<string>): Forget {
    const { commands } = this.around
    // (the key is only where it is sent)
    const call = commands.call(identify, [commands.nodeKey], [])
    return call.within(commands.timeoutMillis, (outcome) => {
      const run = replyOf(outcome)
      onExit(typeof run === "string" ? run : storeError(commands, "acquire", undefined, outcome))
    })
  }

  /** Whether this request has ended the lease with that fencing token. */
  revoke(key: string, fencingToken: number, onExit: OnAnswer<boolean>): Forget {
    const { commands, revokedKey, storeId } = this.around
    const keys = this.keysOf(key)
    if (typeof keys === "string") {
      onExit(new StoreFailure("revoke", key, keys, false))
      return nothing
    }
    // (a name for the request: as any, no other one has it)
    const args = [String(fencingToken), makeToken(storeId)]
    const call = commands.call(revoke, keys.concat(revokedKey(key)), args)
    return call.within(commands.timeoutMillis, (outcome) => {
      const done = readDone(outcome)
      // (a holder of this store, which may not listen)
      if (done === true) for (const line of this.linesOf(key)) line.doubtAll()
      onExit(done ?? storeError(commands, "revoke", key, outcome))
    })
  }
}

const nothing = (): void => {}
