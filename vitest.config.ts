import { fileURLToPath } from "node:url"
import { defineConfig, type Plugin } from "vitest/config"
import { asEffect3 } from "./test/effect4/as3/resolve.mjs"
import { BaseSequencer, type TestSpecification } from "vitest/node"

const root = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** The package's own name means its sources, as it does in tsconfig.json's `paths`. */
const sources = [
  { find: /^effect-redis-lock\/effect4$/, replacement: root("src/effect4/index.ts") },
  { find: /^effect-redis-lock$/, replacement: root("src/index.ts") },
  { find: /^effect-redis-lock\/(.+)$/, replacement: root("src/$1.ts") }
]

const withRedis = { globalSetup: "test/setup.ts", testTimeout: 30_000, hookTimeout: 30_000 }

/** Of test/redis: run with ioredis 6 alone. Whatever is new there runs with both. */
const withOneClient = [
  "acknowledgedContract",
  "acknowledgedFailover",
  "cancelling",
  "capacity",
  "clusterChanges",
  "cronJob",
  "deadline",
  "deadlockHunt",
  "fencing",
  "forceRelease",
  "handOver",
  "holdAtLeast",
  "hostile",
  "leader",
  "late",
  "lineFaults",
  "lines",
  "manyReaders",
  "maxHold",
  "multiLock",
  "ownership",
  "quorum",
  "quorumClocks",
  "quorumContract",
  "queueFaults",
  "queueOrder",
  "queueProcesses",
  "queueScripts",
  "queueWaiting",
  "readWriteLock",
  "records",
  "renewal",
  "semaphore",
  "semaphoreRuns",
  "semaphoreScripts",
  "stalls",
  "tick",
  "validity"
]

/** Test files of the face that run on both Effects. */
const onBothFaces = [
  "CronJob",
  "Leader",
  "LockStoreContract",
  "MemoryLockStore",
  "MultiLock",
  "QuorumLockStore",
  "ReadWriteLock",
  "Semaphore",
  "TestLockStore",
  "asyncContext",
  "capabilities",
  "composition",
  "defaults",
  "forceRelease",
  "handOver",
  "holdAtLeast",
  "lease",
  "longWaits",
  "maxHold",
  "memoryExpiry",
  "multiLockTime",
  "options",
  "queue",
  "readWriteStories",
  "redis/deadline",
  "redis/leftovers",
  "redis/secrets",
  "reentrant",
  "telemetry",
  "tick",
  "waitsForItself"
].map((name) => `test/${name}.test.ts`)

const onEffect4: Plugin = {
  name: "effect-4",
  enforce: "pre",
  resolveId(source, importer = "") {
    return /^effect(\/|$)/.test(source) && !importer.startsWith(root("test/support/"))
      ? this.resolve(source.replace("effect", "effect4"), importer)
      : undefined
  }
}

/** Test files that are written for Effect 3, on Effect 4: test/effect4/as3 has what differs. */
const onBoth: Plugin = {
  name: "as-effect-3",
  enforce: "pre",
  resolveId(source, importer) {
    const found = asEffect3(source, importer)
    return found?.startsWith("effect4") ? this.resolve(found, importer) : found
  }
}

/** What takes longest, which comes first, so that no worker has one of these alone at the end. */
const longest = [
  "faults/faults",
  "examples",
  "LockStore",
  "redis/acl",
  "redis/clusterLayer",
  "redis/slotMoves",
  "redis/cronJob",
  "redis/sentinelLayer",
  "redis/leader",
  "cli/run",
  "CronJob",
  "cli/doctor"
].map((name) => `/test/${name}.test.ts`)

class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    const place = ({ moduleId }: TestSpecification) => {
      const index = longest.findIndex((name) => moduleId.endsWith(name))
      return index < 0 ? longest.length : index
    }
    return (await super.sort(files)).sort((one, other) => place(one) - place(other))
  }
}

export default defineConfig({
  test: {
    reporters: ["default", "./test/totals.ts"],
    pool: "forks",
    // (most of a test is waiting: two cores are busy half of the time with two of them)
    maxWorkers: 3,
    minWorkers: 1,
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        resolve: { alias: sources },
        test: {
          name: "ioredis-6",
          include: ["test/**/*.test.ts"],
          exclude: ["test/effect4/**"],
          env: { IOREDIS_MAJOR: "6" },
          ...withRedis
        }
      },
      {
        // What depends on the client, again with the older one: how it connects, logs in, sends, fails
        // and closes. What scripts, queue, lines and leases do with its answers is the same for both.
        resolve: { alias: [...sources, { find: /^ioredis$/, replacement: "ioredis5" }] },
        test: {
          name: "ioredis-5",
          include: ["test/ioredis.test.ts", "test/LockStore.test.ts", "test/redis/*.test.ts"],
          exclude: withOneClient.map((name) => `test/redis/${name}.test.ts`),
          env: {
            IOREDIS_MAJOR: "5",
            // the same for the processes that tests start with tsx
            TSX_TSCONFIG_PATH: root("tsconfig.ioredis-5.json")
          },
          ...withRedis
        }
      },
      {
        // the face for Effect 4, whose `effect` is the package `effect4`, an alias of it
        // (but test/support runs on Effect 3: it starts servers)
        plugins: [onEffect4],
        resolve: { alias: sources },
        test: {
          name: "effect-4",
          include: ["test/effect4/**/*.test.ts"],
          env: { TSX_TSCONFIG_PATH: root("test/effect4/tsconfig.json") },
          ...withRedis
        }
      },
      {
        plugins: [onBoth],
        test: {
          name: "both-faces",
          include: onBothFaces,
          env: { EFFECT_MAJOR: "4" },
          ...withRedis
        }
      },
      {
        // the same, with fibers that yield after each step (Effect 4.1 itself never ends with less)
        plugins: [onBoth],
        test: {
          name: "both-faces-yielding",
          include: ["test/composition.test.ts"],
          env: { EFFECT_MAJOR: "4", MAX_OPS: "3" },
          ...withRedis
        }
      },
      {
        // the documentation's site, once it is built (npm run docs:test)
        test: { name: "site", include: ["site/test/*.test.ts"], testTimeout: 60_000 }
      },
      {
        resolve: { alias: sources },
        test: {
          name: "types",
          include: [],
          typecheck: { enabled: true, only: true, include: ["test/**/*.test-d.ts"] }
        }
      }
    ]
  }
})
