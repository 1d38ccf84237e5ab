/** What tests of the page do in a browser, and what they see there. */
import axe from "axe-core"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { Browser as Chromium, Locator, Page } from "playwright-core"
import * as Browser from "./Browser.js"
import * as RedisServer from "./RedisServer.js"

export class Chrome extends Context.Tag("test/Chrome")<Chrome, Chromium>() {}

export const emptyServer = Effect.tap(RedisServer.RedisServer, ({ flush }) => flush)

export const open = (address: string, options?: Parameters<Chromium["newContext"]>[0]) =>
  Effect.flatMap(Chrome, (browser) =>
    Browser.open(browser, address, { viewport: { width: 1280, height: 800 }, ...options })
  )

export const act = <A>(action: () => Promise<A>): Effect.Effect<A> => Effect.promise(action)

/** Waits until it is there, and visible. */
export const shows = (locator: Locator) => act(() => locator.first().waitFor({ state: "visible" }))
export const hides = (locator: Locator) => act(() => locator.first().waitFor({ state: "hidden" }))

export const rowOf = (page: Page, name: string | RegExp) => page.getByRole("row", { name })
export const details = (page: Page) => page.getByRole("article")

/** What axe-core finds wrong, by all of its rules or by those that are named. */
export const violations = (page: Page, rules?: ReadonlyArray<string>) =>
  act(async () => {
    // (the policy of the page lets no script of others in: this one comes by the debugger)
    await page.evaluate(axe.source)
    // (a change that was shown in light is no colour of the dark page)
    await page.evaluate("document.getAnimations().forEach((one) => one.finish())")
    const { violations } = await page.evaluate(
      (options) => (globalThis as unknown as { readonly axe: typeof axe }).axe.run(options),
      rules === undefined ? {} : { runOnly: [...rules] }
    )
    return violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html} ${nodes[0]?.failureSummary}`)
  })
