/** A store that is made of stores, as a scoped resource: its nodes live as long as it does. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { type Defaults, LockStore } from "../../LockStore.js"
import { checkNodes, checkQuorumTime } from "../common/options.js"
import type { Store } from "../engine.js"
import { defect } from "./answers.js"
import { checkDefaults } from "./decodeOptions.js"
import { toMillis } from "./millis.js"
import { engineStoreOf, publicStore } from "./publicStore.js"
import type * as Duration from "effect/Duration"

interface Options<E, R> {
  readonly nodes: ReadonlyArray<Layer.Layer<LockStore, E, R>>
  readonly longestTtl?: Duration.DurationInput | undefined
  readonly nodeTimeout?: Duration.DurationInput | undefined
  readonly defaults?: Defaults | undefined
}

interface Settings {
  readonly longestTtlMillis: number
  readonly nodeTimeoutMillis: number
}

const millisOf = (input: Duration.DurationInput | undefined, ifNone: number): number =>
  input === undefined ? ifNone : (toMillis(input) ?? Number.NaN)

/** Impossible options are a defect. `makeStore` says which of the nodes cannot be one, if there is one. */
export const scopedQuorum = <E, R>(
  options: Options<E, R>,
  canBeNode: (store: Store) => boolean,
  makeStore: (nodes: ReadonlyArray<Store>, settings: Settings) => Store
): Effect.Effect<LockStore, E, R | Scope.Scope> =>
  Effect.gen(function* () {
    const { defaults, nodes } = options
    const longestTtlMillis = Math.floor(millisOf(options.longestTtl, 30_000))
    const nodeTimeoutMillis = millisOf(options.nodeTimeout, 500)
    const mistake =
      checkNodes(nodes) ??
      checkQuorumTime("longestTtl", longestTtlMillis) ??
      checkQuorumTime("nodeTimeout", nodeTimeoutMillis) ??
      checkDefaults(defaults)
    if (mistake !== undefined) return yield* defect(mistake)
    // (what closes together has one deadline)
    const scope = yield* Effect.flatMap(Effect.scope, (outer) =>
      Scope.fork(outer, ExecutionStrategy.parallel)
    )
    const stores = yield* Effect.forEach(nodes, (node, index) =>
      Effect.flatMap(Layer.buildWithScope(node, scope), (context) => {
        const store = engineStoreOf(Context.get(context, LockStore))
        return store !== undefined && canBeNode(store)
          ? Effect.succeed(store)
          : defect(
              `Impossible option nodes: node ${index + 1} cannot be a node of a quorum. It must be a store of this package as it was made, in memory or in one Redis server: not in a Cluster, whose masters fail one by one, and not a quorum.`
            )
      })
    )
    const store = yield* Effect.acquireRelease(
      Effect.sync(() => makeStore(stores, { longestTtlMillis, nodeTimeoutMillis })),
      (store) => Effect.async<void>((resume) => store.close(() => resume(Effect.void)))
    )
    return publicStore(store, defaults)
  })
