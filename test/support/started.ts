/** Servers as tests on another Effect start them: by Promises, and without a type of this one's. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type * as Started from "../effect4/Started.js"
import * as FaultProxy from "./FaultProxy.js"
import * as RedisCluster from "./RedisCluster.js"
import * as RedisSentinel from "./RedisSentinel.js"
import * as RedisServer from "./RedisServer.js"

const started = async <A, B>(
  make: Effect.Effect<A, never, Scope.Scope>,
  show: (made: A) => B
): Promise<B & Started.Started> => {
  const scope = await Effect.runPromise(Scope.make())
  const close = () => Effect.runPromise(Scope.close(scope, Exit.void))
  try {
    return { ...show(await Effect.runPromise(Scope.extend(make, scope))), close }
  } catch (error) {
    await close()
    throw error
  }
}

const serverOf = (server: RedisServer.RedisProcess): Started.Server => ({
  port: server.port,
  url: server.url,
  command: (...args) => Effect.runPromise(server.command(...args)),
  clients: () => Effect.runPromise(server.clients)
})

export const start: Started.Start = {
  server: (args) => started(RedisServer.make({ args }), serverOf),
  cluster: () =>
    started(RedisCluster.make(), ({ addresses, nodeOf }) => ({
      addresses,
      nodeOf: (key) => Effect.runPromise(Effect.map(nodeOf(key), serverOf))
    })),
  sentinel: () =>
    started(RedisSentinel.make(), ({ addresses, awaitMasterOtherThan, master, name }) => ({
      addresses,
      name,
      master: () => Effect.runPromise(Effect.map(master, serverOf)),
      failover: () =>
        Effect.runPromise(
          master.pipe(
            Effect.tap(({ kill }) => kill),
            Effect.flatMap(awaitMasterOtherThan),
            Effect.map(serverOf)
          )
        )
    })),
  proxy: (port) => started(FaultProxy.make(port), (proxy) => proxy)
}
