/**
 * A TCP proxy between a client and Redis that changes what the server says: a fault, as a broken
 * server, proxy or network would make it. The server behind it is real and applies every command,
 * so that an acquire that was answered with nonsense has locked its key.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import * as Changes from "./Changes.js"
import * as Resp from "./Resp.js"

/** What is said instead of the reply, byte by byte; `undefined`: the truth. */
export type Lie = (args: ReadonlyArray<string>) => string | Buffer | undefined

export interface LyingProxy {
  readonly port: number
  /** `redis://127.0.0.1:port` */
  readonly url: string
  readonly lie: (lie: Lie) => void
  /** The truth again. */
  readonly relent: () => void
  /** How many replies were changed since the last `lie`. */
  readonly told: () => number
  /** Ends when so many were. */
  readonly untilTold: (count: number) => Effect.Effect<void>
  /** Says something unasked for, on all connections that have subscribed, or on all the others. */
  readonly say: (to: "subscribers" | "others", bytes: string | Buffer) => number
}

const host = "127.0.0.1"

/** What the server is sent instead of a command; `undefined`: the command itself. */
export type Change = (args: ReadonlyArray<string>) => ReadonlyArray<string> | undefined

/** Closes, with all its connections, at the end of the scope. */
export const make = (
  targetPort: number,
  change: Change = () => undefined
): Effect.Effect<LyingProxy, never, Scope.Scope> =>
  Effect.gen(function* () {
    const truth: Lie = () => undefined
    const changes = Changes.make()
    const links = new Set<Link>()
    const state = { lie: truth, told: 0 }
    const port = yield* listen((client) => {
      const server = Net.connect({ host, port: targetPort, noDelay: true })
      const link: Link = { client, subscriber: false }
      const lies: Array<string | Buffer | undefined> = []
      links.add(link)
      const requests = Resp.splitter("requests")
      client.on("data", (chunk) => {
        for (const { bytes, value } of requests(chunk)) {
          const args = (value as ReadonlyArray<unknown>).map(String)
          if (/^p?(un)?subscribe$/i.test(args[0] ?? "")) link.subscriber = true
          lies.push(state.lie(args))
          const changed = change(args)
          server.write(changed === undefined ? bytes : Resp.encode(changed))
        }
      })
      const replies = Resp.splitter("replies")
      server.on("data", (chunk) => {
        for (const { bytes, push, value } of replies(chunk)) {
          const message = link.subscriber && Array.isArray(value) && value[0] === "message"
          const lie = message || (push && !link.subscriber) ? undefined : lies.shift()
          client.write(lie ?? bytes)
          if (lie !== undefined) state.told++
        }
        changes.announce()
      })
      const end = () => {
        links.delete(link)
        client.destroy()
        server.destroy()
      }
      for (const socket of [client, server]) socket.on("error", end).on("close", end)
    })
    return {
      port,
      url: `redis://${host}:${port}`,
      lie: (lie) => {
        state.lie = lie
        state.told = 0
      },
      relent: () => {
        state.lie = truth
      },
      told: () => state.told,
      untilTold: (count) => changes.until(() => state.told >= count),
      say: (to, bytes) => {
        const heard = [...links].filter(({ subscriber }) => subscriber === (to === "subscribers"))
        for (const { client } of heard) client.write(bytes)
        return heard.length
      }
    }
  })

interface Link {
  readonly client: Net.Socket
  subscriber: boolean
}

/**
 * Something that listens and is no Redis at all: says `greeting` to whoever comes, and `answer` to
 * whatever is said. Its port.
 */
export const stranger = (said: {
  readonly greeting?: string | Buffer
  readonly answer?: string | Buffer
  /** Closes the connection behind its answer. */
  readonly hangsUp?: boolean
}): Effect.Effect<number, never, Scope.Scope> =>
  listen((client) => {
    client.on("error", () => client.destroy())
    if (said.greeting !== undefined) client.write(said.greeting)
    client.on("data", () => {
      if (said.answer !== undefined) client.write(said.answer)
      if (said.hangsUp === true) client.end()
    })
  })

/** A server on a free port, whose connections end with the scope. */
const listen = (accept: (client: Net.Socket) => void): Effect.Effect<number, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.async<{ readonly server: Net.Server; readonly clients: Set<Net.Socket> }>((resume) => {
        const clients = new Set<Net.Socket>()
        const server = Net.createServer({ noDelay: true }, (client) => {
          clients.add(client)
          client.once("close", () => clients.delete(client))
          accept(client)
        })
        server.once("error", (error) => resume(Effect.die(error)))
        server.listen(0, host, () => resume(Effect.succeed({ server, clients })))
      }),
      ({ clients, server }) =>
        Effect.async<void>((resume) => {
          server.close(() => resume(Effect.void))
          clients.forEach((client) => client.destroy())
        })
    ),
    ({ server }) => (server.address() as Net.AddressInfo).port
  )
