/** A store that is made of stores, as a scoped resource: its nodes live as long as it does. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { LockStore } from "../../LockStore.js"
import type { Store } from "../engine.js"
import {
  decodeQuorum,
  noNode,
  type QuorumOptions,
  type QuorumSettings
} from "../faces/quorumOptions.js"
import { defect } from "./causes.js"
import { engineStoreOf, publicStore } from "./publicStore.js"

/** Impossible options are a defect. `makeStore` says which of the nodes cannot be one, if there is one. */
export const scopedQuorum = <E, R>(
  options: QuorumOptions<Layer.Layer<LockStore, E, R>>,
  canBeNode: (store: Store) => boolean,
  makeStore: (nodes: ReadonlyArray<Store>, settings: QuorumSettings) => Store
): Effect.Effect<LockStore, E, R | Scope.Scope> =>
  Effect.gen(function* () {
    const settings = decodeQuorum(options)
    if (typeof settings === "string") return yield* defect(settings)
    // (what closes together has one deadline)
    const scope = yield* Effect.flatMap(Effect.scope, (outer) =>
      Scope.fork(outer, ExecutionStrategy.parallel)
    )
    const stores = yield* Effect.forEach(options.nodes, (node, index) =>
      Effect.flatMap(Layer.buildWithScope(node, scope), (context) => {
        const store = engineStoreOf(Context.get(context, LockStore))
        return store !== undefined && canBeNode(store)
          ? Effect.succeed(store)
          : defect(noNode(index))
      })
    )
    const store = yield* Effect.acquireRelease(
      Effect.sync(() => makeStore(stores, settings)),
      (store) => Effect.async<void>((resume) => store.close(() => resume(Effect.void)))
    )
    return publicStore(store, options.defaults)
  })
