/**
 * Not a lock: the least that a message between two processes costs. Whoever has the ball does its
 * work, and publishes on the other's channel; "waiting" ends when the message is there. Two
 * processes with one caller each.
 */
import { Redis } from "ioredis"
import { pause, type Contender } from "../Contender.js"

export const echo: Contender = {
  id: "echo",
  package: "ioredis",
  setUp: "two processes, PUBLISH and a subscriber each: not a lock, but the least a message costs",
  leavesOut: "everything: it only passes a message",
  open: async ({ url }, index) => {
    const publisher = new Redis(url)
    const subscriber = new Redis(url)
    const mine = `echo:${index}`
    const theirs = `echo:${1 - index}`
    let receive = () => {}
    subscriber.on("message", () => receive())
    await subscriber.subscribe(mine)
    await publisher.ping()
    return {
      run: async (_, meter) => {
        let serves = index === 0
        const next = () => new Promise<void>((resolve) => (receive = resolve))
        let message = next()
        if (serves) await pause(20)
        for (let key = meter.begin(0); key !== undefined; key = meter.begin(0)) {
          if (!serves) await message
          serves = false
          message = next()
          meter.enter(0)
          if (meter.work !== undefined) await meter.work()
          meter.leave(0)
          await publisher.publish(theirs, "")
        }
        // The other one may still wait.
        await publisher.publish(theirs, "")
      },
      close: async () => {
        publisher.disconnect()
        subscriber.disconnect()
      }
    }
  }
}
