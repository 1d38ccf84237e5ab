/**
 * Fibers go on after a step of the engine, and not within it: Effect 4 resumes, and interrupts, a fiber
 * in place. A key that is passed on through a thousand callers would take a thousand of their bodies on
 * one stack, and what overflows there ends the process; and the engine would be asked again while it is
 * in the middle of an answer.
 */
import { isolated } from "../common/isolated.js"

let steps: Array<() => void> = []
const turn = Promise.resolve()

/** Calls back in the next microtask; what was asked for first is called first. */
export const afterwards = (step: () => void): void => {
  if (steps.push(step) === 1) void turn.then(takeSteps)
}

const takeSteps = (): void => {
  const taken = steps
  steps = []
  for (const step of taken) isolated(step, undefined)
}

/** `resume` of `Effect.callback`, called afterwards. */
export const resuming =
  <A>(resume: (value: A) => void): ((value: A) => void) =>
  (value) => {
    afterwards(() => resume(value))
  }
