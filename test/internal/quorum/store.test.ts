/** The quorum as plain code, of nodes in memory that can be silent, refuse, or be slow. */
import { describe, expect, it } from "vitest"
import type { AcquireExit, Claim, Grant, RenewExit, Store } from "../../../src/internal/engine.js"
import { FaultyStore } from "../../../src/internal/memory/faultyStore.js"
import { MemoryStore } from "../../../src/internal/memory/store.js"
import { QuorumStore } from "../../../src/internal/quorum/store.js"
import { ManualClock } from "../manualClock.js"

const claimOf = (more: Partial<Claim> = {}): Claim => ({
  key: "key",
  kind: "lock",
  share: 1,
  limit: 1,
  ttlMillis: 4_000,
  waitMillis: 0,
  owner: undefined,
  ...more
})

const patient = { waitMillis: Number.POSITIVE_INFINITY }

const world = (count = 3) => {
  const clock = new ManualClock()
  const inside = Array.from({ length: count }, (_, index) => {
    // (each has a clock of its own for fencing tokens)
    return new MemoryStore(clock, () => 1_000 * (index + 1) + clock.now)
  })
  const nodes = inside.map((store) => new FaultyStore(store, 2_000))
  const quorum = () => new QuorumStore(nodes, { longestTtlMillis: 10_000, nodeTimeoutMillis: 500 })
  return { clock, inside, nodes, quorum }
}

const ask = (store: Store, more?: Partial<Claim>) => {
  const exits: Array<AcquireExit> = []
  const cancel = store.acquire(claimOf(more), (exit) => exits.push(exit))
  return {
    cancel,
    get exit() {
      return exits[0]
    },
    get grant(): Grant {
      const [exit] = exits
      if (exit?._tag !== "Granted") throw new Error(`not granted: ${exit?._tag}`)
      return exit.grant
    }
  }
}

const renewal = (grant: Grant) => {
  const exits: Array<RenewExit> = []
  grant.renew((exit) => exits.push(exit))
  return () => exits[0]
}

const heldAt = (store: Store): number => {
  let count = -1
  store.look!("key", 10, [], (look) => {
    count = "heldCount" in look ? look.heldCount + look.pendingCount : -1
  })
  return count
}

describe("a quorum", () => {
  it("grants what a majority has confirmed, with the greatest of the fencing tokens", () => {
    const { inside, nodes, quorum } = world()
    nodes[0]!.silence()
    const store = quorum()
    const first = ask(store)
    // two are enough, unless the silent one is the first of the key
    if (first.exit === undefined) nodes[0]!.restore()
    const token = first.grant.fencingToken
    expect(token).toBeGreaterThanOrEqual(3_000_000)
    first.grant.release(0, () => {})
    nodes[0]!.restore()
    // without the one whose clock is ahead
    nodes[2]!.refuse({ detail: "away", transient: true })
    expect(ask(store).grant.fencingToken).toBeGreaterThan(token)
    expect(inside.filter((node) => heldAt(node) === 1).length).toBe(2)
  })

  it("a minority is not enough, and gives back what it got", () => {
    const { clock, inside, nodes, quorum } = world()
    const store = quorum()
    nodes[1]!.refuse({ detail: "away", transient: true })
    nodes[2]!.refuse({ detail: "away", transient: true })
    const asked = ask(store)
    clock.advance(3_000)
    expect(asked.exit).toMatchObject({
      _tag: "StoreFailure",
      transient: true,
      detail: "Of 3 nodes 1 answered, and 2 must. Node 2: away Node 3: away"
    })
    expect(inside.map(heldAt)).toEqual([0, 0, 0])
  })

  it.each([0, Number.POSITIVE_INFINITY])(
    "a short outage of a majority is outlasted, by a claim that waits for %d ms",
    (waitMillis) => {
      const { clock, inside, nodes, quorum } = world()
      nodes[1]!.refuse({ detail: "away", transient: true })
      // (as a connection that is being made)
      nodes[2]!.silence()
      const asked = ask(quorum(), { waitMillis })
      clock.advance(1_000)
      expect(asked.exit).toBeUndefined()
      nodes[2]!.restore()
      clock.advance(700)
      asked.grant.release(clock.now, () => {})
      expect(inside.map(heldAt)).toEqual([0, 0, 0])
    }
  )

  it("an outage that does not end fails a claim in two seconds or so, however long it waits", () => {
    const { clock, inside, nodes, quorum } = world()
    nodes[1]!.refuse({ detail: "away", transient: true })
    nodes[2]!.silence()
    const asked = ask(quorum(), patient)
    clock.advance(1_400)
    expect(asked.exit).toBeUndefined()
    clock.advance(1_200)
    expect(asked.exit).toMatchObject({ _tag: "StoreFailure", transient: true })
    nodes[2]!.restore()
    clock.advance(100)
    expect(inside.map(heldAt)).toEqual([0, 0, 0])
  })

  it("what is wrong for good at a majority fails a claim at once", () => {
    const { nodes, quorum } = world()
    for (const node of nodes.slice(1)) node.refuse({ detail: "no scripts", transient: false })
    expect(ask(quorum()).exit).toMatchObject({ _tag: "StoreFailure", transient: false })
  })

  it("what is answered late is given back", () => {
    const { clock, inside, nodes, quorum } = world()
    const store = quorum()
    nodes[1]!.silence()
    nodes[2]!.silence()
    const asked = ask(store)
    clock.advance(3_000)
    expect(asked.exit).toMatchObject({ _tag: "StoreFailure" })
    nodes[1]!.restore()
    nodes[2]!.restore()
    clock.advance(100)
    expect(inside.map(heldAt)).toEqual([0, 0, 0])
  })

  it("an answer that comes behind a majority belongs to the lease, and ends with it", () => {
    const { clock, inside, nodes, quorum } = world()
    const store = quorum()
    // (not the first of the key)
    const slow = [0, 1, 2].find((index) => {
      nodes[index]!.silence()
      const asked = ask(store)
      const isGranted = asked.exit?._tag === "Granted"
      asked.cancel()
      nodes[index]!.restore()
      clock.advance(5_000)
      return isGranted
    })!
    nodes[slow]!.silence()
    const { grant } = ask(store)
    nodes[slow]!.restore()
    expect(inside.map(heldAt)).toEqual([1, 1, 1])
    grant.release(clock.now, (exit) => expect(exit).toBe("Ours"))
    expect(inside.map(heldAt)).toEqual([0, 0, 0])
  })

  it("renewals need a majority, and bring back a node that was away", () => {
    const { clock, inside, nodes, quorum } = world()
    const { grant } = ask(quorum())
    nodes[1]!.refuse({ detail: "away", transient: true })
    clock.advance(3_000)
    expect(renewal(grant)()).toMatchObject({ _tag: "Renewed" })
    // its ttl ends there, and the lease goes on
    clock.advance(1_500)
    expect(inside.map(heldAt)).toEqual([1, 0, 1])
    nodes[1]!.restore()
    expect(renewal(grant)()).toMatchObject({ _tag: "Renewed" })
    expect(renewal(grant)()).toMatchObject({ _tag: "Renewed" })
    expect(inside.map(heldAt)).toEqual([1, 1, 1])
    // two silent: nobody knows
    nodes[0]!.silence()
    nodes[2]!.silence()
    const unknown = renewal(grant)
    clock.advance(600)
    expect(unknown()).toMatchObject({ _tag: "StoreFailure", transient: true })
    nodes[0]!.restore()
    nodes[2]!.restore()
    expect(renewal(grant)()).toMatchObject({ _tag: "Renewed" })
  })

  it("is lost when a majority has freed it", () => {
    const { inside, quorum } = world()
    const { grant } = ask(quorum())
    const reasons: Array<string> = []
    grant.whenLost((reason) => reasons.push(reason))
    inside[0]!.revoke("key", grant.fencingToken, () => {})
    expect(reasons).toEqual([])
    inside[1]!.revoke("key", grant.fencingToken, () => {})
    expect(reasons).toEqual(["Revoked"])
  })

  it("serves those who wait in their order, also of several processes", () => {
    const { clock, inside, quorum } = world(5)
    const stores = [quorum(), quorum(), quorum()]
    const holder = ask(stores[0]!)
    const waiters = Array.from({ length: 9 }, (_, index) => ask(stores[index % 3]!, patient))
    let { grant } = holder
    for (const waiter of waiters) {
      expect(waiter.exit).toBeUndefined()
      grant.release(clock.now, () => {})
      clock.advance(1)
      const next = waiter.grant
      expect(next.fencingToken).toBeGreaterThan(grant.fencingToken)
      grant = next
    }
    grant.release(clock.now, () => {})
    expect(inside.map(heldAt)).toEqual([0, 0, 0, 0, 0])
  })

  it("a wait that is cancelled leaves nothing", () => {
    const { clock, inside, quorum } = world()
    const store = quorum()
    const { grant } = ask(store)
    const waiter = ask(store, patient)
    const behind = ask(store, patient)
    waiter.cancel()
    grant.release(clock.now, () => {})
    behind.grant.release(clock.now, () => {})
    expect(waiter.exit).toBeUndefined()
    expect(inside.map(heldAt)).toEqual([0, 0, 0])
    expect(ask(store).exit?._tag).toBe("Granted")
  })
})
