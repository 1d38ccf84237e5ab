/**
 * A protected resource that checks who uses it: never two at a time, and the fencing tokens grow.
 * For several processes it listens on a TCP port; nothing that it says depends on Redis.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"

export interface Referee {
  readonly enter: (token: number, who?: string) => void
  readonly exit: (token: number) => void
  /** Whoever entered, in order. */
  readonly entries: () => ReadonlyArray<number>
  readonly visitors: () => ReadonlyArray<string>
  /** What went wrong, in words: nothing, if all is well. */
  readonly verdict: () => ReadonlyArray<string>
}

export const referee = (): Referee => {
  const entries: Array<number> = []
  const visitors: Array<string> = []
  const wrongs: Array<string> = []
  const inside = new Set<number>()
  let last = 0
  return {
    enter: (token, who = "") => {
      if (inside.size > 0) wrongs.push(`${token} entered while ${[...inside].join()} was inside`)
      if (token <= last) wrongs.push(`${token} came after ${last}`)
      last = Math.max(last, token)
      inside.add(token)
      entries.push(token)
      visitors.push(who)
    },
    exit: (token) => {
      if (!inside.delete(token)) wrongs.push(`${token} left without having been inside`)
    },
    entries: () => entries,
    visitors: () => visitors,
    verdict: () => wrongs
  }
}

export interface Judge extends Referee {
  readonly port: number
}

/** Takes lines, `enter 17 name` and `exit 17`, and answers each when it has been judged. */
export const listen: Effect.Effect<Judge, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.async<{ readonly judge: Judge; readonly close: () => void }>((resume) => {
      const judge = referee()
      const sockets = new Set<Net.Socket>()
      const server = Net.createServer({ noDelay: true }, (socket) => {
        sockets.add(socket)
        let rest = ""
        socket.on("error", () => {})
        socket.on("close", () => sockets.delete(socket))
        socket.on("data", (chunk) => {
          const lines = (rest + chunk.toString()).split("\n")
          rest = lines.pop()!
          for (const line of lines) {
            const [verb, token, who] = line.split(" ")
            if (verb === "enter") judge.enter(Number(token), who)
            else judge.exit(Number(token))
            socket.write("ok\n")
          }
        })
      })
      server.listen(0, "127.0.0.1", () => {
        const { port } = server.address() as Net.AddressInfo
        const close = () => {
          for (const socket of sockets) socket.destroy()
          server.close()
        }
        resume(Effect.succeed({ judge: { ...judge, port }, close }))
      })
    }),
    ({ close }) => Effect.sync(close)
  ),
  ({ judge }) => judge
)

/** A process's connection to the judge. */
export const visit = (
  port: number
): Effect.Effect<(line: string) => Effect.Effect<void>, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.async<{ readonly socket: Net.Socket; readonly waiting: Array<() => void> }>(
        (resume) => {
          const waiting: Array<() => void> = []
          const socket = Net.connect({ host: "127.0.0.1", port, noDelay: true })
          socket.on("data", (chunk) => {
            for (const _ of chunk.toString().trimEnd().split("\n")) waiting.shift()?.()
          })
          socket.once("connect", () => resume(Effect.succeed({ socket, waiting })))
        }
      ),
      ({ socket }) => Effect.sync(() => socket.destroy())
    ),
    ({ socket, waiting }) =>
      (line) =>
        Effect.async<void>((resume) => {
          waiting.push(() => resume(Effect.void))
          socket.write(`${line}\n`)
        })
  )
