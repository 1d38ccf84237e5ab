import { defineConfig } from "vitest/config"
import { fileURLToPath } from "node:url"
const root = (p: string) => fileURLToPath(new URL(p, import.meta.url))
export default defineConfig({ resolve: { alias: [{ find: /^effect$/, replacement: root("node_modules/effect4/dist/index.js") }, { find: /^effect\/(.+)$/, replacement: root("node_modules/effect4/dist/$1.js") }] }, test: { include: ["test/effect4/*.test.ts"] } })
