/** What the nodes see of a key, together. */
import { type Forget, type HeldEntry, type Look, type OnAnswer, StoreFailure } from "../engine.js"
import type { Node, Terms } from "./node.js"

export type { Look } from "../engine.js"

/**
 * Who holds it: whose fencing token a majority knows. (Before the write-back each node has another one, and
 * nobody holds it yet.) Each node knows it by another token: what is said of that is of the first node that
 * knows it. Who waits: the longest of the queues, since waiters stand at one node.
 */
export const lookAtAll = (
  nodes: ReadonlyArray<Node>,
  { clock, majority, nodeTimeoutMillis }: Terms,
  key: string,
  atMost: number,
  ended: ReadonlyArray<number>,
  onExit: OnAnswer<Look>
): Forget => {
  const looks: Array<Look | undefined> = nodes.map(() => undefined)
  let failure: StoreFailure | undefined
  let unanswered = nodes.length
  const end = (): void => {
    timer.cancel()
    forget.forEach((one) => one())
  }
  const tell = (): void => {
    const seen = looks.filter((look) => look !== undefined)
    end()
    if (seen.length >= majority) return onExit(together(seen, majority, atMost))
    const detail = `Of ${nodes.length} nodes ${seen.length} answered, and ${majority} must. ${failure?.detail ?? ""}`
    onExit(new StoreFailure("look", key, detail.trimEnd(), failure?.transient ?? true, failure))
  }
  // (the holder may be at one that has not answered: so a majority is not enough)
  const timer = clock.unsafeSchedule(clock.unsafeNow() + nodeTimeoutMillis, tell)
  const forget: Array<Forget> = []
  for (const [index, node] of nodes.entries()) {
    forget.push(
      node.store.look!(key, Math.max(1, atMost), ended, (exit) => {
        if (exit instanceof StoreFailure) failure = exit
        else looks[index] = exit
        if (--unanswered === 0) tell()
      })
    )
  }
  return end
}

/** What a majority has granted, at least one of any majority knows. */
const lastOf = (looks: ReadonlyArray<Look>): number | undefined => {
  const ticks = looks.flatMap(({ lastTick }) => (lastTick === undefined ? [] : [lastTick]))
  return ticks.length === 0 ? undefined : Math.max(...ticks)
}

const together = (looks: ReadonlyArray<Look>, majority: number, atMost: number): Look => {
  const all = looks.flatMap(({ held }) => held)
  const votesOf = ({ fencingToken }: HeldEntry) =>
    all.filter((one) => one.fencingToken === fencingToken).length
  const holder = all.find((one) => one.fencingToken !== undefined && votesOf(one) >= majority)
  const queue = looks.reduce((most, look) => (look.pendingCount > most.pendingCount ? look : most))
  const { pending, pendingCount } = queue
  const isInUse = holder !== undefined || pendingCount > 0
  return {
    kind: isInUse ? "lock" : undefined,
    limit: holder && 1,
    inUse: holder === undefined ? 0 : 1,
    held: holder === undefined ? [] : [unnamed(holder)].slice(0, atMost),
    pending: pending.slice(0, atMost).map(unnamed),
    heldCount: holder === undefined ? 0 : 1,
    pendingCount,
    atMillis: queue.atMillis,
    waitingHere: Math.max(...looks.map(({ waitingHere }) => waitingHere)),
    revoked: [...new Set(looks.flatMap(({ revoked }) => revoked))],
    lastTick: lastOf(looks)
  }
}

/** Each node has another name for its token: there is none that stays the same. */
const unnamed = <Entry extends { readonly id: string | undefined }>(entry: Entry): Entry => ({
  ...entry,
  id: undefined
})
