/** Folders of the repository that have packages of their own, which `npm ci` at the root does not install. */
import { spawnSync } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"

/** Runs a command there, and ends this process if it fails. */
export const run = (cwd: string, command: string, ...args: ReadonlyArray<string>): void => {
  const { error, status } = spawnSync(command, args, { cwd, stdio: "inherit" })
  if (status !== 0) {
    const why = error === undefined ? "" : `: ${error.message}`
    console.error(`\n${[command, ...args].join(" ")} failed${why}`)
    process.exit(status ?? 1)
  }
}

/** Has npm put there what the lock file says, where that is not so. */
export const install = (folder: string): void => {
  if (!isInstalled(folder)) run(folder, "npm", "ci", "--no-audit", "--no-fund")
}

const isInstalled = (folder: string): boolean => {
  const installed = join(folder, "node_modules/.package-lock.json")
  if (!existsSync(installed)) return false
  const versions = (path: string) => {
    const { packages } = JSON.parse(readFileSync(path, "utf8"))
    return new Map<string, { version: string; optional?: boolean }>(Object.entries(packages))
  }
  const present = versions(installed)
  return [...versions(join(folder, "package-lock.json"))].every(
    ([path, { optional, version }]) =>
      path === "" || optional === true || present.get(path)?.version === version
  )
}
