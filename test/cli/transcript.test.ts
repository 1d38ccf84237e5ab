/** What docs/cli.md shows is what is printed; and many command lines on one key, in a short form. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { crowd } from "../../scripts/cli-crowd.js"
import { inPage, normalized, transcript } from "../../scripts/cli-transcript.js"

describe("the command line", () => {
  it.live("prints what its page shows", () =>
    Effect.map(transcript, (text) => expect(normalized(text)).toBe(normalized(inPage())))
  )

  it.live("many of them on one key: in order, and none is lost", () =>
    Effect.map(crowd(8), (inQueue) => expect(inQueue).toBe(8))
  )
})
