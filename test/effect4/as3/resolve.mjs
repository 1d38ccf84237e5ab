import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"

const root = (path) => fileURLToPath(new URL(`../../../${path}`, import.meta.url))

/** What an import means where a test runs on Effect 4: a file, a package, or what it means anyway. */
export const asEffect3 = (source, importer = "") => {
  // (copies of what is in test/ are made in .cache/)
  const isTest = /^(test|\.cache)\/(?!effect4\/)/.test(importer.replace(root(""), ""))
  if (isTest && source === "@effect/vitest") return root("test/effect4/as3/vitest.ts")
  const [, module] = /^effect\/(\w+)$/.exec(source) ?? []
  const own = root(`test/effect4/as3/${module}.ts`)
  if (isTest && module !== undefined && existsSync(own)) return own
  if (/^effect(\/|$)/.test(source)) return source.replace("effect", "effect4")
  const [, face] = /\/src\/internal\/face\/(\w+)\.js$/.exec(source) ?? []
  if (isTest && face === "currentHolds") return root("test/effect4/as3/currentHolds.ts")
  if (isTest && face !== undefined) return root(`src/internal/face4/${face}.ts`)
  if (!/^effect-redis-lock(\/|$)/.test(source)) return undefined
  const name = source.slice("effect-redis-lock/".length) || "index"
  return root(
    name.startsWith("internal/face/")
      ? `src/${name.replace("face", "face4")}.ts`
      : `src/effect4/${name}.ts`
  )
}
