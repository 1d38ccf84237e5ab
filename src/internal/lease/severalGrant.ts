/**
 * Grants of several keys as one grant: proven for as long as each of them is, lost with the first that
 * is lost, renewed and given back together. All are asked in one step, so that a store can send that in
 * one command.
 */
import {
  type Contention,
  type Forget,
  type Grant,
  type LossReason,
  type NotOurs,
  type OwnershipExit,
  Renewed,
  type RenewExit
} from "../engine.js"

/** One of the keys. */
export class GrantedKey {
  validUntil: number
  /** How not to be told of a renewal that is under way. */
  forgetRenewal: Forget | undefined = undefined
  isRenewing = false

  constructor(
    readonly key: string,
    public grant: Grant
  ) {
    this.validUntil = grant.validUntil
  }

  get token(): string {
    return this.grant.token
  }

  get fencingToken(): number {
    return this.grant.fencingToken
  }
}

/**
 * (What is made for every lock is no literal, array or object: V8 tends to move what a hot literal makes
 * to its old generation, where it keeps all that it refers to from being collected young.)
 */
const noKeys: ReadonlyArray<GrantedKey> = []

export class SeveralGrant implements Grant {
  /** In the order in which they are taken. */
  keys = noKeys
  private lost: GrantedKey | undefined = undefined
  private lostBy: NotOurs | undefined = undefined
  private listener: ((reason: NotOurs) => void) | undefined = undefined
  private onRenewal: ((exit: RenewExit) => void) | undefined = undefined

  add(key: string, grant: Grant): void {
    const granted = new GrantedKey(key, grant)
    this.keys = this.keys.concat(granted)
    grant.whenLost((reason) => {
      this.lose(granted, reason)
      this.listener?.(reason)
    })
  }

  // ---------------------------------------------------------------- what is known

  /** Whether none of them is known to be lost, and all are proven. */
  isProven(now: number): boolean {
    return this.lost === undefined && now < this.validUntil
  }

  /** The key that ended it: the one that was lost, or, by the clock, the one with the shortest proof. */
  culprit(reason: LossReason): GrantedKey {
    if (this.lost !== undefined && this.lostBy === reason) return this.lost
    if (reason === "MaxHold") return this.firstToEnd ?? this.shortest
    return reason === "Unreachable" ? this.shortest : this.keys[0]!
  }

  get validUntil(): number {
    return this.shortest.validUntil
  }

  private get shortest(): GrantedKey {
    return this.keys.reduce((least, one) => (one.validUntil < least.validUntil ? one : least))
  }

  /** Of the first that comes to its `maxHold`. */
  get holdUntil(): number | undefined {
    return this.firstToEnd?.grant.holdUntil
  }

  private get firstToEnd(): GrantedKey | undefined {
    return this.keys.reduce<GrantedKey | undefined>((least, one) => {
      const { holdUntil = Number.POSITIVE_INFINITY } = one.grant
      return holdUntil < (least?.grant.holdUntil ?? Number.POSITIVE_INFINITY) ? one : least
    }, undefined)
  }

  /** (Of the first one: who needs those of all asks for `keys`.) */
  get token(): string {
    return this.keys[0]!.grant.token
  }

  get fencingToken(): number {
    return this.keys[0]!.fencingToken
  }

  get fencingFloor(): number {
    return this.keys[0]!.grant.fencingFloor
  }

  get contention(): Contention | undefined {
    return this.keys.find(({ grant }) => grant.contention !== undefined)?.grant.contention
  }

  whenLost(listener: (reason: NotOurs) => void): void {
    this.listener = listener
    if (this.lostBy !== undefined) listener(this.lostBy)
  }

  private lose(key: GrantedKey, reason: NotOurs): void {
    this.lost ??= key
    this.lostBy ??= reason
  }

  // ---------------------------------------------------------------- what is asked of all

  /**
   * Calls back with the first that is lost, or with the first failure, at once; and otherwise when all
   * are renewed. A later call does not ask again for a key whose answer has not come yet.
   */
  renew(onExit: (exit: RenewExit) => void): Forget {
    this.onRenewal = onExit
    const asked = this.keys.filter(({ isRenewing }) => !isRenewing)
    for (const key of asked) key.isRenewing = true
    for (const key of asked) {
      const forget = key.grant.renew((exit) => this.onRenewed(key, exit))
      if (key.isRenewing) key.forgetRenewal = forget
    }
    return () => {
      this.onRenewal = undefined
      for (const key of this.keys) {
        key.forgetRenewal?.()
        key.forgetRenewal = undefined
        key.isRenewing = false
      }
    }
  }

  private onRenewed(key: GrantedKey, exit: RenewExit): void {
    key.isRenewing = false
    key.forgetRenewal = undefined
    if (exit._tag === "Renewed") {
      // (an answer can be older than what is known already)
      key.validUntil = Math.max(key.validUntil, exit.validUntil)
      if (this.keys.some(({ isRenewing }) => isRenewing)) return
      return this.tellRenewal(new Renewed(this.validUntil))
    }
    if (exit._tag === "NotOurs") this.lose(key, exit.reason)
    this.tellRenewal(exit)
  }

  private tellRenewal(exit: RenewExit): void {
    const { onRenewal } = this
    this.onRenewal = undefined
    onRenewal?.(exit)
  }

  verify(onExit: (exit: OwnershipExit) => void): Forget {
    const forget: Array<Forget> = []
    let isForgotten = false
    this.allOf(
      (key, tell) => forget.push(key.grant.verify(tell)),
      (exit) => isForgotten || onExit(exit)
    )
    return () => {
      isForgotten = true
      for (const one of forget) one()
    }
  }

  release(since: number, onExit: (exit: OwnershipExit) => void, unused?: boolean): void {
    this.allOf((key, tell) => key.grant.release(since, tell, unused), onExit)
  }

  /** Asks for each, and answers when all have answered: a loss first of all, then a failure. */
  private allOf(
    ask: (key: GrantedKey, tell: (exit: OwnershipExit) => void) => void,
    onExit: (exit: OwnershipExit) => void
  ): void {
    let left = this.keys.length
    let failure: OwnershipExit | undefined
    for (const key of this.keys) {
      ask(key, (exit) => {
        if (typeof exit !== "string") failure ??= exit
        else if (exit !== "Ours") this.lose(key, exit)
        if (--left === 0) onExit(this.lostBy ?? failure ?? "Ours")
      })
    }
  }
}
