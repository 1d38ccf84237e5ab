/** Three processes wait for a lock that a fourth has. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { now } from "../../test/faults/History.js"
import * as RedisServer from "../../test/support/RedisServer.js"
import * as Workers from "../../test/support/Workers.js"
import { holds, inOrder } from "./claims.js"
import * as Timeline from "./Timeline.js"

const key = "job"
const names = ["P1", "P2", "P3", "P4"]

/** How far the server's clock is ahead of ours: by the quickest of its answers. */
const ahead = (server: RedisServer.RedisProcess) =>
  Effect.gen(function* () {
    const samples = yield* Effect.forEach(Array.from({ length: 20 }), () =>
      Effect.gen(function* () {
        const sent = now()
        const [seconds, micros] = (yield* server.command("TIME")) as [string, string]
        const got = now()
        const time = 1_000 * Number(seconds) + Number(micros) / 1_000
        return { ahead: time - (sent + got) / 2, took: got - sent }
      })
    )
    return samples.reduce((best, one) => (one.took < best.took ? one : best)).ahead
  })

export const play = (ttl: number, holdMillis: number) =>
  Effect.gen(function* () {
    const server = yield* RedisServer.make()
    const processes = yield* Effect.all(names.map(() => Workers.actor(server.url)))
    const offset = yield* ahead(server)
    const monitor = yield* server.monitor
    const queue = server.command("ZCARD", `{${key}}:lock-queue`)
    for (const [index, one] of processes.entries()) {
      yield* one.order({ _tag: "Hold", key, ttl, stops: false })
      if (index === 0) yield* one.until(() => one.told.some(({ _tag }) => _tag === "Entered"))
      else yield* RedisServer.eventually(Effect.map(queue, (count) => count === index))
      // (it asks once more when it has subscribed)
      yield* Effect.sleep(Duration.millis(holdMillis / 4))
    }
    for (const one of processes) {
      yield* Effect.sleep(Duration.millis(holdMillis))
      yield* one.order({ _tag: "Release" })
      yield* one.next("Ended")
    }
    const turns = yield* Effect.all(processes.map((one) => one.next("Entered")))
    const sent = yield* monitor.commands
    const start = turns[0]!.at
    return {
      turns: turns.map(({ at, fencingToken }) => ({ at: at - start, fencingToken })),
      sent: sent.map(({ args, from, time }) => ({
        args: args.map((arg) => arg.slice(0, 80)),
        from,
        at: 1_000 * time - offset - start
      }))
    }
  })

export type Scene = Effect.Effect.Success<ReturnType<typeof play>>
type Sent = Scene["sent"][number]

/** What became of the lock, by the commands that MONITOR has seen. */
const story = ({ sent, turns }: Scene) => {
  const of = (name: string, ...first: ReadonlyArray<string>) =>
    sent.filter(
      ({ args }) =>
        args[0]!.toUpperCase() === name && first.every((arg, index) => args[index + 1] === arg)
    )
  // the first to get it did not wait; the others in the order in which they came
  const [taken, ...granted] = of("SET", key).filter(
    ({ args }) => !args.includes("NX") || args[2] === firstToken(sent)
  )
  const asked = of("ZADD", `{${key}}:lock-queue`)
  const tokens = [taken!.args[2]!, ...asked.map(({ args }) => args.at(-1)!)]
  const nameOf = (arg: string) => {
    const index = tokens.findIndex((token) => token === arg || token.startsWith(`${arg}.`))
    return index === -1 ? arg : names[index]!
  }
  const shown = (one: Sent) => {
    const [name, ...rest] = one.args
    // (the message has more than the token)
    const args = name === "PUBLISH" ? rest.slice(0, 1) : rest
    return [
      name!.toUpperCase(),
      ...args.filter((arg) => !(name === "ZADD" && /^(NX|\d{16})$/.test(arg))).map(nameOf)
    ].join(" ")
  }
  return {
    taken: taken!,
    granted,
    asked,
    tokens,
    nameOf,
    shown,
    subscribed: names
      .slice(1)
      .map((name) => of("SUBSCRIBE").find(({ args }) => nameOf(args[1]!) === name)),
    popped: of("ZPOPMIN", `{${key}}:lock-queue`),
    published: of("PUBLISH"),
    deleted: of("DEL", key),
    turns
  }
}

const firstToken = (sent: ReadonlyArray<Sent>): string =>
  sent.find(({ args }) => args[0] === "SET" && args[1] === key)!.args[2]!

export const check = (scene: Scene): void => {
  const { asked, deleted, granted, nameOf, popped, published, taken, turns } = story(scene)
  const waiting = names.slice(1)
  const who = (commands: ReadonlyArray<Sent>, at: number) =>
    commands.map(({ args }) => nameOf(args.at(at)!)).join()
  holds(who(granted, 2) === waiting.join(), `the key went to ${who(granted, 2)}`)
  holds(who(published, 1) === waiting.join(), `messages went to ${who(published, 1)}`)
  holds(
    asked.length === 3 && popped.length === 3,
    "each waits once, and is taken from the queue once"
  )
  holds(deleted.length === 1, `the key was deleted ${deleted.length} times`)
  inOrder("a queue", [
    ["P1 has the key", taken.at],
    ...asked.map(({ at }, index) => [`${waiting[index]} asks`, at] as const),
    ...granted.map(({ at }, index) => [`${waiting[index]} is given the key`, at] as const),
    ["P4 gives it back", deleted[0]!.at]
  ])
  inOrder(
    "who enters",
    turns.map(({ at }, index) => [names[index]!, at] as const)
  )
  inOrder(
    "fencing tokens",
    turns.map((turn, index) => [names[index]!, turn.fencingToken] as const)
  )
  // (two clocks: that of the server, and that of the processes)
  for (const [index, { at }] of granted.entries()) {
    const entered = turns[index + 1]!.at
    holds(at < entered + 1, `${waiting[index]} entered at ${entered}, before its grant at ${at}`)
  }
}

export const picture = (scene: Scene): string => {
  const { asked, deleted, granted, popped, published, shown, subscribed, taken, turns } =
    story(scene)
  const givenBack = [...granted, deleted[0]!].map(({ at }) => at)
  return Timeline.draw({
    title: "A queue, and its handoffs",
    lanes: names,
    scale: "rows",
    from: 0,
    to: givenBack.at(-1)!,
    bars: names.flatMap((_, lane) => [
      ...(lane === 0
        ? []
        : [
            {
              lane,
              kind: "waits" as const,
              color: "a" as const,
              from: asked[lane - 1]!.at,
              to: turns[lane]!.at
            }
          ]),
      {
        lane,
        kind: "full" as const,
        color: "a" as const,
        from: turns[lane]!.at,
        to: givenBack[lane]!
      }
    ]),
    notes: [
      { at: 0, lane: 0, color: "a", text: "P1 enters.", commands: [shown(taken)] },
      ...asked.map((one, index) => ({
        at: one.at,
        lane: index + 1,
        text: `${names[index + 1]} asks, and waits.`,
        commands: [shown(one), shown(subscribed[index]!)]
      })),
      ...granted.flatMap((one, index) => {
        const lane = index + 1
        return [
          {
            at: one.at,
            lane: index,
            text: `${names[index]} gives it back:`,
            commands: [shown(popped[index]!), shown(one), shown(published[index]!)]
          },
          {
            at: turns[lane]!.at,
            after: turns[lane]!.at - one.at,
            lane,
            color: "a" as const,
            text: `later ${names[lane]} enters.`
          }
        ]
      }),
      {
        at: deleted[0]!.at,
        lane: 3,
        text: "P4 gives it back:",
        commands: [shown(deleted[0]!)]
      }
    ],
    legend: [
      ["full", "a", "has the lock"],
      ["waits", "a", "waits, in the order of asking"]
    ],
    remark:
      "P1 to P4 are processes; in commands, the token of each. To give the lock back to the next is one script: in between, the key is never free. This is the first turn of each process; later ones are quicker."
  })
}
