/** The scripts of claims with bounds: what they need is what plain ones need. */
import { readFileSync } from "node:fs"
import { expect, it } from "vitest"
import {
  lockScripts,
  readWriteScripts,
  semaphoreScripts
} from "../../../src/internal/redis/boundScripts.js"
import { canTravelTogether } from "../../../src/internal/redis/parcel.js"
import type { Script } from "../../../src/internal/redis/lua.js"

const page = readFileSync(new URL("../../../docs/protocol.md", import.meta.url), "utf8")
const rules = (text: string): ReadonlyArray<string> =>
  [...text.matchAll(/\+(\S+)/g)].map(([, command]) => command!)
const ofLocks = rules(/^ACL SETUSER .*$/m.exec(page)![0])
const ofSemaphores = rules(/\*\*Semaphores also need `([^`]*)`\*\*/.exec(page)![1]!)

const commandsOf = ({ lua }: Script): ReadonlyArray<string> =>
  [...lua.matchAll(/redis\.p?call\('([A-Z]+)'/g)].map(([, command]) => command!.toLowerCase())

it.each([
  ["locks", lockScripts, ofLocks],
  ["semaphores", semaphoreScripts, [...ofLocks, ...ofSemaphores]],
  ["read-write locks", readWriteScripts, [...ofLocks, ...ofSemaphores]]
] as const)(
  "those of %s use no command that docs/protocol.md does not name",
  (_, scripts, known) => {
    const all: ReadonlyArray<Script | undefined> = Object.values(scripts)
    for (const script of all) {
      if (script === undefined) continue
      expect(commandsOf(script).length).toBeGreaterThan(2)
      expect(commandsOf(script).filter((command) => !known.includes(command))).toEqual([])
      // (a batch is of plain ones)
      expect(canTravelTogether(script)).toBe(false)
    }
  }
)
