/** The page in a real browser: what is seen, by mouse and by keyboard, and what happens when something goes away. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Lock, LockInspector, Semaphore } from "effect-redis-lock"
import * as Browser from "../support/Browser.js"
import * as LockScene from "../support/LockScene.js"
import * as PageServer from "../support/PageServer.js"
import * as RedisServer from "../support/RedisServer.js"
import {
  act,
  Chrome,
  details,
  emptyServer,
  hides,
  open,
  rowOf,
  shows,
  violations
} from "../support/inBrowser.js"

/** One server and one browser for all of them. */
const Live = Layer.merge(RedisServer.layer(), Layer.scoped(Chrome, Browser.launch))

layer(Live, { excludeTestServices: true })("the page", (it) => {
  it.scoped(
    "empty it says how to begin; what is held appears and goes without a reload",
    () =>
      Effect.gen(function* () {
        const { url } = yield* emptyServer
        const page = yield* open(yield* PageServer.start(url))
        yield* shows(page.getByRole("heading", { name: "No locks" }))
        yield* shows(page.getByText("npx effect-redis-lock run demo -- sleep 60"))
        expect(yield* violations(page)).toEqual([])
        const jobs = yield* open(yield* PageServer.start(url, { prefix: "jobs:" }))
        yield* shows(jobs.getByText("npx effect-redis-lock run jobs:demo -- sleep 60"))
        yield* act(() => page.evaluate(() => ((globalThis as { mark?: number }).mark = 1)))

        const one = yield* LockScene.process(url, "one:1")
        const held = yield* LockScene.holds(one, LockScene.lock("invoice:42"))
        yield* shows(rowOf(page, /invoice:42 lock one:1/))
        const two = yield* LockScene.process(url, "two:2")
        yield* LockScene.holds(two, LockScene.lock("invoice:42"))
        yield* shows(rowOf(page, /invoice:42 .* 1 waiting/))
        yield* held.stop
        yield* shows(rowOf(page, /invoice:42 lock two:2/))
        yield* shows(page.getByText(/one:1 gave back invoice:42/))
        expect(yield* act(() => page.evaluate(() => (globalThis as { mark?: number }).mark))).toBe(
          1
        )
      }),
    120_000
  )

  it.scoped(
    "a key: who has it, who waits in which order, and a timeline; by keyboard alone",
    () =>
      Effect.gen(function* () {
        const { url } = yield* emptyServer
        const names = ["one:1", "two:2", "three:3"]
        const [one, two, three] = yield* Effect.all(
          names.map((name) => LockScene.process(url, name))
        )
        const address = yield* PageServer.start(url, { leaders: ["lead:"] })
        const page = yield* open(address)
        const held = yield* LockScene.holds(one!, LockScene.lock("b"))
        yield* LockScene.holds(one!, LockScene.lock("a"))
        yield* LockScene.holds(one!, LockScene.lock("lead:x"))
        yield* LockScene.holds(one!, Semaphore.acquire("pool", { limit: 5, permits: 2 }))
        yield* shows(rowOf(page, /^b /))
        yield* LockScene.holds(two!, LockScene.lock("b"))
        yield* shows(rowOf(page, /^b .* 1 waiting/))
        yield* LockScene.holds(three!, LockScene.lock("b"))
        yield* shows(rowOf(page, /^b .* 2 waiting/))
        yield* shows(rowOf(page, /^lead:x leader/))
        yield* shows(rowOf(page, /^pool semaphore 2 of 5/))

        // search, into the list, down to the second one, and in
        yield* act(() => page.keyboard.press("/"))
        yield* act(() => page.keyboard.type("nothing like it"))
        yield* shows(page.getByRole("heading", { name: "Nothing matches" }))
        yield* act(() => page.keyboard.press("Escape"))
        yield* shows(rowOf(page, /^a /))
        yield* act(() => page.locator(".list").focus())
        yield* act(() => page.keyboard.press("ArrowDown"))
        yield* act(() => page.keyboard.press("ArrowDown"))
        yield* act(() => page.keyboard.press("Enter"))
        yield* shows(details(page).getByRole("heading", { name: "b", exact: true }))
        yield* act(() => page.waitForURL(/#key=b$/))
        const queue = details(page).locator(".queue li")
        yield* shows(queue.nth(1))
        expect(yield* act(() => queue.allInnerTexts())).toEqual([
          expect.stringMatching(/^1\s+two:2\s+\d+ s$/),
          expect.stringMatching(/^2\s+three:3\s+\d+ s$/)
        ])
        yield* shows(details(page).locator(".holders").getByText("one:1"))
        yield* held.stop
        // the first one waited, and has it now
        const lane = details(page).locator(".lane", { hasText: "two:2" })
        yield* shows(lane.locator(".stint.waited.granted"))
        yield* shows(lane.locator(".stint.held.goes-on"))
        yield* shows(
          details(page).locator(".lane", { hasText: "one:1" }).locator(".stint.held.released")
        )
        yield* act(() => details(page).getByText("In words").click())
        yield* shows(details(page).getByText(/one:1 held it from .* released/))
        for (const colorScheme of ["light", "dark"] as const) {
          yield* act(() => page.emulateMedia({ colorScheme, reducedMotion: "reduce" }))
          expect(yield* violations(page)).toEqual([])
        }
        yield* act(() => page.keyboard.press("Escape"))
        yield* hides(details(page))
        // nothing is cut off at the side
        for (const width of [320, 940, 941, 1081, 1280, 1920]) {
          yield* act(() => page.setViewportSize({ width, height: 780 }))
          const beyond = yield* act(() =>
            page.evaluate<number>(
              `new Promise((tell) => requestAnimationFrame(() => requestAnimationFrame(() => {
                const list = document.querySelector(".list")
                tell(list.scrollWidth - list.clientWidth)
              })))`
            )
          )
          expect([width, beyond]).toEqual([width, 0])
        }
        yield* act(() => page.setViewportSize({ width: 390, height: 780 }))
        expect(yield* violations(page)).toEqual([])
        // what is looked at can be passed on
        const other = yield* open(`${address}#key=b`)
        yield* shows(details(other).getByRole("heading", { name: "b", exact: true }))
      }),
    120_000
  )

  it.scoped(
    "keys and owners are text, whatever they contain",
    () =>
      Effect.gen(function* () {
        const { url } = yield* emptyServer
        const evil = `<img src=x onerror="document.title='hit'">\u202Egpj\u0000\n</script>`
        const one = yield* LockScene.process(url, `<b>${evil}`)
        yield* LockScene.holds(one, LockScene.lock(`k${evil}`))
        const page = yield* open(yield* PageServer.start(url, { allowRelease: true }))
        const row = page.locator(".list .body .row")
        yield* shows(row)
        const text = yield* act(() => row.innerText())
        expect(text).toContain(
          `k<img src=x onerror="document.title='hit'">\\u{202e}gpj\\u{0}\\n</script>`
        )
        expect(text).toContain("<b><img")
        yield* act(() => row.click())
        yield* shows(details(page).locator(".holders"))
        expect(yield* act(() => page.locator("img, b:not(.mark b)").count())).toBe(0)
        expect(yield* act(() => page.title())).toBe("Locks")
        // it is typed as it is shown
        yield* act(() => page.getByRole("button", { name: "Free by force…" }).click())
        const shown = `k<img src=x onerror="document.title='hit'">\\u{202e}gpj\\u{0}\\n</script>`
        yield* act(() => page.getByLabel(/Type the key/).fill(shown))
        yield* act(() => page.getByRole("button", { name: "Free by force", exact: true }).click())
        yield* shows(page.getByText("It is free, or the next one has it."))
      }),
    120_000
  )

  it.scoped(
    "keys that differ in spaces alone are seen to differ, and one too long to be asked for is said to be",
    () =>
      Effect.gen(function* () {
        const { url } = yield* emptyServer
        const one = yield* LockScene.process(url, "one:1")
        for (const key of ["a b", "a  b", " a b", "a b ", "a\u00A0b", "l".repeat(20_000)]) {
          yield* LockScene.holds(one, LockScene.lock(key))
        }
        const page = yield* open(yield* PageServer.start(url))
        const keys = page.locator(".list .body .row .key")
        yield* shows(keys.nth(5))
        const texts = yield* act(() => keys.allInnerTexts())
        expect(texts.slice(0, 5).sort()).toEqual(
          ["\\u{20}a b", "a  b", "a b", "a b\\u{20}", "a\\u{a0}b"].sort()
        )
        yield* act(() => rowOf(page, /^lll/).click())
        yield* shows(details(page).getByText(/too long to be asked for in an address/))
      }),
    120_000
  )

  it.scoped(
    "the dialog keeps to the key that it was opened for, whatever the address says meanwhile",
    () =>
      Effect.gen(function* () {
        const { url } = yield* emptyServer
        const one = yield* LockScene.process(url, "one:1")
        yield* LockScene.holds(one, LockScene.lock("first", "60 seconds"))
        yield* LockScene.holds(one, LockScene.lock("second", "60 seconds"))
        const page = yield* open(yield* PageServer.start(url, { allowRelease: true }))
        yield* act(() => rowOf(page, /^first /).click())
        yield* act(() => page.getByRole("button", { name: "Free by force…" }).click())
        const dialog = page.getByRole("dialog")
        yield* shows(dialog.locator(".key").getByText("first"))
        yield* act(() => page.evaluate("location.hash = '#key=second'"))
        yield* shows(details(page).getByRole("heading", { name: "second" }))
        yield* shows(dialog.locator(".key").getByText("first"))
        yield* act(() => dialog.getByLabel(/Type the key/).fill("first"))
        yield* act(() => dialog.getByRole("button", { name: "Free by force" }).click())
        yield* shows(dialog.getByText("It is free, or the next one has it."))
        yield* LockScene.heldBy(one, "second", "one:1")
        expect(yield* one.provide(LockInspector.inspect("first"))).toMatchObject({ heldCount: 0 })
      }),
    120_000
  )

  it.scoped(
    "frees by force whom it has shown, after the key was typed, and nobody else",
    () =>
      Effect.gen(function* () {
        const { url } = yield* emptyServer
        const [one, two] = yield* Effect.all(
          ["one:1", "two:2"].map((name) => LockScene.process(url, name))
        )
        yield* LockScene.holds(one!, LockScene.lock("k"))
        const shy = yield* open(yield* PageServer.start(url))
        yield* act(() => rowOf(shy, /^k /).click())
        yield* shows(details(shy).locator(".holders"))
        expect(yield* act(() => shy.getByText("Free by force").count())).toBe(0)

        const page = yield* open(yield* PageServer.start(url, { allowRelease: true }))
        yield* act(() => rowOf(page, /^k /).click())
        const ask = page.getByRole("button", { name: "Free by force…" })
        const dialog = page.getByRole("dialog")
        const free = dialog.getByRole("button", { name: "Free by force" })
        yield* act(() => ask.click())
        yield* shows(dialog.getByText("one:1"))
        yield* shows(dialog.getByText(/\d{16}/))
        expect(yield* violations(page)).toEqual([])
        yield* act(() => dialog.getByLabel(/Type the key/).fill("K"))
        expect(yield* act(() => free.isDisabled())).toBe(true)
        yield* act(() => page.keyboard.press("Escape"))
        yield* hides(dialog)

        // somebody else gets it while the dialog is open: that one is not hit
        yield* act(() => ask.click())
        yield* LockScene.holds(two!, LockScene.lock("k"))
        yield* LockScene.waitFor(two!, "k", 1)
        const { fencingToken } = yield* LockScene.heldBy(two!, "k", "one:1")
        yield* two!.provide(Lock.forceRelease("k", fencingToken!))
        yield* shows(dialog.getByText("That holder does not hold it any more."))
        yield* act(() => dialog.getByLabel(/Type the key/).fill("k"))
        yield* act(() => free.click())
        yield* shows(dialog.getByText("Nothing was changed."))
        yield* act(() => dialog.getByRole("button", { name: "Close" }).click())
        yield* shows(details(page).locator(".holders").getByText("two:2"))

        yield* act(() => ask.click())
        yield* shows(dialog.getByText("two:2"))
        yield* act(() => dialog.getByLabel(/Type the key/).fill("k"))
        yield* act(() => page.keyboard.press("Enter"))
        yield* shows(dialog.getByText("It is free, or the next one has it."))
        yield* act(() => page.keyboard.press("Escape"))
        yield* shows(details(page).locator(".stint.freed-by-force"))
      }),
    120_000
  )

  it.scoped(
    "Redis away is shown, with what was known, and heals",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.make()
        const one = yield* LockScene.process(server.url, "one:1")
        yield* LockScene.holds(one, LockScene.lock("k", "60 seconds"))
        const page = yield* open(yield* PageServer.start(server.url))
        yield* shows(rowOf(page, /^k lock one:1/))
        yield* server.stop
        yield* shows(page.getByText("Redis is away"))
        yield* shows(rowOf(page, /^k lock one:1/))
        yield* act(() => page.emulateMedia({ reducedMotion: "reduce" }))
        expect(yield* violations(page)).toEqual([])
        yield* server.cont
        yield* hides(page.getByText("Redis is away"))
        // another one, that knows nothing
        yield* server.restart
        yield* shows(page.getByRole("heading", { name: "No locks" }))
      }),
    120_000
  )

  it.scoped(
    "a server that does not let the page listen any more is not said to be away",
    () =>
      Effect.gen(function* () {
        const { url } = yield* emptyServer
        const page = yield* open(yield* PageServer.start(url))
        yield* shows(page.getByText(/^live/))
        // (as where a login has ended)
        yield* act(() => page.route("**/api/events", (route) => route.fulfill({ status: 401 })))
        yield* act(() => page.reload())
        yield* shows(page.getByText("The server of this page refuses to be asked."))
        yield* act(() => page.unroute("**/api/events"))
        yield* shows(page.getByText(/^live/))
      }),
    120_000
  )

  it.scoped(
    "a store that refuses to be asked is not said to be away",
    () =>
      Effect.gen(function* () {
        const { command, port } = yield* emptyServer
        yield* command(
          "ACL",
          "SETUSER",
          "shy",
          "on",
          ">word",
          "resetkeys",
          "-@all",
          "+ping",
          "+info"
        )
        const page = yield* open(yield* PageServer.start(`redis://shy:word@127.0.0.1:${port}`))
        yield* shows(page.getByText("The store refuses to be asked"))
        yield* shows(page.getByText(/NOPERM/))
        expect(yield* act(() => page.getByText("Redis is away").count())).toBe(0)
      }),
    120_000
  )

  it.scoped(
    "what was not looked at for long is not said to be late, or over",
    () =>
      Effect.gen(function* () {
        const { url } = yield* emptyServer
        const one = yield* LockScene.process(url, "one:1")
        yield* LockScene.holds(one, Lock.acquire("k", { ttl: "8 seconds", renewEvery: "1 second" }))
        yield* LockScene.heldBy(one, "k", "one:1")
        // (one look, and no other)
        const page = yield* open(`${yield* PageServer.start(url, { every: "1 hour" })}#key=k`)
        yield* shows(details(page).getByText(/Not renewed since|is alive/))
        yield* act(() => page.route("**/api/lock?*", () => {}))
        yield* act(() =>
          page.evaluate(`{
            window.seen = []
            const look = () => seen.push(document.querySelector(".verdict.look:not([role=alert]), .ttl.late")?.textContent ?? "")
            new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true })
          }`)
        )
        yield* shows(details(page).locator(".ttl .number").getByText("?"))
        yield* shows(rowOf(page, /^k lock one:1 .* \?$/))
        yield* shows(details(page).getByText(/It was held \d+ s ago/))
        const seen = yield* act(() => page.evaluate<ReadonlyArray<string>>("seen"))
        expect(new Set(seen)).toEqual(new Set([""]))
      }),
    120_000
  )

  it.scoped(
    "a holder that dies: it is late, its ttl ends, and the next one has the key",
    () =>
      Effect.gen(function* () {
        const { url } = yield* emptyServer
        const [one, two] = yield* Effect.all(
          ["one:1", "two:2"].map((name) => LockScene.process(url, name))
        )
        yield* LockScene.holds(one!, LockScene.lock("k", "3 seconds"))
        const page = yield* open(yield* PageServer.start(url))
        yield* act(() => rowOf(page, /^k /).click())
        yield* shows(details(page).getByText(/The holder is alive/))
        yield* LockScene.holds(two!, LockScene.lock("k", "3 seconds"))
        yield* shows(details(page).locator(".queue").getByText("two:2"))
        yield* one!.die
        yield* shows(details(page).getByText(/The holder is late to renew/))
        yield* shows(details(page).locator(".holders").getByText("two:2"))
        yield* shows(details(page).locator(".lane", { hasText: "one:1" }).locator(".stint.expired"))
      }),
    120_000
  )
})
