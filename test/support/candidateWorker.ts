/**
 * A process of its own that stands for the lead of a key from its start on, under `NodeRuntime.runMain`:
 * SIGTERM is a clean end. Whoever leads writes to a register every few milliseconds. Started by
 * `Workers`.
 */
import { NodeRuntime } from "@effect/platform-node"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { Leader, RedisLockStore } from "effect-redis-lock"
import { now } from "../faults/History.js"
import * as Register from "../faults/Register.js"

export interface Environment {
  readonly REDIS_URL: string
  readonly KEY: string
  readonly TTL: string
  readonly OWNER: string
  /** The port of the register. */
  readonly REGISTER: string
}

/** Times are those of the histories; `until`: the end of what is proven of the lead. */
export type News =
  | { readonly _tag: "Ready" }
  | { readonly _tag: "Elected"; readonly at: number; readonly term: number }
  | { readonly _tag: "Step"; readonly at: number; readonly until: number; readonly term: number }
  /** The last thing that its finalizers do: a write, which may be refused. */
  | {
      readonly _tag: "Ended"
      readonly at: number
      readonly term: number
      readonly accepted: boolean
    }
  | { readonly _tag: "Failed"; readonly message: string }

const tell = (news: News) => Effect.sync(() => void process.send!(news))

const { KEY, OWNER, REDIS_URL, REGISTER, TTL } = process.env as unknown as Environment

const program = Effect.gen(function* () {
  const connected = yield* Register.connect(Number(REGISTER))
  const write = (term: number, phase: "middle" | "exit") =>
    connected({ key: KEY, section: OWNER, worker: OWNER, phase, fence: term, floor: term, hold: 0 })
  yield* tell({ _tag: "Ready" })
  yield* Leader.run(KEY, { ttl: Number(TTL), owner: OWNER })((lease) => {
    const term = lease.fencingToken
    const step = Effect.flatMap(lease.remaining, (left) => {
      const at = now()
      return tell({ _tag: "Step", at, until: at + Duration.toMillis(left), term })
    })
    // (the next step waits for a timer, which is due when a stopped process goes on)
    const stepping = Effect.forever(Effect.zipRight(step, Effect.sleep(5)))
    const writing = Effect.forever(Effect.zipRight(write(term, "middle"), Effect.sleep(20)))
    return Effect.suspend(() => tell({ _tag: "Elected", at: now(), term })).pipe(
      Effect.zipRight(Effect.all([stepping, writing], { concurrency: 2, discard: true })),
      Effect.ensuring(
        Effect.flatMap(write(term, "exit"), (accepted) =>
          Effect.suspend(() => tell({ _tag: "Ended", at: now(), term, accepted }))
        )
      )
    )
  })
}).pipe(
  Effect.scoped,
  Effect.provide(RedisLockStore.layer({ url: REDIS_URL })),
  Effect.provide(Logger.remove(Logger.defaultLogger)),
  Effect.tapErrorCause((cause) => tell({ _tag: "Failed", message: String(cause) }))
)

// (whose parent has died leads nobody)
process.on("disconnect", () => process.exit(1))
// the channel to the parent keeps it alive for no longer than the program runs
process.channel!.unref()
NodeRuntime.runMain(program)
