/** How long a silent connection is trusted, by the answers that there were. */
import { EventEmitter } from "node:events"
import { expect, it } from "vitest"
import type { RedisClient } from "../../../src/internal/redis/client.js"
import { Commands } from "../../../src/internal/redis/commands.js"

const make = () => {
  let now = 0
  const client = Object.assign(new EventEmitter(), { status: "ready" })
  const clock = { unsafeNow: () => now, unsafeSchedule: () => ({ cancel: () => {} }) }
  const commands = new Commands(client as unknown as RedisClient, clock, 5_000, true)
  return {
    patience: () => commands.patience(3_000),
    ready: () => client.emit("ready"),
    /** A command is sent now; when it is answered. */
    send: () => {
      const sentAt = now
      return () => commands.answered(sentAt)
    },
    pass: (millis: number) => {
      now += millis
    }
  }
}

/** As little as it can be for a ttl of 3 s. */
const usual = 500

it("a slow answer gives it time, and is forgotten within half a minute", () => {
  const { pass, patience, send } = make()
  send()()
  expect(patience()).toBe(usual)
  const answer = send()
  pass(700)
  answer()
  expect(patience()).toBe(2_800)
  const idleFor = (seconds: number) => {
    for (let i = 0; i < seconds; i++) {
      pass(1_000)
      send()()
    }
  }
  idleFor(10)
  expect(patience()).toBeLessThan(1_000)
  idleFor(20)
  expect(patience()).toBe(usual)
})

it("by time, not by the number of answers", () => {
  const { pass, patience, send } = make()
  const answer = send()
  pass(700)
  answer()
  for (let i = 0; i < 1_000; i++) send()()
  expect(patience()).toBe(2_800)
})

it("the time until there was a connection does not count", () => {
  const { pass, patience, ready, send } = make()
  const answer = send()
  pass(700)
  ready()
  pass(20)
  answer()
  expect(patience()).toBe(usual)
})
