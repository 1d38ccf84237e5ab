/** Kinds that meet on one key. */
import { expect } from "@effect/vitest"

/** The error of a claim for a key that is in use as another kind. */
export const refusal = (key: string, found: string, asked: string): unknown =>
  expect.objectContaining({
    _tag: "LockStoreError",
    operation: "acquire",
    key,
    transient: false,
    message: expect.stringMatching(
      new RegExp(`^.*lock ${JSON.stringify(key)}.*as a ${found}, .* as a ${asked}`)
    ) as string
  })
