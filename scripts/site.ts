/**
 * The documentation as a site (site/, which has packages of its own): `npm run docs:build` writes it to
 * site/.vitepress/dist and checks it, `npm run docs:dev` shows it and follows changes. What comes after `--` goes to
 * VitePress: `npm run docs:build -- --base /effect-redis-lock/` where it is not at a host's root.
 */
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { install, run } from "./installed.js"

const root = join(import.meta.dirname, "..")
const site = join(root, "site")
const [command, ...args] = process.argv.slice(2)
if (command !== "build" && command !== "dev") {
  console.error("npm run docs:build, or npm run docs:dev")
  process.exit(1)
}

install(site)
if (command === "build") {
  const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
  if ("api:docs" in scripts) {
    // (it is made of the built declarations)
    if (!existsSync(join(root, "dist/index.d.ts"))) run(root, "npm", "run", "build")
    run(root, "npm", "run", "--silent", "api:docs")
  }
  run(root, "npx", "tsc", "--noEmit", "-p", "site")
}
run(site, "npx", "vitepress", command, ...args)
if (command === "build") run(root, "npx", "tsx", "site/check.ts", ...args)
