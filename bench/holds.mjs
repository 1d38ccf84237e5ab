/**
 * What it costs a free lock that a caller which waits for itself is told: the notes that are made of what
 * a fiber holds. Without a lock, a store or a server.
 *
 *   npm run bench:holds
 *
 * Prints µs for each lease: the median of 21 rounds, and the least and the most.
 */
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import { pathToFileURL } from "node:url"

const root = join(import.meta.dirname, "..")
const require = createRequire(join(root, "package.json"))
const effect = dirname(require.resolve("effect/package.json"))
const load = (path) => import(pathToFileURL(path).href)
const Effect = await load(join(effect, "dist/esm/Effect.js"))
const FiberRefs = await load(join(effect, "dist/esm/FiberRefs.js"))
const FiberId = await load(join(effect, "dist/esm/FiberId.js"))
const { ChildRefs } = await load(join(root, "dist/internal/face/guard.js"))
const { Hold, adding, currentHolds } = await load(join(root, "dist/internal/face/holds.js"))
const { fiberRefsOf, updateFiberRef } = await load(join(root, "dist/internal/face/fiberRefs.js"))

const times = 20_000
const rounds = 21
const store = {}
const asks = { kind: "lock", limit: 1 }
const lease = {}

const ways = {
  // (the copy of the FiberRefs is there anyway: the body has a fiber of its own)
  withLock: (fiber, hold) => {
    const refs = fiberRefsOf(fiber)
    if (!hold) return FiberRefs.forkAs(refs, FiberId.none)
    const one = new Hold("k", store, 0, asks)
    one.lease = lease
    const given = new ChildRefs(refs, one).updateRefs(refs, FiberId.none)
    one.lease = undefined
    return given
  },
  "scoped acquire": (fiber, hold) => {
    if (!hold) return undefined
    const one = new Hold("k", store, 0, asks)
    one.lease = lease
    updateFiberRef(fiber, currentHolds, (holds) => adding(one, false, holds))
    one.lease = undefined
    return one
  }
}

const seconds = (fiber, way, hold) => {
  const before = process.hrtime.bigint()
  for (let n = 0; n < times; n++) way(fiber, hold)
  return Number(process.hrtime.bigint() - before) / 1e9
}

console.log("| | µs for each lease |\n| --- | --- |")
await Effect.runPromise(
  Effect.withFiberRuntime((fiber) => {
    for (const [name, way] of Object.entries(ways)) {
      const costs = []
      for (let round = 0; round < rounds; round++) {
        const without = seconds(fiber, way, false)
        costs.push(((seconds(fiber, way, true) - without) / times) * 1e6)
      }
      const [least, ...others] = costs.sort((a, b) => a - b).map((cost) => cost.toFixed(2))
      console.log(`| ${name} | ${others[(rounds - 1) / 2 - 1]} (${least} to ${others.at(-1)}) |`)
    }
    return Effect.void
  })
)
