import { Redis } from "ioredis"
import { spawnSync } from "node:child_process"
import { createRequire } from "node:module"
import { expect, test } from "vitest"

const major = process.env.IOREDIS_MAJOR
const require = createRequire(import.meta.url)
const name = major === "5" ? "ioredis5" : "ioredis"

test(`ioredis ${major} is the client under test`, () => {
  expect(require(`${name}/package.json`).version).toMatch(new RegExp(`^${major}\\.`))
  expect(Redis).toBe(require(name).Redis)
})

test(`ioredis ${major} is what a process started with tsx gets`, () => {
  const script = `import("ioredis").then((a) => import("${name}").then((b) => console.log(a.Redis === b.Redis)))`
  const { stdout } = spawnSync(process.execPath, ["--import", "tsx", "--eval", script], {
    encoding: "utf8"
  })
  expect(stdout.trim()).toBe("true")
})
