/** The built site in a real browser: `npm run docs:test`. */
import { expect, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Browser as Chromium, BrowserContextOptions, Page } from "playwright-core"
import * as Browser from "../../test/support/Browser.js"
import { act, hides, shows, violations } from "../../test/support/inBrowser.js"
import { pages, served } from "./served.js"

class Site extends Context.Tag("site/test/Site")<
  Site,
  { readonly address: string; readonly browser: Chromium }
>() {}

const Live = Layer.scoped(Site, Effect.all({ address: served, browser: Browser.launch }))

const sizes = {
  phone: { width: 390, height: 844 },
  desktop: { width: 1440, height: 900 }
} as const

/** A page of the site. It fails at the end if something was asked for elsewhere, or was not there. */
const open = (path: string, options: BrowserContextOptions = {}) =>
  Effect.gen(function* () {
    const { address, browser } = yield* Site
    const page = yield* Browser.open(browser, "about:blank", {
      viewport: sizes.desktop,
      reducedMotion: "reduce",
      ...options
    })
    const missed: Array<string> = []
    page.on("request", (request) => {
      if (!/^(data:|blob:)/.test(request.url()) && !request.url().startsWith(address)) {
        missed.push(`elsewhere: ${request.url()}`)
      }
    })
    page.on("response", (response) => {
      if (response.status() >= 400) missed.push(`${response.status()}: ${response.url()}`)
    })
    yield* Effect.addFinalizer(() => Effect.sync(() => expect(missed).toEqual([])))
    yield* act(() => page.goto(`${address}${path}`))
    yield* ready(page)
    return page
  })

/** Vue has taken over what came as HTML. */
const ready = (page: Page) =>
  act(() => page.waitForFunction(`"__vue_app__" in document.querySelector("#app")`))

const look = (page: Page, colorScheme: "light" | "dark") =>
  Effect.gen(function* () {
    yield* act(() => page.emulateMedia({ colorScheme, reducedMotion: "reduce" }))
    const isDark = `document.documentElement.classList.contains("dark")`
    yield* act(() => page.waitForFunction(`${isDark} === ${colorScheme === "dark"}`))
  })

/** How much of a page is beyond its right edge. */
const beyond = (page: Page) =>
  act(() =>
    page.evaluate<number>(
      `new Promise((tell) => requestAnimationFrame(() => requestAnimationFrame(() => {
        const { scrollWidth, clientWidth } = document.documentElement
        tell(Math.max(scrollWidth, document.body.scrollWidth) - clientWidth)
      })))`
    )
  )

/** What has the keyboard's attention. */
const focused = (page: Page) =>
  act(() => page.evaluate<string>(`document.activeElement.innerText.trim()`))

const press = (page: Page, ...keys: ReadonlyArray<string>) =>
  Effect.forEach(keys, (key) => act(() => page.keyboard.press(key)), { discard: true })

layer(Live, { excludeTestServices: true, timeout: 60_000 })("the site", (it) => {
  for (const path of pages()) {
    it.scoped(
      `${path}: without errors, readable in both themes, not wider than a phone`,
      () =>
        Effect.gen(function* () {
          const page = yield* open(path)
          yield* shows(page.getByRole("heading", { level: 1 }))
          // (a file's code is long, and looks like all the others')
          if (!path.startsWith("source/") || path === "source/examples.html") {
            expect(yield* violations(page)).toEqual([])
            yield* look(page, "dark")
            // (the rules that are about colours)
            expect(yield* violations(page, ["color-contrast", "link-in-text-block"])).toEqual([])
          }
          expect(yield* beyond(page)).toBe(0)
          yield* act(() => page.setViewportSize(sizes.phone))
          expect(yield* beyond(page)).toBe(0)
        }),
      120_000
    )
  }

  it.scoped("on a phone: by all of axe's rules, in both themes, with its menu open, too", () =>
    Effect.gen(function* () {
      for (const path of ["index.html", "lock.html", "which.html"]) {
        const page = yield* open(path, { viewport: sizes.phone })
        expect(yield* violations(page)).toEqual([])
        yield* look(page, "dark")
        expect(yield* violations(page)).toEqual([])
      }
      const page = yield* open("lock.html", { viewport: sizes.phone })
      yield* act(() => page.getByRole("button", { name: "Menu", exact: true }).click())
      yield* act(() => page.getByRole("link", { name: "Semaphore", exact: true }).click())
      yield* shows(page.getByRole("heading", { level: 1, name: /Semaphore/ }))
    })
  )

  it.scoped("by keyboard: past the menus, and to a page by search", () =>
    Effect.gen(function* () {
      const page = yield* open("index.html")
      yield* press(page, "Tab")
      expect(yield* focused(page)).toBe("Skip to content")
      yield* press(page, "Enter", "Tab", "Tab")
      expect(yield* focused(page)).toBe("Effect")

      yield* act(() => page.reload())
      yield* ready(page)
      yield* press(page, "Tab", "Tab", "Tab")
      expect(yield* focused(page)).toBe("Search")
      yield* press(page, "Enter")
      const search = page.getByRole("searchbox")
      yield* shows(search)
      yield* act(() => page.keyboard.type("work that may hang"))
      yield* shows(page.getByRole("option").first())
      for (const colorScheme of ["light", "dark"] as const) {
        yield* look(page, colorScheme)
        expect(yield* violations(page)).toEqual([])
      }
      yield* press(page, "Enter")
      yield* shows(page.getByRole("heading", { level: 2, name: /work that may hang/ }))
      expect(new URL(page.url()).pathname).toBe("/options.html")
      yield* press(page, "/")
      yield* shows(search)
      yield* press(page, "Escape")
      yield* hides(search)
    })
  )

  it.scoped("a link to a heading shows it; a page that is not there says so", () =>
    Effect.gen(function* () {
      const page = yield* open("lock.html#who-is-next")
      const top = yield* act(() =>
        page.evaluate<number>(`document.querySelector("#who-is-next").getBoundingClientRect().top`)
      )
      expect(top).toBeGreaterThanOrEqual(0)
      expect(top).toBeLessThan(sizes.desktop.height)
      const { address } = yield* Site
      const { browser } = yield* Site
      const other = yield* Browser.open(browser, `${address}no-such-page.html`)
      yield* shows(other.getByRole("heading", { level: 1, name: /not found/i }))
    })
  )
})
