import type { Reporter } from "vitest/reporters"

/** Ends a run with one plain line; a file or a hook that fails counts, too. */
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
  }
}
