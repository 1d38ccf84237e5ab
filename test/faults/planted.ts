/**
 * What the fault suite is worth: mistakes that lock libraries have made, each planted into a copy of
 * `src` by a textual edit or two, and hunted with the suite's own plans.
 */
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import type { CheckName } from "./checks.js"
import * as Plan from "./Plan.js"
import { type Row, rowNamed } from "./Rows.js"
import * as Soak from "./Soak.js"

export interface Edit {
  /** Below `src`. */
  readonly file: string
  /** Occurs exactly once. */
  readonly find: string
  readonly replace: string
}

export interface Bug extends Edit {
  readonly name: string
  /** Where the library has more than one way to do what the bug leaves undone: the others. */
  readonly also?: ReadonlyArray<Edit>
  /** Where it is hunted. */
  readonly row: string
  /** With what, before anything else. */
  readonly scripts: ReadonlyArray<string>
}

const proxied = "mutex, one Redis through proxies"
const strict = "mutex without local handoff, through proxies"
const permits = "semaphore, one Redis through proxies"
const strictPermits = "semaphore without local handoff, through proxies"
const inMemory = "semaphore in memory"
const readers = "read-write lock, one Redis through proxies"
const strictReaders = "read-write lock without local handoff, through proxies"
const readersInMemory = "read-write lock in memory"
const leaders = "leader, one Redis through proxies"
const jobs = "job, one Redis through proxies"
const several = "several, one Redis through proxies"

export const bugs: ReadonlyArray<Bug> = [
  {
    name: "a second key that is kept after a failure",
    file: "internal/lease/several.ts",
    find: `if (held.keys.length > 0) this.giveBack(held)`,
    replace: ``,
    also: [
      {
        file: "internal/lease/several.ts",
        find: `else this.giveBack(granted)
    })`,
        replace: `
    })`
      }
    ],
    row: several,
    scripts: ["calm and patient", "calm"]
  },
  {
    name: "a leader that is not interrupted at a loss",
    file: "internal/face/leader.ts",
    find: `return comparingFirst(given, noted)`,
    replace: `return Effect.uninterruptible(noted)`,
    row: leaders,
    scripts: ["flushall", "black hole: the holder", "stopped: the holder"]
  },
  {
    name: "a job that is claimed for no tick",
    file: "internal/face/cronJob.ts",
    find: `...ownLockAt(tick, keptMillis),`,
    replace: `...ownLockAt(tick, keptMillis),
      tick: undefined as never,`,
    row: jobs,
    scripts: ["calm"]
  },
  {
    name: "a release does not check the token",
    file: "internal/redis/scripts.ts",
    find: `local token = redis.pcall('GET', KEYS[1])
if token == ARGV[1] and redis.call('EXISTS', KEYS[3]) == 0 then`,
    replace: `local token = ARGV[1]
if token == ARGV[1] and redis.call('EXISTS', KEYS[3]) == 0 then`,
    row: proxied,
    scripts: ["stopped", "black hole", "half-open"]
  },
  {
    name: "a renewal does not check the token",
    file: "internal/redis/scripts.ts",
    find: `if token ~= ARGV[1] then return \${otherwise} end`,
    replace: `if not token then return 0 end`,
    row: proxied,
    scripts: ["flushall", "restart empty"]
  },
  {
    name: "validity is counted from the reply",
    file: "internal/redis/call.ts",
    find: `this.sentAt = sentAt
    this.byOneKey`,
    replace: `this.sentAt = this.carrier.clock.unsafeNow()
    this.byOneKey`,
    row: proxied,
    scripts: ["later and later"]
  },
  {
    name: "a watchdog cuts a connection that is late",
    file: "internal/redis/connections.ts",
    find: `if (silence >= call.patienceMillis) this.doubt(silence >= dead)`,
    replace: `if (silence >= call.patienceMillis) this.closed(older, undefined)`,
    row: proxied,
    scripts: ["latency jumps", "slow links"]
  },
  {
    name: "nothing is sent again on the second connection",
    file: "internal/redis/connections.ts",
    find: `if (call.isWanted) calls.push(call)`,
    replace: `if (call.isWanted && this.lines.length === 1) calls.push(call)`,
    // or it is sent there after all, when the first connection is given up: a round trip later
    also: [
      {
        file: "internal/redis/connections.ts",
        find: `else this.lines.find((line) => line.greeted)?.lane.send(alone(call))`,
        replace: ``
      }
    ],
    row: proxied,
    scripts: ["connections lead nowhere", "idle connections lead nowhere"]
  },
  {
    name: "a grant by message is counted from its arrival",
    file: "internal/redis/place.ts",
    find: `this.granted(told, this.provenAt, ttl)`,
    replace: `this.granted(told, this.now, ttl)`,
    also: [
      {
        file: "internal/redis/hints.ts",
        find: `validUntil(provenAt, ttl) - now > Math.max(ttl / 4, 2 * route.slowestMillis) &&`,
        replace: ``
      }
    ],
    row: strict,
    scripts: ["later and later", "a partition"]
  },
  {
    name: "a renewal that is not answered has no deadline",
    file: "internal/lease/core.ts",
    find: `this.expiry ??= this.clock.unsafeSchedule(this.giveUpAt, this.onExpiry)`,
    replace: ``,
    row: proxied,
    scripts: ["black hole", "half-open"]
  },
  {
    name: "a handoff skips the head of the queue",
    file: "internal/redis/lua.ts",
    find: `local first, place = unpack(redis.call('ZPOPMIN', KEYS[k + 3]))`,
    replace: `local queue, place = KEYS[k + 3], 0
    local first = redis.call('ZRANGE', queue, 1, 1)[1] or redis.call('ZRANGE', queue, 0, 0)[1]
    if first then redis.call('ZREM', queue, first) end`,
    row: strict,
    scripts: ["calm and patient"]
  },
  {
    name: "the fencing counter starts again when its record is lost",
    file: "internal/redis/lua.ts",
    find: `local function mint(now, claim, least)`,
    replace: `local function mint(now, claim, least)
  now = 1000000`,
    row: proxied,
    scripts: ["flushall", "restart empty"]
  },
  {
    name: "a cancelled wait does not leave the queue",
    file: "internal/redis/place.ts",
    find: `this.around.commands.giveBack(onItsWay, protocol, keys, token, longestTtl)`,
    replace: ``,
    row: strict,
    scripts: ["calm, few fibers"]
  },
  {
    name: "a dead waiter is served",
    file: "internal/redis/lua.ts",
    find: `if beat and now / 1000 - beat <= tonumber(window) then`,
    replace: `if beat then`,
    row: strict,
    scripts: ["killed: a waiter"]
  },
  {
    name: "a count that is read before it is changed",
    file: "internal/redis/holders.ts",
    find: `used = before + share
  redis.call('HSET', KEYS[k + 5], token, fence .. ' ' .. claim, 'in-use', before == 0 and share or used)`,
    replace: `redis.call('HSET', KEYS[k + 5], token, fence .. ' ' .. claim, 'in-use', before + share)`,
    row: permits,
    scripts: ["calm"]
  },
  {
    name: "a release that frees two",
    file: "internal/redis/holders.ts",
    find: `redis.call('HINCRBY', KEYS[k + 5], 'in-use', -freed)`,
    replace: `redis.call('HINCRBY', KEYS[k + 5], 'in-use', -freed - 1)`,
    row: permits,
    scripts: ["calm"]
  },
  {
    name: "a run whose last number stands in the entry",
    file: "internal/redis/holders.ts",
    find: `  put(token, first, claim, ttl)
  return first`,
    replace: `  put(token, fence, claim, ttl)
  return first`,
    row: permits,
    scripts: ["calm", "calm and patient"]
  },
  {
    name: "an expired holder that still counts",
    file: "internal/redis/holders.ts",
    find: `if tonumber(held[2]) <= millis and toRemove > 0 then`,
    replace: `if tonumber(held[2]) + 4000 <= millis and toRemove > 0 then`,
    // or it is gone with the key: for some seconds, so that a run comes to an end
    also: [
      {
        file: "internal/redis/holders.ts",
        find: `string.format('%.0f', millis), 'LIMIT', 0, toRemove)`,
        replace: `string.format('%.0f', millis - 4000), 'LIMIT', 0, toRemove)`
      },
      {
        file: "internal/redis/holders.ts",
        find: `local function expire(at, several)`,
        replace: `local function expire(at, several)
  at = string.format('%.0f', at + 4000)`
      }
    ],
    row: strictPermits,
    scripts: ["killed: one after the other"]
  },
  {
    name: "a limit that is forgotten",
    file: "internal/redis/holders.ts",
    find: `return used + share <= math.min(limit, least)`,
    replace: `return used + share <= tonumber(limit)`,
    row: permits,
    scripts: ["calm"]
  },
  {
    name: "a limit that is forgotten in memory",
    file: "internal/memory/entry.ts",
    find: `return this.inUse + share <= Math.min(limit, this.leastLimit ?? limit)`,
    replace: `return this.inUse + share <= limit`,
    row: inMemory,
    scripts: ["calm"]
  },
  {
    name: "what is small overtakes the queue",
    file: "internal/redis/semaphoreScripts.ts",
    find: `if redis.call('EXISTS', KEYS[k + 3]) == 0 and room(ARGV[a + 3]) then return take() end`,
    replace: `if room(ARGV[a + 3]) then return take() end`,
    row: strictPermits,
    scripts: ["calm and patient"]
  },
  {
    name: "a writer overtakes the readers that are inside",
    file: "internal/redis/holders.ts",
    find: `return used + share <= math.min(limit, least)`,
    replace: `return used + share <= math.min(limit, least) or share == '1000000'`,
    row: strictReaders,
    scripts: ["calm and patient"]
  },
  {
    name: "readers overtake a writer that waits",
    file: "internal/redis/semaphoreScripts.ts",
    find: `if redis.call('EXISTS', KEYS[k + 3]) == 0 and room(ARGV[a + 3]) then return take() end`,
    replace: `if room(ARGV[a + 3]) then return take() end`,
    row: strictReaders,
    scripts: ["calm and patient"]
  },
  {
    name: "a downgrade with a gap",
    file: "internal/redis/semaphoreScripts.ts",
    find: `local less = known and shareOf(known) - ARGV[3] or 0`,
    replace: `local less = known and shareOf(known) - 0 or 0`,
    row: readers,
    scripts: ["calm"]
  },
  {
    name: "a downgrade with a gap in memory",
    file: "internal/memory/entry.ts",
    find: `this.inUse += share - holding.share`,
    replace: `this.inUse -= holding.share`,
    row: readersInMemory,
    scripts: ["calm"]
  },
  {
    name: "a shared read that is given back by the first",
    file: "internal/redis/tenure.ts",
    find: `      this.holder = next
      return true`,
    replace: `      this.holder = next
      return false`,
    row: readers,
    scripts: ["calm"]
  },
  {
    name: "a read that is shared while a writer waits",
    file: "internal/redis/tenure.ts",
    find: `now - this.lookedAt < localHandoffMillis &&`,
    replace: ``,
    also: [
      {
        file: "internal/redis/tenure.ts",
        find: `this.fencingToken < this.reservedUntil &&`,
        replace: ``
      },
      {
        file: "internal/redis/tenures.ts",
        find: `if (this.waiters.size > 0) return undefined`,
        replace: ``
      }
    ],
    row: readers,
    scripts: ["calm"]
  }
]

/** A copy without a bug, hunted with the plans of all bugs of that row: it has to get away. */
export const control = (row: string): Bug => ({
  name: `nothing (${row})`,
  file: "internal/common/timing.ts",
  find: "export const drift",
  replace: "export const drift",
  row,
  scripts: [...new Set(bugs.filter((bug) => bug.row === row).flatMap(({ scripts }) => scripts))]
})

/** The same runs without the bug. A check that fails in these as well has not found the bug. */
export const unplanted = (bug: Bug): Bug => ({
  ...bug,
  name: `nothing, in the runs of "${bug.name}"`,
  replace: bug.find,
  also: []
})

const root = fileURLToPath(new URL("../../", import.meta.url))

export const editsOf = ({ also = [], file, find, replace }: Bug): ReadonlyArray<Edit> => [
  { file, find, replace },
  ...also
]

/** A copy of `src` with the bug in it; gives the environment in which workers run it. */
const plant = (bug: Bug) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const cache = Path.join(root, ".cache/faults")
      Fs.mkdirSync(cache, { recursive: true })
      const dir = Fs.mkdtempSync(Path.join(cache, "planted-"))
      Fs.cpSync(Path.join(root, "src"), Path.join(dir, "src"), { recursive: true })
      for (const edit of editsOf(bug)) {
        const file = Path.join(dir, "src", edit.file)
        const source = Fs.readFileSync(file, "utf8")
        const times = source.split(edit.find).length - 1
        if (times !== 1) {
          throw new Error(
            `"${bug.name}" cannot be planted: src/${edit.file} has its place ${times} times, and not once`
          )
        }
        Fs.writeFileSync(
          file,
          source.replace(edit.find, () => edit.replace)
        )
      }
      const tsconfig = Path.join(dir, "tsconfig.json")
      Fs.writeFileSync(
        tsconfig,
        JSON.stringify({
          extends: Path.join(root, "tsconfig.json"),
          compilerOptions: {
            paths: {
              "effect-redis-lock": ["./src/index.ts"],
              "effect-redis-lock/*": ["./src/*.ts"]
            }
          },
          include: ["src"]
        })
      )
      return { dir, env: { TSX_TSCONFIG_PATH: tsconfig } }
    }),
    ({ dir }) => Effect.sync(() => Fs.rmSync(dir, { recursive: true, force: true }))
  )

export interface Catch {
  readonly bug: string
  /** How many runs it took; `undefined`: it got away. */
  readonly runs: number | undefined
  readonly of: number
  readonly caughtBy: ReadonlyArray<CheckName>
  readonly plan: string | undefined
  readonly report: string | undefined
}

/** The plans of the bug's own scripts, then random ones and the scripts again by turns. */
const plansFor = (bug: Pick<Bug, "scripts">, row: Row, most: number): Array<Plan.Plan> => {
  const all = Plan.scripts(row)
  const own = bug.scripts.flatMap((script) => all.filter(({ name }) => name.startsWith(script)))
  return Array.from({ length: most }, (_, index) => {
    const again = own[index % own.length]!
    if (index < own.length) return again
    return index % 2 === 0 ? Plan.random(index, row, 6_000) : { ...again, seed: index }
  })
}

/** Runs the suite against the bug until a check finds it, or so many runs are over. */
export const hunt = (bug: Bug, most: number): Effect.Effect<Catch> =>
  Effect.scoped(
    Effect.gen(function* () {
      const { env } = yield* plant(bug)
      const row = rowNamed(bug.row)
      const plans = plansFor(bug, row, most)
      let caught: Catch | undefined
      const tally = yield* Soak.onOneCrew(
        row,
        () => (caught === undefined ? plans.shift() : undefined),
        {
          env,
          onRun: (tally, { plan, violations }) =>
            Effect.sync(() => {
              if (violations.length === 0) return
              caught = {
                bug: bug.name,
                runs: tally.runs,
                of: most,
                caughtBy: [...new Set(violations.map(({ check }) => check))],
                plan: plan.name,
                report: tally.reports.at(-1)
              }
            })
        }
      )
      return (
        caught ?? {
          bug: bug.name,
          runs: undefined,
          of: most,
          caughtBy: [...tally.violations.keys()],
          plan: undefined,
          report: undefined
        }
      )
    })
  )
