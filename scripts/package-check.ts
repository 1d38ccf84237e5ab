/**
 * Checks the tarball that would be published, or the one that is given (`-- --tarball <file>`): what publint and
 * are-the-types-wrong find, whether each path can be bundled alone and with no more than it needs, and whether
 * everything is as small as it should be (scripts/size.ts has the budgets). `npm run test:pack` uses it.
 */
import { spawnSync } from "node:child_process"
import { readFileSync, statSync } from "node:fs"
import { join, resolve } from "node:path"
import { parseArgs } from "node:util"
import { publint } from "publint"
import { formatMessage } from "publint/utils"
import { pack, root, unpack } from "./packed.js"
import { checkAlone, measure, pageIsTrue, tarballBudget, tooLarge } from "./size.js"

const { values } = parseArgs({ options: { tarball: { type: "string" } } })
const tarball = values.tarball === undefined ? pack().tarball : resolve(values.tarball)
const directory = unpack(tarball)
const manifest = JSON.parse(readFileSync(join(directory, "package.json"), "utf8"))

const problems: Array<string> = []
const failed = (what: string, found: ReadonlyArray<string>) => {
  console.log(`${what}: ${found.length === 0 ? "well" : "failed"}`)
  problems.push(...found.map((problem) => `${what}: ${problem}`))
}

/** Suggestions count as well. */
async function lint(): Promise<ReadonlyArray<string>> {
  const contents = readFileSync(tarball)
  const copy = new Uint8Array(contents).buffer
  const { messages } = await publint({ pack: { tarball: copy }, strict: true })
  return messages.map((message) => formatMessage(message, manifest) ?? message.code)
}

/**
 * Whether TypeScript finds the types of each path, and they say what Node.js finds there. `esm-only`: there is no
 * CommonJS in the package, so `require` gives ES modules, and a `moduleResolution` that does not read `exports`
 * finds nothing; docs/versions.md says both.
 */
function checkTypes(): ReadonlyArray<string> {
  const args = ["--profile", "esm-only", "--no-definitely-typed", "--format", "ascii", "--no-color"]
  const { status, stdout, stderr } = spawnSync("npx", ["attw", tarball, ...args], {
    cwd: root,
    encoding: "utf8"
  })
  return status === 0 ? [] : [`${stdout}${stderr}`]
}

failed("publint", await lint())
failed("are the types wrong", checkTypes())
failed("each path alone", await checkAlone(directory))
const sizes = await measure()
const { size } = statSync(tarball)
const downloaded =
  size > tarballBudget ? [`the tarball has ${size} bytes, the budget is ${tarballBudget}`] : []
failed("size", [...tooLarge(sizes), ...downloaded])
failed("docs/size.md", pageIsTrue(sizes) ? [] : ["not what is measured: npm run size writes it"])

for (const problem of problems) console.error(`\n${problem}`)
process.exitCode = problems.length > 0 ? 1 : 0
