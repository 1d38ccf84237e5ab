/**
 * Whether locks may travel together. Behind a proxy that sends each command to the server that its
 * first key belongs to, a call with several locks would put all of them where the first one lives. So
 * some keys are set by calls of their own, and one call looks for all of them: two servers that share
 * the keys evenly would be taken for one in one of 32,768 cases.
 *
 * It is asked once, when two calls meet in a turn for the first time; they travel singly until then.
 */
import type { Call, Outcome } from "./call.js"
import type { LockClock } from "../engine.js"
import { makeToken } from "../common/token.js"
import { isServerError } from "./replyErrors.js"
import * as scripts from "./scripts.js"

/** What the probe needs of `Commands`. */
export interface Asker {
  readonly clock: LockClock
  readonly timeoutMillis: number
  call(script: scripts.Script, keys: ReadonlyArray<string>, args: ReadonlyArray<string>): Call
}

const keyCount = 16
/** How long to wait after a try that was not answered. */
const pauseMillis = 1_000

export class Probe {
  private state: "unknown" | "asking" | "known" = "unknown"
  private notBefore = Number.NEGATIVE_INFINITY

  constructor(
    private readonly asker: Asker,
    private readonly prefix: string,
    private readonly onFound: () => void
  ) {}

  ask(): void {
    if (this.state !== "unknown" || this.asker.clock.unsafeNow() < this.notBefore) return
    this.state = "asking"
    // (a suffix that no lock has)
    const value = makeToken("probe")
    const keys = Array.from(
      { length: keyCount },
      (_, i) => `${this.prefix}${value.slice(6)}:${i}:lock-record`
    )
    let left = keys.length
    for (const key of keys) {
      this.within(this.asker.call(scripts.probeOne, [key], [value]), () => {
        if (--left === 0) this.askForAll(keys, value)
      })
    }
  }

  private askForAll(keys: ReadonlyArray<string>, value: string): void {
    this.within(this.asker.call(scripts.probeAll, keys, [value]), (reply) => {
      this.state = "known"
      if (Number(reply) === 1) this.onFound()
    })
  }

  private within(call: Call, next: (reply: unknown) => void): void {
    call.within(this.asker.timeoutMillis, (outcome: Outcome) => {
      if (this.state !== "asking") return
      if (outcome._tag === "Answered") return next(outcome.reply)
      // refused (several slots, keys that an ACL does not allow): singly, for good
      if (outcome._tag === "Failed" && isServerError(outcome.error)) {
        this.state = "known"
      } else {
        this.state = "unknown"
        this.notBefore = this.asker.clock.unsafeNow() + pauseMillis
      }
    })
  }
}
