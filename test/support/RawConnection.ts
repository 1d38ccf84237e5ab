/**
 * A connection of the tests' own, below any Redis client: what a test asserts must not depend on
 * the client that it tests.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import * as Resp from "./Resp.js"

/** The connection closed before, or instead of, the reply. */
export class ConnectionClosed extends Data.TaggedError("ConnectionClosed") {
  override readonly message = "the raw connection is closed"
}

export interface RawConnection {
  /** The port by which the server knows this connection. */
  readonly localPort: number
  readonly isOpen: () => boolean
  /** Sends one command; replies come in order. Fails when the connection closes first. */
  readonly command: (...args: ReadonlyArray<string | number>) => Effect.Effect<unknown, Error>
}

export interface Options {
  readonly host: string
  readonly port: number
  /** Gets what answers no command: pub/sub messages, the lines of MONITOR. */
  readonly onMessage?: ((value: unknown) => void) | undefined
}

/** A raw connection, open as long as the scope. */
export const make = (options: Options): Effect.Effect<RawConnection, Error, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(connect(options), (socket) => Effect.sync(() => socket.destroy())),
    (socket) => fromSocket(socket, options.onMessage)
  )

const connect = ({ host, port }: Options): Effect.Effect<Net.Socket, Error> =>
  Effect.async((resume) => {
    const socket = Net.connect({ host, port, noDelay: true })
    socket.once("error", (error) => resume(Effect.fail(error)))
    socket.once("connect", () => resume(Effect.succeed(socket)))
    return Effect.sync(() => socket.destroy())
  })

const fromSocket = (
  socket: Net.Socket,
  onMessage: ((value: unknown) => void) | undefined
): RawConnection => {
  const waiting: Array<(reply: Effect.Effect<unknown, Error>) => void> = []
  const split = Resp.splitter("replies")
  let open = true
  socket.on("data", (chunk) => {
    for (const { value } of split(chunk)) {
      const message = onMessage !== undefined && isMessage(value)
      const resume = message ? undefined : waiting.shift()
      if (resume === undefined) onMessage?.(value)
      else resume(value instanceof Resp.ReplyError ? Effect.fail(value) : Effect.succeed(value))
    }
  })
  socket.on("error", () => socket.destroy())
  socket.on("close", () => {
    open = false
    for (const resume of waiting.splice(0)) {
      resume(Effect.fail(new ConnectionClosed()))
    }
  })
  return {
    localPort: socket.localPort!,
    isOpen: () => open && socket.writable,
    command: (...args) =>
      Effect.async((resume) => {
        if (!open) return resume(Effect.fail(new ConnectionClosed()))
        waiting.push(resume)
        socket.write(Resp.encode(args))
      })
  }
}

const isMessage = (value: unknown): boolean =>
  Array.isArray(value) && /^[ps]?message$/.test(String(value[0]))
