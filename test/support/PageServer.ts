/** The page on a server of this process, and helpers to read it. */
import * as HttpServer from "@effect/platform/HttpServer"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { RedisLockStore } from "effect-redis-lock"
import * as LockInspectorHttp from "effect-redis-lock/LockInspectorHttp"
import * as Http from "node:http"
import { quiet } from "./stores.js"

/** Its address, until the scope closes. */
export const start = (
  url: string,
  options: LockInspectorHttp.Options = {}
): Effect.Effect<string, never, Scope.Scope> =>
  Effect.gen(function* () {
    const node = Http.createServer()
    const server = yield* NodeHttpServer.make(() => node, { port: 0, host: "127.0.0.1" })
    yield* Effect.addFinalizer(() => Effect.sync(() => node.closeAllConnections()))
    const live = Layer.merge(RedisLockStore.layer({ url, commandTimeout: "1 second" }), quiet)
    const context = yield* Layer.build(live)
    const app = yield* Effect.provide(
      LockInspectorHttp.make({ every: "200 millis", ...options }),
      context
    )
    yield* Effect.provideService(HttpServer.serveEffect(app), HttpServer.HttpServer, server)
    return `http://127.0.0.1:${(server.address as HttpServer.TcpAddress).port}/`
  }).pipe(Effect.provide(NodeHttpServer.layerContext), Effect.orDie)
