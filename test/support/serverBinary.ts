/** Which Redis server all tests and scripts start: the one that REDIS_SERVER names, or the PATH's. */
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { connect } from "node:net"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"

/** A command for `spawn`, from whatever directory. */
export const serverBinary = (): string => {
  const named = process.env.REDIS_SERVER || "redis-server"
  return named.includes("/") ? resolve(named) : named
}

/** "Redis 7.0.15" or "Valkey 8.0.1", by what `INFO server` says. */
export const versionIn = (info: string): string => {
  const versions = [...info.matchAll(/^([a-z]+)_version:(\S+)/gm)].filter(([, of]) => of !== "gcc")
  // what is not Redis says which Redis it is like as well
  const [, name, version] = versions.find(([, of]) => of !== "redis") ?? versions[0] ?? []
  return name === undefined ? "Redis ?" : `${name[0]!.toUpperCase()}${name.slice(1)} ${version}`
}

/** Starts it for a moment, without a port, and asks it who it is. */
export const askVersion = async (binary = serverBinary()): Promise<string> => {
  const dir = mkdtempSync(join(tmpdir(), "redis-lock-ask-"))
  const socketPath = join(dir, "socket")
  const args = ["--port", "0", "--unixsocket", socketPath, "--save", "", "--dir", dir]
  const server = spawn(binary, args, { stdio: "ignore" })
  let over = false
  const ended = new Promise<void>((resume) => {
    // (that it cannot be run is an error, and no exit)
    const end = () => {
      over = true
      resume()
    }
    server.once("exit", end).once("error", end)
  })
  try {
    for (;;) {
      if (over) throw new Error(`${binary} does not run, or has ended when it was to be asked`)
      const info = await infoAt(socketPath)
      if (info !== undefined) return versionIn(info)
      await new Promise((resume) => setTimeout(resume, 10))
    }
  } finally {
    server.kill("SIGKILL")
    await ended
    rmSync(dir, { recursive: true, force: true })
  }
}

const infoAt = (path: string): Promise<string | undefined> =>
  new Promise((resume) => {
    let said = ""
    const socket = connect(path, () => socket.write("INFO server\r\nQUIT\r\n"))
    socket.on("data", (chunk) => (said += chunk))
    socket.on("error", () => resume(undefined))
    socket.on("close", () => resume(said.includes("redis_version:") ? said : undefined))
  })
