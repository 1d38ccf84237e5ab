/** What `npm run test:runtimes` checks of other runtimes, on this one; the contract has tests of its own. */
import { describe, expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import * as RedisServer from "../support/RedisServer.js"
import { checks, type Runtime } from "./checks.js"

const root = fileURLToPath(new URL("../..", import.meta.url))
const guest = fileURLToPath(new URL("guest.ts", import.meta.url))

const node: Runtime = {
  name: "Node",
  command: [process.execPath, "--import", "tsx", guest],
  cwd: root
}

describe("a process of its own", () => {
  layer(RedisServer.layer(), { excludeTestServices: true })((it) => {
    for (const { name, run } of checks.filter(({ name }) => !name.startsWith("contract"))) {
      it.scoped(name, () => Effect.map(run(node), (seen) => expect(seen).not.toBe("")), 300_000)
    }
  })
})
