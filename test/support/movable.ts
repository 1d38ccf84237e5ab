import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"

/** An address that leads elsewhere for those who connect after `leadTo`. */
export const movable = (
  port: number
): Effect.Effect<
  { readonly port: number; readonly leadTo: (port: number) => void },
  never,
  Scope.Scope
> =>
  Effect.gen(function* () {
    let target = port
    const sockets = new Set<Net.Socket>()
    const server = yield* Effect.acquireRelease(
      Effect.async<Net.Server>((resume) => {
        const server = Net.createServer((client) => {
          const behind = Net.connect(target, "127.0.0.1")
          const end = () => [client, behind].forEach((socket) => socket.destroy())
          for (const socket of [client, behind]) {
            sockets.add(socket.on("error", end).on("close", end))
          }
          client.pipe(behind).pipe(client)
        })
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
      }),
      (server) =>
        Effect.async<void>((resume) => {
          server.close(() => resume(Effect.void))
          sockets.forEach((socket) => socket.destroy())
        })
    )
    return {
      port: (server.address() as Net.AddressInfo).port,
      leadTo: (port) => {
        target = port
      }
    }
  })
