import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
import { BaseSequencer, type TestSpecification } from "vitest/node"

const root = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** The package's own name means its sources, as it does in tsconfig.json's `paths`. */
const sources = [
  { find: /^effect-redis-lock$/, replacement: root("src/index.ts") },
  { find: /^effect-redis-lock\/(.+)$/, replacement: root("src/$1.ts") }
]

const withRedis = { globalSetup: "test/setup.ts", testTimeout: 30_000, hookTimeout: 30_000 }

/** Of test/redis: run with ioredis 6 alone. Whatever is new there runs with both. */
const withOneClient = [
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

/** Minutes in one file: it comes first, so that no worker has it alone at the end. */
class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    const isLong = ({ moduleId }: TestSpecification) => moduleId.endsWith("/faults/faults.test.ts")
    const sorted = await super.sort(files)
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))]
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
