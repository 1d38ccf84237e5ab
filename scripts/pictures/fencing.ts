/** A holder that is stopped just before its write, for longer than its lease. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { now } from "../../test/faults/History.js"
import * as RedisServer from "../../test/support/RedisServer.js"
import * as Workers from "../../test/support/Workers.js"
import { holds, inOrder } from "./claims.js"
import * as Timeline from "./Timeline.js"

const key = "invoice:42"

/** What the lock protects: it refuses a smaller fencing token than it has seen. */
const makeResource = () => {
  let greatest = 0
  return {
    write: (fencingToken: number): "accepted" | "refused" => {
      if (fencingToken < greatest) return "refused"
      greatest = fencingToken
      return "accepted"
    }
  }
}

export const play = (ttl: number) =>
  Effect.gen(function* () {
    const server = yield* RedisServer.make()
    const first = yield* Workers.actor(server.url)
    const second = yield* Workers.actor(server.url)
    const resource = makeResource()

    yield* first.order({ _tag: "Hold", key, ttl, stops: true })
    const entered = yield* first.next("Entered")
    const stopping = yield* first.next("Stopping")
    yield* second.order({ _tag: "Hold", key, ttl, stops: false })
    const asked = now()
    const next = yield* second.next("Entered")
    const write = yield* second.next("Write")
    const answer = resource.write(write.fencingToken)
    yield* Effect.sleep(Duration.millis(ttl / 5))
    const continued = now()
    yield* first.cont
    const lateWrite = yield* first.next("Write")
    const lateAnswer = resource.write(lateWrite.fencingToken)
    const interrupted = yield* first.next("Interrupted")
    const ended = yield* first.next("Ended")
    const since = ({ at }: { readonly at: number }) => at - entered.at
    return {
      ttl,
      tokens: [entered.fencingToken, next.fencingToken] as const,
      written: [write.fencingToken, lateWrite.fencingToken] as const,
      answers: [answer, lateAnswer] as const,
      lost: ended.lost,
      stopping: since(stopping),
      asked: asked - entered.at,
      next: since(next),
      write: since(write),
      continued: continued - entered.at,
      lateWrite: since(lateWrite),
      interrupted: since(interrupted),
      failed: since(ended)
    }
  })

export type Scene = Effect.Effect.Success<ReturnType<typeof play>>

export const check = (scene: Scene): void => {
  const { answers, lost, tokens, written } = scene
  inOrder("a fencing token", [
    ["A enters", 0],
    ["A is stopped", scene.stopping],
    ["B enters", scene.next],
    ["B writes", scene.write],
    ["A goes on", scene.continued],
    ["A writes", scene.lateWrite],
    ["A is interrupted", scene.interrupted],
    ["A's withLock fails", scene.failed]
  ])
  inOrder("fencing tokens", [
    ["A's", tokens[0]],
    ["B's", tokens[1]]
  ])
  holds(written.join() === [tokens[1], tokens[0]].join(), `written with the tokens ${written}`)
  holds(answers.join() === "accepted,refused", `the writes of B and A were ${answers}`)
  holds(lost === "Unreachable", `A's withLock ended with ${lost}`)
}

/** Its last digits. */
const short = (token: number): string => `…${String(token).slice(-9)}`

export const picture = (scene: Scene): string => {
  const { asked, continued, failed, interrupted, next, stopping, tokens, ttl } = scene
  const from = -0.06 * ttl
  const to = failed + 0.14 * ttl
  const [a, redis, b, data] = [0, 1, 2, 3]
  return Timeline.draw({
    title: "A late write, and its fencing token",
    lanes: ["A", "key", "B", "data"],
    scale: 230 / ttl,
    from,
    to,
    bars: [
      { lane: a, kind: "full", color: "a", from: 0, to: stopping },
      { lane: a, kind: "stopped", color: "a", from: stopping, to: continued },
      { lane: a, kind: "full", color: "bad", from: continued, to: interrupted },
      { lane: redis, kind: "full", color: "a", from: 0, to: next },
      { lane: redis, kind: "full", color: "b", from: next, to: Infinity },
      { lane: b, kind: "waits", color: "b", from: asked, to: next },
      { lane: b, kind: "full", color: "b", from: next, to: Infinity },
      { lane: data, kind: "full", color: "b", from: scene.write, to: Infinity }
    ],
    notes: [
      {
        at: stopping,
        lane: a,
        color: "a",
        text: `A has the lock, and the fencing token ${short(tokens[0])}. Just before its write, its process is stopped.`
      },
      {
        at: next,
        lane: b,
        color: "b",
        text: `The key has expired. B enters, with ${short(tokens[1])}.`
      },
      {
        at: scene.write,
        lane: data,
        color: "b",
        text: `B writes. The data accepts it, and remembers the token.`
      },
      {
        at: scene.lateWrite,
        lane: a,
        color: "bad",
        text: `A goes on, and writes before anything can interrupt it: its token is smaller, the write is refused.`
      },
      {
        at: failed,
        lane: a,
        color: "a",
        text: "A's code is interrupted, and withLock fails with LockLost."
      }
    ],
    legend: [
      ["full", "a", "A has the lock"],
      ["stopped", "a", "A's process is stopped (SIGSTOP)"],
      ["waits", "b", "B waits"],
      ["full", "b", "B has the lock; the data has seen B's token"]
    ],
    remark:
      "A and B are processes; key is whose token Redis has; data is what the lock protects, and remembers the greatest fencing token of all writes."
  })
}
