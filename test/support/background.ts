/** What tests of leaders and jobs have in common: what is logged, and what goes wrong. */
import { expect } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import { LockError } from "effect-redis-lock"

/** What is logged where the layer is provided. */
export const collecting = () => {
  const lines: Array<{ readonly level: string; readonly text: string }> = []
  const logger = Logger.make(({ cause, logLevel, message }) => {
    lines.push({
      level: logLevel.label,
      text: `${[message].flat().map(String).join(" ")}${Cause.isEmpty(cause) ? "" : ` ${Cause.pretty(cause)}`}`
    })
  })
  return { lines, layer: Logger.replace(Logger.defaultLogger, logger) }
}

/** The message of the defect by which something impossible ended. */
export const impossible = (exit: Exit.Exit<unknown, unknown>): string => {
  const [defect] = Exit.isFailure(exit) ? [...Cause.defects(exit.cause)] : []
  expect(Cause.isIllegalArgumentException(defect)).toBe(true)
  return (defect as Error).message
}

export const storeError = (transient: boolean) =>
  new LockError.LockStoreError({ operation: "acquire", detail: "made to fail", transient })
