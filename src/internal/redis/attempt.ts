import { Link } from "../common/fifo.js"
import type { Claim } from "../engine.js"
import type { Call } from "./call.js"
import type { LockKeys } from "./layout.js"
import type { Line } from "./line.js"
import type { Protocol } from "./protocol.js"
import type { Turn } from "./tenure.js"

/** A single attempt that is under way, and how to give back what it may bring. */
export class Attempt extends Link {
  /** What it has brought. */
  line: Line | undefined = undefined
  turn: Turn | undefined = undefined

  constructor(
    readonly token: string,
    readonly call: Call,
    readonly claim: Claim,
    readonly protocol: Protocol,
    readonly keys: LockKeys
  ) {
    super()
  }
}
