/** How long an answer is waited for before a connection is doubted, by the answers that there were. */
import { expect, it } from "vitest"
import { Commands } from "../../../src/internal/redis/commands.js"
import { makeWorld } from "./scriptedNetwork.js"

const make = () => {
  const world = makeWorld()
  world.dialled[0]!.greet()
  const commands = new Commands(world.connections)
  return {
    ...world,
    patience: () => commands.patience("k", 3_000),
    /** An answer that took so long. */
    answerAfter: (millis: number) => {
      world.ask(10_000)
      world.clock.advance(millis)
      world.dialled[0]!.answer()
    }
  }
}

/** As little as it can be for an answer that is of use for 3 s. */
const usual = 500

it("twice the slowest answer, but no longer than leaves time for another connection", () => {
  const { answerAfter, patience } = make()
  answerAfter(0)
  expect(patience()).toBe(usual)
  answerAfter(300)
  expect(patience()).toBe(600)
  answerAfter(1_000)
  expect(patience()).toBe(750)
})

it("a slow answer is forgotten within a minute, by time and not by the number of answers", () => {
  const { answerAfter, clock, patience } = make()
  answerAfter(350)
  for (let i = 0; i < 1_000; i++) answerAfter(0)
  expect(patience()).toBe(700)
  for (let i = 0; i < 60; i++) {
    clock.advance(1_000)
    answerAfter(0)
  }
  expect(patience()).toBe(usual)
})

it("a short ttl is given 50 ms", () => {
  const world = makeWorld()
  expect(new Commands(world.connections).patience("k", 60)).toBe(50)
})
