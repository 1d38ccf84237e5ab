/**
 * A process that stands between clients and a server, and makes the way longer: bytes arrive so many
 * milliseconds after they were sent, in both directions, and in their order. It looks into nothing,
 * so that it takes little of the processor from those who are measured.
 *
 * Arguments: the server's port, milliseconds each way. It tells its parent the port it listens on.
 */
import * as Net from "node:net"

const [target, oneWayMillis] = process.argv.slice(2).map(Number) as [number, number]

/** A timer is late by up to a millisecond; what is due within this is due. */
const closeEnoughMillis = 0.3

const later = (to: Net.Socket) => {
  const waiting: Array<{ readonly at: number; readonly deliver: () => void }> = []
  let timer: NodeJS.Timeout | undefined
  const deliver = () => {
    timer = undefined
    while (waiting.length > 0) {
      const wait = waiting[0]!.at - performance.now()
      if (wait > closeEnoughMillis) {
        timer = setTimeout(deliver, wait)
        return
      }
      waiting.shift()!.deliver()
    }
  }
  const add = (deliver_: () => void) => {
    waiting.push({ at: performance.now() + oneWayMillis, deliver: deliver_ })
    timer ??= setTimeout(deliver, oneWayMillis)
  }
  return {
    bytes: (bytes: Buffer) => add(() => to.write(bytes)),
    close: () => add(() => to.destroy())
  }
}

const server = Net.createServer({ noDelay: true }, (client) => {
  const upstream = Net.connect({ port: target, host: "127.0.0.1", noDelay: true })
  for (const [from, to] of [
    [client, upstream],
    [upstream, client]
  ] as const) {
    const way = later(to)
    from.on("data", way.bytes)
    from.on("error", () => {})
    from.once("close", way.close)
  }
})
server.listen(0, "127.0.0.1", () => process.send!((server.address() as Net.AddressInfo).port))
process.on("disconnect", () => process.exit(0))
