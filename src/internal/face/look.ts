/** Looking at a key, for those who hold none. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { LockStoreError } from "../../LockError.js"
import { LockStore, type Look } from "../../LockStore.js"
import { notCapable } from "../engine.js"
import { checkKey } from "../common/options.js"
import { lockStoreError } from "./answers.js"

export const lookAt = (
  key: string,
  atMost: number
): Effect.Effect<Look, LockStoreError, LockStore> =>
  Effect.flatMap(LockStore, ({ capabilities, look }): Effect.Effect<Look, LockStoreError> => {
    const impossible = checkKey(key)
    if (impossible !== undefined) return Effect.die(new Cause.IllegalArgumentException(impossible))
    return look === undefined || capabilities?.has("look") !== true
      ? Effect.fail(lockStoreError(notCapable("look", key, "look")))
      : look(key, atMost)
  })
