/**
 * The protected resource: a small TCP service that knows nothing of Redis. Critical sections write
 * to it at their entry, in the middle and at their exit, each write with its fencing token and its
 * floor (the smallest token of those who held the key when it was granted; of a mutex its own), and it
 * refuses a token below the greatest floor that it has seen for the key. Where a key has readers and
 * writers, a reader's floor is nothing, a writer's its own token, and a writer is also refused below
 * the greatest token of all. Its own order of events is the order in which it decided.
 *
 * @example
 * ```ts
 * const register = yield* Register.listen
 * // in another process
 * const write = yield* Register.connect(register.port)
 * const accepted = yield* write({ key, section, phase: "enter", fence: lease.fencingToken, floor, … })
 * ```
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import * as Changes from "../support/Changes.js"
import { type Event, now, type Phase } from "./History.js"

export interface Write {
  readonly key: string
  readonly section: string
  readonly worker: string
  readonly phase: Phase
  readonly fence: number
  readonly floor: number
  /** Of a key with readers: a writer. */
  readonly alone?: boolean | undefined
  /** For how long the section is going to be there, in milliseconds. */
  readonly hold: number
}

/** Who is in a critical section, as far as the register knows. */
export interface Visitor {
  readonly worker: string
  readonly section: string
  readonly key: string
  readonly hold: number
  readonly fence: number
}

export interface Register {
  readonly port: number
  /** The last to enter is the first. */
  readonly inside: (key: string) => ReadonlyArray<Visitor>
  /** Everything that was decided since it was last asked for. */
  readonly take: () => Array<Event>
  /** Looks again at every write. */
  readonly until: Changes.Changes["until"]
}

export interface Decisions extends Omit<Register, "port"> {
  readonly write: (write: Write) => boolean
}

/** The register without its port. */
export const make = (): Decisions => {
  const changes = Changes.make()
  let events: Array<Event> = []
  const highest = new Map<string, number>()
  const greatest = new Map<string, number>()
  const inside = new Map<string, ReadonlyArray<Visitor>>()
  const insideOf = (key: string) => inside.get(key) ?? []
  return {
    inside: insideOf,
    until: changes.until,
    take: () => {
      const taken = events
      events = []
      highest.clear()
      greatest.clear()
      inside.clear()
      return taken
    },
    write: ({ alone, fence, floor, hold, key, phase, section, worker }) => {
      const least = Math.max(floor, highest.get(key) ?? 0)
      const most = greatest.get(key) ?? 0
      const accepted = fence >= least && (alone !== true || fence >= most)
      events.push({ _tag: "Write", at: now(), key, section, phase, fence, floor, alone, accepted })
      if (accepted) {
        highest.set(key, least)
        greatest.set(key, Math.max(most, fence))
        const others = insideOf(key).filter(
          (visitor) => visitor.section !== section && visitor.fence >= least
        )
        const visitor = { worker, section, key, hold, fence }
        inside.set(key, phase === "exit" ? others : [visitor, ...others])
        changes.announce()
      }
      return accepted
    }
  }
}

export const listen: Effect.Effect<Register, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.async<{ readonly register: Register; readonly close: () => void }>((resume) => {
      const { write, ...decisions } = make()
      const sockets = new Set<Net.Socket>()
      const server = Net.createServer({ noDelay: true }, (socket) => {
        sockets.add(socket)
        socket.on("error", () => {})
        socket.on("close", () => sockets.delete(socket))
        onLines(socket, (line) => {
          const { id, ...wanted } = JSON.parse(line) as Write & { readonly id: number }
          const accepted = write(wanted)
          if (socket.writable) socket.write(`${id} ${accepted ? "ok" : "stale"}\n`)
        })
      })
      server.listen(0, "127.0.0.1", () => {
        const { port } = server.address() as Net.AddressInfo
        const close = () => {
          for (const socket of sockets) socket.destroy()
          server.close()
        }
        resume(Effect.succeed({ register: { ...decisions, port }, close }))
      })
    }),
    ({ close }) => Effect.sync(close)
  ),
  ({ register }) => register
)

/** A process's connection: says whether a write was accepted. */
export const connect = (
  port: number
): Effect.Effect<(write: Write) => Effect.Effect<boolean>, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.async<Net.Socket>((resume) => {
        const socket = Net.connect({ host: "127.0.0.1", port, noDelay: true })
        socket.on("error", () => {})
        socket.once("connect", () => resume(Effect.succeed(socket)))
      }),
      (socket) => Effect.sync(() => socket.destroy())
    ),
    (socket) => {
      const waiting = new Map<number, (accepted: boolean) => void>()
      let lastId = 0
      onLines(socket, (line) => {
        const [id, word] = line.split(" ")
        waiting.get(Number(id))?.(word === "ok")
        waiting.delete(Number(id))
      })
      return (write) =>
        Effect.async<boolean>((resume) => {
          const id = ++lastId
          waiting.set(id, (accepted) => resume(Effect.succeed(accepted)))
          socket.write(`${JSON.stringify({ id, ...write })}\n`)
        })
    }
  )

const onLines = (socket: Net.Socket, onLine: (line: string) => void): void => {
  let rest = ""
  socket.on("data", (chunk) => {
    const lines = (rest + chunk.toString()).split("\n")
    rest = lines.pop()!
    for (const line of lines) onLine(line)
  })
}
