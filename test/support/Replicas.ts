/**
 * A master with replicas of real processes, without anything that watches over them: which of them lags, and
 * which is promoted, is the test's to say.
 *
 * @example
 * ```ts
 * const { master, replicas } = yield* Replicas.make(2)
 * yield* replicas[0]!.stop
 * // … what is granted now, that one lacks …
 * yield* master.kill
 * yield* Replicas.promote(replicas[0]!)
 * ```
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as RedisServer from "./RedisServer.js"

type Server = RedisServer.RedisProcess

export interface Group {
  readonly master: Server
  readonly replicas: ReadonlyArray<Server>
}

/** They have all that the master has, and have said so. */
export const make = (
  count: number,
  options?: RedisServer.Options
): Effect.Effect<Group, never, Scope.Scope> =>
  Effect.gen(function* () {
    const all = Array.from({ length: count + 1 }, () => RedisServer.make(options))
    const [master, ...replicas] = yield* Effect.all(all, { concurrency: "unbounded" })
    for (const replica of replicas) yield* follow(replica, master!)
    yield* caughtUp(master!, count)
    // what is written waits in the master until a replica has answered once: a second, with Valkey 9
    yield* master!.command("SET", "k", "")
    yield* master!.command("DEL", "k")
    yield* caughtUp(master!, count)
    return { master: master!, replicas }
  })

export const follow = (replica: Server, { host, port }: Server): Effect.Effect<void> =>
  Effect.asVoid(replica.command("REPLICAOF", host, port))

/** Ends when so many replicas have all that the master has by now. */
export const caughtUp = (master: Server, count: number): Effect.Effect<void> =>
  RedisServer.eventually(
    Effect.map(master.command("INFO", "replication"), (info) => {
      const [, written] = /^master_repl_offset:(\d+)/m.exec(String(info)) ?? []
      const has = [...String(info).matchAll(/state=online,offset=(\d+)/g)]
      return has.filter(([, offset]) => Number(offset) >= Number(written)).length >= count
    })
  )

/** It is a master from here on. */
export const promote = (replica: Server): Effect.Effect<void> =>
  Effect.asVoid(replica.command("REPLICAOF", "NO", "ONE"))
