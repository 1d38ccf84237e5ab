/**
 * A proxy in front of two servers that sends each command to the one that its first key belongs to, as
 * proxies do that divide keys among servers (twemproxy, Envoy with several hosts). It looks at hash
 * tags if told to, and refuses what it does not know.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import * as Resp from "./Resp.js"

const host = "127.0.0.1"

/** 0 or 1. */
export const shardOf = (key: string): number =>
  [...key].reduce((hash, letter) => (hash * 31 + letter.charCodeAt(0)) >>> 0, 7) % 2

const tagOf = (key: string): string => /\{([^}]+)\}/.exec(key)?.[1] ?? key

export interface ShardingProxy {
  readonly port: number
  readonly url: string
  /** Every command that came. */
  readonly commands: ReadonlyArray<ReadonlyArray<string>>
}

/** Closes at the end of the scope. */
export const make = (
  ports: readonly [number, number],
  options: { readonly hashTags: boolean } = { hashTags: true }
): Effect.Effect<ShardingProxy, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.async<{ readonly server: Net.Server; readonly proxy: ShardingProxy }>((resume) => {
      const commands: Array<ReadonlyArray<string>> = []
      const sockets = new Set<Net.Socket>()
      const server = Net.createServer((client) => {
        const servers = ports.map((port) => Net.connect({ host, port, noDelay: true }))
        const end = () => [client, ...servers].forEach((socket) => socket.destroy())
        for (const socket of [client, ...servers]) {
          sockets.add(socket)
          socket.on("error", end)
          socket.on("close", end)
        }
        // answers in the order of the commands
        const waiting: Array<{ readonly server: number; bytes: Buffer | undefined }> = []
        const flush = () => {
          while (waiting[0]?.bytes !== undefined) client.write(waiting.shift()!.bytes!)
        }
        const requests = Resp.splitter("requests")
        client.on("data", (chunk) => {
          for (const { bytes, value } of requests(chunk)) {
            const args = (value as ReadonlyArray<unknown>).map(String)
            commands.push(args)
            const name = args[0]!.toLowerCase()
            if (!/^(eval|evalsha|get|set|del)$/.test(name)) {
              waiting.push({ server: -1, bytes: Buffer.from("-ERR unknown command\r\n") })
              continue
            }
            const key = name.startsWith("eval") ? args[3]! : args[1]!
            const to = shardOf(options.hashTags ? tagOf(key) : key)
            waiting.push({ server: to, bytes: undefined })
            servers[to]!.write(bytes)
          }
          flush()
        })
        servers.forEach((socket, index) => {
          const replies = Resp.splitter("replies")
          socket.on("data", (chunk) => {
            for (const { bytes } of replies(chunk)) {
              const first = waiting.find((one) => one.server === index && one.bytes === undefined)
              if (first !== undefined) first.bytes = bytes
            }
            flush()
          })
        })
      })
      server.listen(0, host, () => {
        const { port } = server.address() as Net.AddressInfo
        const proxy = { port, url: `redis://${host}:${port}`, commands }
        server.on("close", () => sockets.forEach((socket) => socket.destroy()))
        resume(Effect.succeed({ server, proxy }))
      })
    }),
    ({ server }) =>
      Effect.sync(() => {
        server.close()
        server.emit("close")
      })
  ).pipe(Effect.map(({ proxy }) => proxy))
