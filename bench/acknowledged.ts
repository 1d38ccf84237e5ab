/**
 * What it costs a free lock that replicas must have its grant: a master and two replicas on this machine.
 *
 *   npm run bench:acknowledged
 *   npm run bench:acknowledged -- --rounds 3 --seconds 1
 *
 * Prints cycles (acquire, an empty body, release) in a second, of callers with keys of their own: the median of
 * the rounds, in which all take turns, and the least and the most.
 */
import * as Effect from "effect/Effect"
import { Lock, RedisLockStore } from "effect-redis-lock"
import { parseArgs } from "node:util"
import { storeOf } from "../test/redis/support.js"
import * as Replicas from "../test/support/Replicas.js"

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "7" },
    seconds: { type: "string", default: "2" }
  }
})
const rounds = Number(values.rounds)
const millis = Number(values.seconds) * 1_000

const ways: Record<string, RedisLockStore.Acknowledged | undefined> = {
  without: undefined,
  "one replica of two": { replicas: 1 },
  "both replicas": { replicas: 2 }
}

const cycles = (callers: number) =>
  Effect.gen(function* () {
    const until = performance.now() + millis
    let count = 0
    const one = (caller: number) =>
      Effect.iterate(0, {
        while: () => performance.now() < until,
        body: (done) =>
          Effect.map(Lock.withLock(`k${caller}`)(Effect.void), () => {
            count++
            return done + 1
          })
      })
    yield* Effect.forEach(
      Array.from({ length: callers }, (_, index) => index),
      one,
      { concurrency: "unbounded", discard: true }
    )
    return count / (millis / 1_000)
  })

const shown = (figures: ReadonlyArray<number>): string => {
  const sorted = [...figures].sort((a, b) => a - b).map((figure) => figure.toFixed(0))
  return `${sorted[Math.floor(sorted.length / 2)]} (${sorted[0]} to ${sorted.at(-1)})`
}

const program = Effect.gen(function* () {
  const { master } = yield* Replicas.make(2)
  const stores = yield* Effect.forEach(Object.entries(ways), ([name, acknowledged]) =>
    Effect.map(storeOf(RedisLockStore.layer({ url: master.url, acknowledged })), ({ use }) => ({
      name,
      use
    }))
  )
  console.log("| callers | | cycles/s |\n| ---: | --- | ---: |")
  for (const callers of [1, 64]) {
    const figures = new Map<string, Array<number>>(stores.map(({ name }) => [name, []]))
    // (the first round warms up)
    for (let round = 0; round <= rounds; round++) {
      for (const { name, use } of stores) {
        const figure = yield* use(cycles(callers))
        if (round > 0) figures.get(name)!.push(figure)
      }
    }
    for (const [name, of] of figures) console.log(`| ${callers} | ${name} | ${shown(of)} |`)
  }
})

await Effect.runPromise(Effect.scoped(program))
