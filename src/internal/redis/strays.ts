/**
 * Grants for tokens that nobody here has any more: an acquire can come to the server behind the release
 * that was to undo it, from a connection that was given up.
 */
import type { LockKeys } from "./layout.js"
import type { Protocol } from "./protocol.js"
import type { Surroundings } from "./surroundings.js"

/** So many are given back in a heartbeat: who sends more has made them up. */
const most = 16

export class Strays {
  private count = 0

  constructor(private readonly around: Surroundings) {}

  get areMany(): boolean {
    return this.count >= most
  }

  giveBack(protocol: Protocol, keys: LockKeys, token: string, ttlMillis: number): void {
    const { commands, heartbeatMillis } = this.around
    const { clock } = commands
    this.count++
    clock.unsafeSchedule(clock.unsafeNow() + heartbeatMillis, () => this.count--)
    commands.giveBack(undefined, protocol, keys, token, Math.min(ttlMillis, 3 * heartbeatMillis))
  }
}
