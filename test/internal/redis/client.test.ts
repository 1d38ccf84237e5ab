/** Letting go of a connection, whatever state it is in. */
import { describe, expect, it } from "vitest"
import { once } from "node:events"
import * as Net from "node:net"
import { resetStream } from "../../../src/internal/redis/client.js"

/** A server that reads nothing, and a connection to it. */
const silent = async () => {
  const accepted: Array<Net.Socket> = []
  const server = Net.createServer({ pauseOnConnect: true }, (socket) => {
    socket.on("error", () => {})
    accepted.push(socket)
  })
  await once(server.listen(0, "127.0.0.1"), "listening")
  const stream = Net.connect((server.address() as Net.AddressInfo).port, "127.0.0.1")
  const closed = new Promise<string>((resolve) => {
    stream.on("error", () => {})
    stream.once("close", () => resolve("closed"))
  })
  const end = () => {
    accepted.forEach((socket) => socket.destroy())
    stream.destroy()
    server.close()
  }
  return { stream, closed, end }
}

const soon = new Promise<string>((resolve) => setTimeout(resolve, 2_000, "not closed").unref())

describe("a connection that is let go", () => {
  it("is reset, with what the kernel has not sent", async () => {
    const { closed, end, stream } = await silent()
    await once(stream, "connect")
    stream.write(Buffer.alloc(1 << 24))
    resetStream({ stream })
    expect(await Promise.race([closed, soon])).toBe("closed")
    end()
  })

  it("that the client has ended, and that has more to send, is closed and not forgotten", async () => {
    const { closed, end, stream } = await silent()
    await once(stream, "connect")
    stream.write(Buffer.alloc(1 << 24))
    stream.end()
    resetStream({ stream })
    expect(await Promise.race([closed, soon])).toBe("closed")
    end()
  })

  it("that the client has ended, with nothing more to send, as well", async () => {
    const { closed, end, stream } = await silent()
    await once(stream, "connect")
    stream.end()
    await once(stream, "finish")
    resetStream({ stream })
    expect(await Promise.race([closed, soon])).toBe("closed")
    end()
  })

  it("that the client has ended before it was there, is closed and not forgotten", async () => {
    const { closed, end, stream } = await silent()
    stream.end()
    resetStream({ stream })
    expect(await Promise.race([closed, soon])).toBe("closed")
    end()
  })

  it("and is not there yet, is closed at once", async () => {
    const { closed, end, stream } = await silent()
    resetStream({ stream })
    expect(stream.destroyed).toBe(true)
    expect(await Promise.race([closed, soon])).toBe("closed")
    end()
  })
})
