import { mkdirSync, writeFileSync } from "node:fs"
import { dirname } from "node:path"
import { fileURLToPath } from "node:url"
import type { Reporter } from "vitest/reporters"

/** The files that have failed, for `npm run test:again`. */
export const failedFile = fileURLToPath(new URL("../.cache/failed-tests.json", import.meta.url))

export interface Failed {
  readonly project: string
  readonly file: string
}

/** Ends a run with one plain line; a file or a hook that fails counts, too. Notes which files have failed. */
export default class Totals implements Reporter {
  private line = ""

  constructor() {
    // after whatever the other reporters have to say
    process.once("exit", () => this.line !== "" && console.log(this.line))
  }

  onTestRunEnd: NonNullable<Reporter["onTestRunEnd"]> = (modules, unhandledErrors) => {
    const tests = modules.flatMap((module) => [...module.children.allTests()])
    const suites = modules.flatMap((module) => [module, ...module.children.allSuites()])
    const count = (state: string) => tests.filter((test) => test.result().state === state).length
    const errors = unhandledErrors.length + suites.flatMap((suite) => suite.errors()).length
    this.line = `${count("passed")} passed, ${count("failed") + errors} failed`
    const failed = modules
      .filter((module) => !module.ok())
      .map((module): Failed => ({ project: module.project.name, file: module.moduleId }))
    // (an error outside of all files is of none of them)
    const noted = unhandledErrors.length > 0 ? undefined : failed
    mkdirSync(dirname(failedFile), { recursive: true })
    writeFileSync(failedFile, JSON.stringify(noted ?? null))
  }
}
