/**
 * Runs every file of examples/ as a user would, and expects it to end by itself with exit code 0: in
 * memory, and those that can use Redis on a server as well, where some are several processes. A file with
 * "runs until interrupted" in a comment gets a SIGINT, and must then end with exit code 0.
 */
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { announceRedisServer } from "../test/setup.js"
import * as RedisServer from "../test/support/RedisServer.js"

const directory = join(import.meta.dirname, "../examples")
const names = readdirSync(directory).filter((name) => name.endsWith(".ts"))
const textOf = (name: string) => readFileSync(join(directory, name), "utf8")

/** What went wrong, if something did. */
const run = async (name: string, redisUrl: string): Promise<string | undefined> => {
  const title = `examples/${name}${redisUrl === "" ? "" : ", on Redis"}`
  console.log(`\n── ${title}`)
  const child = spawn(process.execPath, ["--import", "tsx", join(directory, name)], {
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, REDIS_URL: redisUrl }
  })
  const interrupt = textOf(name).includes("runs until interrupted")
    ? setTimeout(() => child.kill("SIGINT"), 5_000)
    : undefined
  const kill = setTimeout(() => child.kill("SIGKILL"), 120_000)
  const [code, signal] = await once(child, "exit")
  clearTimeout(interrupt)
  clearTimeout(kill)
  return code === 0 ? undefined : `${title}: ${signal ?? `exit code ${code}`}`
}

await announceRedisServer()
const failed: ReadonlyArray<string | undefined> = await Effect.runPromise(
  Effect.scoped(
    Effect.gen(function* () {
      const { url } = yield* RedisServer.make()
      const onRedis = names.filter((name) => /REDIS_URL|support\/store/.test(textOf(name)))
      return yield* Effect.forEach(
        [
          ...names.map((name) => [name, ""] as const),
          ...onRedis.map((name) => [name, url] as const)
        ],
        ([name, url]) => Effect.promise(() => run(name, url))
      )
    })
  )
)
const told = failed.filter((what) => what !== undefined)
console.log(told.length === 0 ? "\nevery example ended well" : `\n${told.join("\n")}`)
process.exitCode = told.length === 0 ? 0 : 1
