/** A holder whose network falls silent, and a second process that waits for the lock. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { now } from "../../test/faults/History.js"
import * as FaultProxy from "../../test/support/FaultProxy.js"
import * as RedisServer from "../../test/support/RedisServer.js"
import * as Workers from "../../test/support/Workers.js"
import { holds, inOrder } from "./claims.js"
import * as Timeline from "./Timeline.js"

const key = "invoice:42"

export const play = (ttl: number) =>
  Effect.gen(function* () {
    const server = yield* RedisServer.make()
    const proxy = yield* FaultProxy.make(server.port)
    const first = yield* Workers.actor(proxy.url)
    const second = yield* Workers.actor(server.url)

    /** When the proxy saw what it saw first. */
    const times = new Map<object, number>()
    const opened: Array<number> = []
    const watch = proxy.until(() => {
      for (const request of proxy.requests) if (!times.has(request)) times.set(request, now())
      while (opened.length < proxy.opened) opened.push(now())
      return false
    })
    yield* Effect.forkScoped(watch)
    const scripts = () => proxy.requests.filter(({ args }) => /^eval(sha)?$/i.test(args[0]!))

    yield* first.order({ _tag: "Hold", key, ttl, stops: false })
    const entered = yield* first.next("Entered")
    const acquired = scripts().length
    yield* second.order({ _tag: "Hold", key, ttl, stops: false })
    // the first renewal: what is proven is counted from when it was sent
    yield* proxy.until(() => scripts().length > acquired && scripts().at(-1)!.replied)
    const renewal = scripts().at(-1)!
    const start = times.get(renewal)!
    yield* Effect.sleep(Duration.millis(ttl / 5))
    proxy.blackHole()
    const silent = now()
    const connections = opened.length
    const expires = silent + Number(yield* server.command("PTTL", key))
    yield* proxy.until(() => scripts().at(-1) !== renewal)
    const asked = times.get(scripts().at(-1)!)!
    const interrupted = yield* first.next("Interrupted")
    const next = yield* second.next("Entered")
    const ended = yield* first.next("Ended")
    return {
      ttl,
      tokens: [entered.fencingToken, next.fencingToken] as const,
      lost: ended.lost,
      entered: entered.at - start,
      silent: silent - start,
      asked: asked - start,
      doubted: opened.length > connections ? opened[connections]! - start : undefined,
      interrupted: interrupted.at - start,
      provenUntil: interrupted.at + interrupted.remaining - start,
      expires: expires - start,
      next: next.at - start,
      failed: ended.at - start
    }
  })

export type Scene = Effect.Effect.Success<ReturnType<typeof play>>

/** What the picture says happened in this order. */
export const check = (scene: Scene): void => {
  inOrder("a silent network", [
    ["A enters", scene.entered],
    ["A's last answered renewal", 0],
    ["the network is silent", scene.silent],
    ["A asks, and gets no answer", scene.asked],
    ["A is interrupted", scene.interrupted],
    ["A's proof ends", scene.provenUntil],
    ["the key's ttl ends", scene.expires],
    ["B enters", scene.next]
  ])
  inOrder("a silent network", [
    ["A is interrupted", scene.interrupted],
    ["A's withLock fails", scene.failed]
  ])
  inOrder("fencing tokens", [
    ["A's", scene.tokens[0]],
    ["B's", scene.tokens[1]]
  ])
  holds(scene.lost === "Unreachable", `A's withLock ended with ${scene.lost}`)
}

export const picture = (scene: Scene): string => {
  const { asked, doubted, expires, failed, interrupted, next, provenUntil, silent, ttl } = scene
  const from = -0.06 * ttl
  const to = Math.max(failed, next) + 0.08 * ttl
  const [a, net, redis, b] = [0, 1, 2, 3]
  return Timeline.draw({
    title: "A holder's network falls silent",
    lanes: ["A", "net", "key", "B"],
    scale: 280 / ttl,
    from,
    to,
    bars: [
      { lane: a, kind: "full", color: "a", from, to: interrupted },
      { lane: a, kind: "margin", color: "a", from: interrupted, to: provenUntil },
      { lane: net, kind: "full", color: "gray", from, to: silent },
      { lane: net, kind: "silent", color: "bad", from: silent, to: Infinity },
      { lane: redis, kind: "full", color: "a", from, to: expires },
      { lane: redis, kind: "full", color: "b", from: next, to: Infinity },
      { lane: b, kind: "waits", color: "b", from, to: next },
      { lane: b, kind: "full", color: "b", from: next, to: Infinity }
    ],
    notes: [
      {
        at: 0,
        lane: a,
        color: "a",
        text: `A sends a renewal, and it is answered: the lock is proven to be A's for ${(provenUntil / 1_000).toFixed(2)}\u00a0s from now.`
      },
      { at: silent, lane: net, color: "bad", text: "A's network falls silent." },
      { at: asked, lane: a, color: "a", text: "The next renewal: no answer." },
      ...(doubted === undefined
        ? []
        : [{ at: doubted, lane: a, color: "a" as const, text: "A tries a second connection." }]),
      {
        at: interrupted,
        lane: a,
        color: "a",
        text: "A's code is interrupted. Its finalizers still run under the lock."
      },
      { at: provenUntil, lane: a, color: "a", text: "A's proof ends." },
      { at: next, lane: b, color: "b", text: "The key has expired. B enters." },
      {
        at: failed,
        lane: a,
        color: "a",
        text: "A's release had no answer either: withLock fails with LockLost."
      }
    ],
    legend: [
      ["full", "a", "A's code runs; the key has A's token"],
      ["margin", "a", "the margin: still proven to be A's"],
      ["waits", "b", "B waits"],
      ["full", "b", "B's code runs; the key has B's token"]
    ],
    remark:
      "A and B are processes; net is A's connection; key is whose token Redis has. Times are from when the last renewal that was answered was sent."
  })
}
