/** The line in which callers wait: against an array, and what it costs as it grows. */
import { describe, expect, it } from "@effect/vitest"
import * as fc from "fast-check"
import { Fifo, Link } from "../../src/internal/common/fifo.js"

class Item extends Link {}

describe("a line", () => {
  it("is what an array is, whoever comes and goes", () => {
    const command = fc.oneof(
      { weight: 4, arbitrary: fc.constant("add" as const) },
      { weight: 2, arbitrary: fc.constant("first" as const) },
      { weight: 2, arbitrary: fc.nat() },
      { weight: 1, arbitrary: fc.constant("drain" as const) }
    )
    fc.assert(
      fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
        const line = new Fifo<Item>()
        let array: Array<Item> = []
        const drained: Array<readonly [Array<Item>, Array<Item>]> = []
        const left: Array<ReadonlyArray<number | boolean>> = []
        const expected: typeof left = []
        for (const command of commands) {
          if (command === "add") {
            const item = new Item()
            line.add(item)
            array.push(item)
          } else if (command === "drain") {
            drained.push([line.drain(), array])
            array = []
          } else {
            const item = command === "first" ? line.first : array[command % (array.length || 1)]
            if (item === undefined) continue
            left.push([line.before(item), line.delete(item), line.delete(item), item.stands])
            expected.push([array.indexOf(item), true, false, false])
            array = array.filter((other) => other !== item)
          }
          expect([line.size, line.first]).toEqual([array.length, array[0]])
        }
        expect(left).toEqual(expected)
        for (const [found, all] of drained) expect(found).toEqual(all)
      }),
      { numRuns: 300 }
    )
  })

  it("costs the same per turn with a hundred thousand as with a thousand", () => {
    const perTurn = (length: number): number => {
      const line = new Fifo<Item>()
      for (let i = 0; i < length; i++) line.add(new Item())
      const start = performance.now()
      for (let first = line.first; first !== undefined; first = line.first) {
        line.before(first)
        line.delete(first)
      }
      return (performance.now() - start) / length
    }
    const best = (length: number) => Math.min(...Array.from({ length: 5 }, () => perTurn(length)))
    perTurn(100_000)
    // (memory that is out of the processor's caches costs some; a Set costs 200 times as much)
    expect(best(100_000) / best(1_000)).toBeLessThan(40)
  })
})
