/**
 * Not a lock: the least that a message between two processes costs. Whoever has the ball does its
 * work, and publishes on the other's channel; "waiting" ends when the message is there. Two
 * processes with one caller each.
 */
import { Redis } from "ioredis"
import type { Contender } from "../Contender.js"

export const echo: Contender = {
  id: "echo",
  package: "ioredis",
  setUp:
    "two processes, PUBLISH and a subscriber each: not a lock, but the least that a message costs",
  leavesOut: "everything: it only passes a message",
  open: async ({ url }, index) => {
    const publisher = new Redis(url)
    const subscriber = new Redis(url)
    const mine = `echo:${index}`
    const theirs = `echo:${1 - index}`
    // Nothing that arrives early is lost: messages are counted until somebody waits for them.
    const arrived = { ball: 0, ready: 0 }
    let wake = () => {}
    subscriber.on("message", (_, message) => {
      arrived[message as keyof typeof arrived]++
      wake()
    })
    const take = async (message: keyof typeof arrived) => {
      while (arrived[message] === 0) await new Promise<void>((resolve) => (wake = resolve))
      arrived[message]--
    }
    await subscriber.subscribe(mine)
    await publisher.ping()
    return {
      run: async (_, meter) => {
        if (index === 0) {
          await take("ready")
          arrived.ball = 1
        } else {
          arrived.ball = 0
          await publisher.publish(theirs, "ready")
        }
        while (meter.begin(0) !== undefined) {
          await take("ball")
          meter.enter(0)
          if (meter.work !== undefined) await meter.work()
          meter.leave(0)
          await publisher.publish(theirs, "ball")
        }
        // The other one may still wait.
        await publisher.publish(theirs, "ball")
      },
      close: async () => {
        publisher.disconnect()
        subscriber.disconnect()
      }
    }
  }
}
