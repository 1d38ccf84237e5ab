/** Exit codes, and the failure that ends the command line with one of them. */
import * as Data from "effect/Data"
import { constants } from "node:os"

/** As in sysexits.h, where there is one for it. */
export const ExitCode = {
  /** Something is wrong that the command was to find (`doctor`), or what was asked for is not there. */
  found: 1,
  usage: 64,
  unavailable: 69,
  /** A fault of this program. */
  software: 70,
  busy: 75,
  lost: 76
} as const

export class CliFailure extends Data.TaggedError("CliFailure")<{
  readonly exitCode: number
  readonly message: string
}> {}

export const usage = (message: string): CliFailure =>
  new CliFailure({ exitCode: ExitCode.usage, message })

/** As a shell says it of a process that a signal ended. */
export const ofSignal = (signal: NodeJS.Signals): number => 128 + constants.signals[signal]

/** What the library says of an option that cannot be. */
export const isImpossible = (defect: unknown): defect is Error =>
  typeof defect === "object" &&
  defect !== null &&
  "_tag" in defect &&
  defect._tag === "IllegalArgumentException"
