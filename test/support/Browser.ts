/** Debian's Chromium, without a window, for pages that tests open. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core"
import { ensureChromium } from "../setup.js"

export const launch: Effect.Effect<Browser, never, Scope.Scope> = Effect.acquireRelease(
  Effect.promise(() =>
    chromium.launch({
      executablePath: ensureChromium(),
      // (root, as in a container, cannot have one)
      chromiumSandbox: process.getuid?.() !== 0,
      args: ["--disable-gpu", "--disable-dev-shm-usage", "--force-color-profile=srgb"]
    })
  ),
  (browser) => Effect.promise(() => browser.close())
)

/** A page of its own, without what others have left. It fails at the end if its script threw something. */
export const open = (
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {}
): Effect.Effect<Page, never, Scope.Scope> =>
  Effect.gen(function* () {
    const context = yield* Effect.acquireRelease(
      Effect.promise(() => browser.newContext(options)),
      (context) => Effect.promise(() => context.close())
    )
    const page = yield* Effect.promise(() => context.newPage())
    page.setDefaultTimeout(15_000)
    const errors: Array<string> = []
    page.on("pageerror", (error) => errors.push(String(error)))
    page.on("console", (message) => {
      // (a server that is away is told there, too)
      if (message.type() === "error" && !message.text().includes("Failed to load resource")) {
        errors.push(message.text())
      }
    })
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        if (errors.length > 0) throw new Error(`the page said: ${errors.join("\n")}`)
      })
    )
    yield* Effect.promise(() => page.goto(url, { waitUntil: "load" }))
    return page
  })
