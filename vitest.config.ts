import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"

const root = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** The package's own name means its sources, as it does in tsconfig.json's `paths`. */
const sources = [
  { find: /^effect-redis-lock$/, replacement: root("src/index.ts") },
  { find: /^effect-redis-lock\/(.+)$/, replacement: root("src/$1.ts") }
]

const withRedis = { globalSetup: "test/setup.ts", testTimeout: 30_000, hookTimeout: 30_000 }

export default defineConfig({
  test: {
    reporters: ["default", "./test/totals.ts"],
    pool: "forks",
    maxWorkers: 2,
    minWorkers: 1,
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
        // Whatever talks to Redis, again with the older client: only that is named like this.
        resolve: { alias: [...sources, { find: /^ioredis$/, replacement: "ioredis5" }] },
        test: {
          name: "ioredis-5",
          include: [
            "test/ioredis.test.ts",
            "test/redis/**/*.test.ts",
            "test/**/{LockStore,Quorum,Redis,redis}*.test.ts"
          ],
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
