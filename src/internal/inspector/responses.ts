/** The page, the events that it listens to, and what it is answered. */
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { html, policy } from "./page.js"
import type { Update } from "./wire.js"

const always = {
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-resource-policy": "same-origin"
}

/** No script but its own runs in it, it loads nothing, and no other page can frame it. */
export const pageResponse = HttpServerResponse.text(html, {
  contentType: "text/html; charset=utf-8",
  headers: {
    ...always,
    "content-security-policy": policy,
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY"
  }
})

export const jsonResponse = <A, I>(schema: Schema.Schema<A, I>) => {
  const encode = HttpServerResponse.schemaJson(schema)
  return (value: A) => Effect.orDie(encode(value, { headers: always }))
}

export const eventsResponse = (updates: Stream.Stream<Update>) =>
  HttpServerResponse.stream(
    updates.pipe(
      Stream.map((update) => `data: ${JSON.stringify(update)}\n\n`),
      Stream.encodeText
    ),
    {
      contentType: "text/event-stream",
      // (nginx would keep them until a buffer is full)
      headers: { ...always, "x-accel-buffering": "no" }
    }
  )
