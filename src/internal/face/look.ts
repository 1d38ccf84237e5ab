/** What is done with a key by those who hold none of it. */
import * as Effect from "effect/Effect"
import type { LockStoreError } from "../../LockError.js"
import { LockStore, type Look } from "../../LockStore.js"
import { notCapable } from "../engine.js"
import { checkFencingToken, checkKey } from "../common/options.js"
import { lockStoreError } from "../faces/answers.js"
import { defect } from "./causes.js"

/** Asks the store, unless something about that is impossible, or it cannot. */
const asking = <A>(
  operation: "look" | "revoke",
  key: string,
  impossible: string | undefined,
  ask: (store: LockStore) => Effect.Effect<A, LockStoreError> | undefined
): Effect.Effect<A, LockStoreError, LockStore> =>
  Effect.flatMap(LockStore, (store): Effect.Effect<A, LockStoreError> => {
    if (impossible !== undefined) return defect(impossible)
    const asked = store.capabilities?.has(operation) === true ? ask(store) : undefined
    return (
      asked ??
      Effect.fail(lockStoreError(notCapable(operation, key, operation, store.whyNot?.(operation))))
    )
  })

export const lookAt = (
  key: string,
  atMost: number
): Effect.Effect<Look, LockStoreError, LockStore> =>
  asking("look", key, checkKey(key), ({ look }) => look?.(key, atMost))

export const revoke = (
  key: string,
  fencingToken: number
): Effect.Effect<boolean, LockStoreError, LockStore> =>
  asking("revoke", key, checkKey(key) ?? checkFencingToken(fencingToken), ({ revoke }) =>
    revoke?.(key, fencingToken)
  )
