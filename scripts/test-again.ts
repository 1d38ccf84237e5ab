/**
 * Runs the test files again that have failed in the last run, one after the other, with nothing beside
 * them: many tests are about times, and a machine that stood still for a second fails some of them. More than a
 * few failures are no such thing, and are not tried. What passes here has failed once all the same: both runs
 * are in the log, and a file that is seen here more than once has a test to be mended.
 */
import { spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { type Failed, failedFile } from "../test/totals.js"

const most = 4

const failed = JSON.parse(readFileSync(failedFile, "utf8")) as ReadonlyArray<Failed> | null

if (failed === null || failed.length === 0 || failed.length > most) {
  console.error(`Not tried again: ${failed?.length ?? "other errors than those of"} files failed.`)
  process.exit(1)
}

for (const { file, project } of failed) {
  console.log(`\nAgain, by itself: ${file} (${project})`)
  const args = ["vitest", "run", "--project", project, file]
  const { status } = spawnSync("npx", args, { stdio: "inherit" })
  if (status !== 0) process.exit(1)
}
