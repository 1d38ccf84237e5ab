/** The examples of docs/testing.md, run: each block is a test file of its own. */
import { expect, it } from "vitest"
import { blocksOf, ofRunner, runByNode, runByVitest } from "./support/pages.js"

const blocks = blocksOf("testing")
const ofEffectVitest = ofRunner(blocks, "@effect/vitest")
const ofVitest = ofRunner(blocks, "vitest")
const ofNode = ofRunner(blocks, "node:test")

it("every block is run by a test runner", () => {
  expect(ofEffectVitest).toHaveLength(6)
  expect(ofVitest).toHaveLength(1)
  expect(ofNode).toHaveLength(2)
  expect(blocks).toHaveLength(9)
})

runByVitest([...ofEffectVitest, ...ofVitest])
runByNode(ofNode)
