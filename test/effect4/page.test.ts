/** The tests that docs/effect-4.md shows, run, as those of docs/testing.md are. */
import { expect, it } from "vitest"
import { blocksOf, ofRunner, runByNode, runByVitest } from "../support/pages.js"

const blocks = blocksOf("effect-4")
const ofVitest = ofRunner(blocks, "vitest")
const ofNode = ofRunner(blocks, "node:test")

it("there are such tests, for both runners", () => {
  expect(ofVitest).toHaveLength(1)
  expect(ofNode).toHaveLength(1)
})

runByVitest(ofVitest)
runByNode(ofNode)
