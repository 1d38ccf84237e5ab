import * as Effect from "effect/Effect"

/** How many fibers are running that were started under it: which they are, Effect 4 does not tell. */
export const track = Effect.sync(() => {
  let running = 0
  return {
    service: {
      recordFiberStart: () => void running++,
      recordFiberEnd: () => void running--
    },
    value: Effect.sync(() => Array.from({ length: running }))
  }
})

export abstract class AbstractSupervisor {
  abstract onStart(): void
  readonly service = { recordFiberStart: () => this.onStart(), recordFiberEnd: () => {} }
}
