/**
 * Pictures of the built site, to look at: `npm run docs:screenshots` writes .cache/site-pictures/*.png; with
 * `-- options lock#acquire-the-lease-as-a-scoped-value` of these pages.
 */
import * as Effect from "effect/Effect"
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import { served } from "../site/test/served.js"
import * as Browser from "../test/support/Browser.js"

const folder = join(import.meta.dirname, "../.cache/site-pictures")
const given = process.argv.slice(2)
const paths = given.length > 0 ? given : ["index", "lock", "guarantees"]
const sizes = { phone: { width: 390, height: 844 }, desktop: { width: 1440, height: 900 } }

const program = Effect.gen(function* () {
  mkdirSync(folder, { recursive: true })
  const address = yield* served
  const browser = yield* Browser.launch
  for (const [size, viewport] of Object.entries(sizes)) {
    for (const colorScheme of ["light", "dark"] as const) {
      for (const path of paths) {
        const [page, anchor] = path.split("#")
        const url = `${address}${page}.html${anchor === undefined ? "" : `#${anchor}`}`
        const name = `${path.replace(/[/#]/g, "-")}-${size}-${colorScheme}.png`
        yield* Effect.scoped(
          Effect.gen(function* () {
            const opened = yield* Browser.open(browser, url, { viewport, colorScheme })
            yield* Effect.promise(() => opened.waitForLoadState("networkidle"))
            const fullPage = anchor === undefined && path === "index"
            yield* Effect.promise(() => opened.screenshot({ path: join(folder, name), fullPage }))
          })
        )
        console.log(join(folder, name))
      }
    }
  }
})

await Effect.runPromise(Effect.scoped(program))
