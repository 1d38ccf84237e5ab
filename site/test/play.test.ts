/** The playground in a real browser: what it draws is what happened. Its time passes as the test says. */
import { expect, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import type { Browser as Chromium, Page } from "playwright-core"
import * as Browser from "../../test/support/Browser.js"
import { act, shows, violations } from "../../test/support/inBrowser.js"
import { bundle } from "../play/bundle.js"
import { served } from "./served.js"

class Play extends Context.Tag("site/test/Play")<
  Play,
  { readonly browser: Chromium; readonly code: string }
>() {}

const Live = Layer.scoped(
  Play,
  Effect.gen(function* () {
    const { code } = yield* Effect.promise(bundle)
    return { browser: yield* Browser.launch, code }
  })
)

const style = readFileSync(join(import.meta.dirname, "../play/play.css"), "utf8")
const html = `<!doctype html><html lang="en"><title>Play</title><style>${style}</style>
  <div class="play"><div id="stage"></div></div><div style="height: 3000px"></div>`

type Kind = "Lock" | "Semaphore, limit 2" | "Read-write lock"

/** The playground by itself, which stands still. */
const open = (kind: Kind = "Lock", reducedMotion: "reduce" | "no-preference" = "no-preference") =>
  Effect.gen(function* () {
    const { browser, code } = yield* Play
    const page = yield* Browser.open(browser, "about:blank", {
      viewport: { width: 1200, height: 900 },
      reducedMotion
    })
    yield* act(() => page.setContent(html))
    yield* act(() =>
      page.evaluate(
        `import(URL.createObjectURL(new Blob([${JSON.stringify(code)}], { type: "text/javascript" })))
          .then(({ mount }) => { globalThis.mounted = mount(document.querySelector("#stage")) })`
      )
    )
    yield* press(page, "Pause")
    yield* shows(page.getByRole("button", { name: "Go on" }))
    // (a kind begins anew: what has passed before it stood still is not in it)
    yield* press(page, kind === "Lock" ? "Semaphore, limit 2" : "Lock")
    yield* press(page, kind)
    return page
  })

/** By keyboard. */
const press = (page: Page, name: string) =>
  act(() => page.getByRole("button", { name, exact: true }).press("Enter"))

const stepMillis = 50

const advance = (page: Page, millis: number) =>
  act(() =>
    page.evaluate(
      `(async () => { for (let i = 0; i < ${millis / stepMillis}; i++) await mounted.advance(${stepMillis}) })()`
    )
  )

const now = (page: Page) => act(() => page.evaluate<number>(`mounted.play.world.now`))

/** Lets time pass until somebody is in, for so long at least, and says who. */
const holder = (page: Page, millis = 1_200) =>
  Effect.gen(function* () {
    for (;;) {
      yield* advance(page, stepMillis)
      const at = yield* now(page)
      const { bars } = yield* drawn(page)
      const held = holds(bars).find(({ from, to }) => to === undefined && at - from >= millis)
      if (held !== undefined) return held
    }
  })

// ---------------------------------------------------------------- what is drawn

interface Bar {
  readonly what: "wait" | "hold" | "late" | "kept" | "cut" | "frozen" | "killed"
  readonly worker: string
  /** As it is drawn, in milliseconds. */
  readonly from: number
  /** Absent: it is drawn up to now. */
  readonly to?: number
  readonly token?: number
  readonly mode?: string
  readonly outcome?: string
}

interface Mark {
  readonly what: "accepted" | "refused"
  readonly worker: string
  readonly at: number
  readonly token: number
}

/** By where it is seen: the lane's right edge is now, and a second is 32 pixels. */
const drawn = (page: Page) =>
  act(() =>
    page.evaluate<{
      readonly bars: ReadonlyArray<Bar>
      readonly marks: ReadonlyArray<Mark>
    }>(`(() => {
      const now = mounted.play.world.now
      const seen = (element) => {
        const { left, right } = element.getBoundingClientRect()
        const lane = element.closest("svg.lane")
        const edge = lane.getBoundingClientRect().right - 11
        const time = (x) => Math.round(now - ((edge - x) / 32) * 1000)
        const lanes = element.closest("[data-lane]").dataset.lane
        const { what, worker, token, mode, outcome, to } = element.dataset
        if (lanes !== worker) throw new Error(worker + " is drawn in the lane of " + lanes)
        return {
          what, worker, mode, outcome, isOpen: to === undefined,
          token: token && Number(token), from: time(left), to: time(right), at: time((left + right) / 2)
        }
      }
      const all = [...document.querySelectorAll("[data-what]")].map(seen)
      const isMark = ({ what }) => what === "accepted" || what === "refused"
      return {
        bars: all.filter((one) => !isMark(one)).map(({ at, isOpen, ...bar }) => {
          if (!isOpen) return bar
          if (Math.abs(bar.to - now) > 5) throw new Error("what goes on is not drawn up to now: " + JSON.stringify(bar))
          return { ...bar, to: undefined }
        }),
        marks: all.filter(isMark).map(({ what, worker, token, at }) => ({ what, worker, token, at }))
      }
    })()`)
  )

/** A pixel is 31 ms; they are drawn with fractions. */
const nearly = 5

const holds = (bars: ReadonlyArray<Bar>) => bars.filter(({ what }) => what === "hold")
const overlap = (one: Bar, other: Bar) =>
  one.from < (other.to ?? Infinity) - nearly && other.from < (one.to ?? Infinity) - nearly

// ---------------------------------------------------------------- what happened

interface Recorded {
  /** As the store knows them. */
  readonly leases: ReadonlyArray<{
    readonly owner: string
    readonly fencingToken: number
    readonly from: number
    readonly to?: number
    readonly isExpired: boolean
  }>
  /** What the resource was sent. */
  readonly sent: ReadonlyArray<{
    readonly worker: string
    readonly fencingToken: number
    readonly at: number
    readonly accepted: boolean
  }>
  readonly said: ReadonlyArray<string>
}

const recorded = (page: Page) =>
  act(() =>
    page.evaluate<Recorded>(`({
      leases: mounted.play.store.leases.map(({ owner, fencingToken, from, to, isExpired }) =>
        ({ owner, fencingToken, from, to, isExpired })),
      sent: mounted.play.accesses.map(({ accepted, at, turn }) =>
        ({ worker: turn.worker, fencingToken: turn.fencingToken, at, accepted })),
      said: mounted.play.said.map(({ text }) => text)
    })`)
  )

/** What is drawn is what the store and the resource know, and as a lock of that kind should be. */
const agree = (page: Page, kind: Kind) =>
  Effect.gen(function* () {
    const { bars, marks } = yield* drawn(page)
    const { leases, said, sent } = yield* recorded(page)
    const ms = (at: number | undefined) => at && Math.round(at)

    const kept = bars.filter(({ what }) => what === "kept")
    expect(
      kept.map(({ from, to, token, worker }) => ({ worker, token, from, to })).sort(byToken)
    ).toEqual(
      leases.map(({ fencingToken, from, owner, to }) => ({
        worker: owner,
        token: fencingToken,
        from: around(ms(from)),
        to: around(ms(to))
      }))
    )

    for (const hold of holds(bars)) {
      const lease = leases.find(({ fencingToken }) => fencingToken === hold.token)!
      expect({ worker: hold.worker, from: hold.from }).toEqual({
        worker: lease.owner,
        from: around(lease.from)
      })
      // the code has ended before the store can give the lease to somebody else
      expect((hold.to ?? 0) - nearly).toBeLessThanOrEqual(lease.to ?? Infinity)
      const others = holds(bars).filter((other) => other !== hold && overlap(hold, other))
      if (kind === "Lock" || hold.mode === "write")
        expect({ hold, others }).toEqual({ hold, others: [] })
      if (kind === "Semaphore, limit 2") {
        const atBegin = others.filter(({ from }) => from <= hold.from)
        expect({ hold, tooMany: atBegin.slice(1) }).toEqual({ hold, tooMany: [] })
      }
    }

    // code runs on without its lease only while it stands still
    for (const late of bars.filter(({ what }) => what === "late")) {
      const frozen = bars.filter(
        ({ from, to, what, worker }) =>
          what === "frozen" &&
          worker === late.worker &&
          from <= late.from &&
          (to ?? Infinity) >= (late.to ?? Infinity) - nearly
      )
      expect({ late, frozen: frozen.length }).toEqual({ late, frozen: 1 })
    }

    const byWriter = (one: { token: number; at: number }, other: { token: number; at: number }) =>
      one.token - other.token || one.at - other.at
    expect([...marks].sort(byWriter)).toEqual(
      sent
        .map((one) => ({ ...one, token: one.fencingToken }))
        .sort(byWriter)
        .map(({ accepted, at, token, worker }) => ({
          worker,
          token,
          at: around(at),
          what: accepted ? "accepted" : "refused"
        }))
    )
    // a write that comes while its lease is held is accepted; one is refused only after that
    for (const { at, token, what } of marks) {
      const hold = holds(bars).find((one) => one.token === token)!
      const isHeld = at <= (hold.to ?? Infinity) + nearly
      if (what === "refused") expect({ token, at, isHeld }).toEqual({ token, at, isHeld: false })
    }
    return { bars, marks, leases, said }
  })

const byToken = (one: { token?: number | undefined }, other: { token?: number | undefined }) =>
  one.token! - other.token!

/** Equal to what is nearly that. */
const around = (at: number | undefined) =>
  at === undefined ? undefined : expect.closeTo(at, -Math.log10(2 * nearly))

layer(Live, { excludeTestServices: true, timeout: 60_000 })("the playground", (it) => {
  it.scoped("nothing goes wrong: they have it one after the other", () =>
    Effect.gen(function* () {
      const page = yield* open()
      yield* advance(page, 40_000)
      const { bars, leases, marks } = yield* agree(page, "Lock")
      expect(leases.length).toBe(8)
      expect(new Set(holds(bars).map(({ worker }) => worker))).toEqual(new Set("ABCD"))
      expect(leases.filter(({ isExpired }) => isExpired)).toEqual([])
      expect(marks.filter(({ what }) => what === "refused")).toEqual([])
      expect(bars.filter(({ what }) => what === "late")).toEqual([])
    })
  )

  it.scoped("a worker that is cut off is interrupted before the next one enters", () =>
    Effect.gen(function* () {
      const page = yield* open()
      const { token, worker } = yield* holder(page)
      yield* press(page, `Cut off ${worker}`)
      yield* advance(page, 7_000)
      const { bars, leases, said } = yield* agree(page, "Lock")
      const lost = holds(bars).find((one) => one.token === token)!
      const next = holds(bars).find((one) => one.token === token! + 1)!
      expect(lost.outcome).toBe("interrupted")
      // a tenth of the ttl before its proof is over
      expect(next.from - lost.to!).toBeGreaterThan(400)
      expect(leases.find((one) => one.fencingToken === token)).toMatchObject({ isExpired: true })
      expect(said).toEqual(
        expect.arrayContaining([
          expect.stringContaining(`${worker} has no network`),
          expect.stringContaining(`${worker} could not renew its lease`),
          expect.stringContaining(`${next.worker} has the lock`)
        ])
      )
      yield* press(page, `Connect ${worker}`)
      yield* advance(page, 30_000)
      const after = yield* agree(page, "Lock")
      expect(
        holds(after.bars).filter((one) => one.worker === worker && one.from > next.from)
      ).not.toEqual([])
    })
  )

  it.scoped("a worker that stands still sends its write too late, and that is refused", () =>
    Effect.gen(function* () {
      const page = yield* open()
      const { token, worker } = yield* holder(page)
      yield* press(page, `Freeze ${worker}`)
      yield* advance(page, 6_500)
      yield* shows(page.getByText("stands still, and has lost it"))
      const before = yield* agree(page, "Lock")
      const next = holds(before.bars).find((one) => one.token === token! + 1)!
      expect(before.marks).toContainEqual(
        expect.objectContaining({ what: "accepted", token: next.token })
      )
      yield* press(page, `Thaw ${worker}`)
      yield* advance(page, 100)
      const { bars, marks, said } = yield* agree(page, "Lock")
      expect(marks.filter(({ what }) => what === "refused")).toEqual([
        expect.objectContaining({ worker, token })
      ])
      expect(bars.filter(({ what }) => what === "late")).toEqual([
        expect.objectContaining({
          worker,
          token,
          to: around(yield* now(page).pipe(Effect.map((at) => at - 100)))
        })
      ])
      expect(said).toContainEqual(expect.stringContaining(`The write of ${worker} comes late`))
    })
  )

  it.scoped("the lease of a worker that is killed ends by its ttl", () =>
    Effect.gen(function* () {
      const page = yield* open()
      const { token, worker } = yield* holder(page)
      yield* press(page, `Kill ${worker}`)
      const killedAt = yield* now(page)
      yield* advance(page, 4_500)
      const { bars, leases } = yield* agree(page, "Lock")
      const lease = leases.find(({ fencingToken }) => fencingToken === token)!
      const hold = holds(bars).find((one) => one.token === token)!
      const next = holds(bars).find((one) => one.token === token! + 1)!
      expect({ to: hold.to, outcome: hold.outcome }).toEqual({
        to: around(killedAt),
        outcome: "killed"
      })
      // (it was not renewed before)
      expect(lease).toMatchObject({ isExpired: true, to: lease.from + 4_000 })
      expect(next.from).toEqual(around(lease.to))
      expect(next.worker).not.toBe(worker)
      yield* press(page, `Restart ${worker}`)
      yield* advance(page, 20_000)
      const after = yield* agree(page, "Lock")
      expect(
        holds(after.bars).filter((one) => one.worker === worker && one.from > killedAt)
      ).not.toEqual([])
    })
  )

  for (const kind of ["Lock", "Semaphore, limit 2", "Read-write lock"] as const) {
    it.scoped(
      `${kind}: whatever is done to them, what is drawn is what happened`,
      () =>
        Effect.gen(function* () {
          const seen = { interrupted: 0, killed: 0, refused: 0, late: 0, together: 0 }
          for (const seed of [1, 2, 3]) {
            const page = yield* open(kind)
            const random = randomOf(seed)
            // (what is longer ago than a minute is forgotten)
            for (let count = 1; (yield* now(page)) < 58_000; count++) {
              yield* advance(page, 500 + stepMillis * Math.floor(random() * 30))
              const name = `${acts[Math.floor(random() * acts.length)]} ${"ABCD"[Math.floor(random() * 4)]}`
              const button = page.getByRole("button", { name, exact: true, disabled: false })
              if (yield* act(async () => (await button.count()) > 0)) yield* press(page, name)
              if (count % 15 === 0) yield* agree(page, kind)
            }
            const { bars, marks } = yield* agree(page, kind)
            seen.interrupted += bars.filter(({ outcome }) => outcome === "interrupted").length
            seen.killed += bars.filter(({ outcome }) => outcome === "killed").length
            seen.late += bars.filter(({ what }) => what === "late").length
            seen.refused += marks.filter(({ what }) => what === "refused").length
            seen.together += holds(bars).filter((one) =>
              holds(bars).some((other) => one !== other && overlap(one, other))
            ).length
          }
          // all of it has come
          expect(seen).toEqual({
            interrupted: expect.toSatisfy((count) => count > 0),
            killed: expect.toSatisfy((count) => count > 0),
            late: expect.toSatisfy((count) => count > 0),
            refused: expect.toSatisfy((count) => count > 0),
            together: expect.toSatisfy((count) => count > 0 === (kind !== "Lock"))
          })
        }),
      120_000
    )
  }

  it.scoped("who pressed Start is at Pause; what nobody sees stands still", () =>
    Effect.gen(function* () {
      const page = yield* open()
      yield* press(page, "Go on")
      const isThere = (name: string) => page.getByRole("button", { name, exact: true })
      yield* shows(isThere("Pause"))
      const goesOn = `new Promise(async (tell) => {
        const frame = () => new Promise(requestAnimationFrame)
        const before = mounted.play.world.now
        for (let i = 0; i < 10; i++) await frame()
        tell(mounted.play.world.now > before)
      })`
      yield* act(() => page.waitForFunction(goesOn))
      yield* act(() => page.evaluate(`scrollTo(0, 3000)`))
      yield* act(() => page.waitForFunction(`(${goesOn}).then((is) => !is)`))
      yield* act(() => page.evaluate(`scrollTo(0, 0)`))
      yield* act(() => page.waitForFunction(goesOn))
      yield* press(page, "Pause")
      yield* act(() => page.waitForFunction(`(${goesOn}).then((is) => !is)`))
    })
  )

  it.scoped("without motion: a new picture each second", () =>
    Effect.gen(function* () {
      const page = yield* open("Lock", "reduce")
      const pictures = new Set<string>()
      for (let count = 0; count < 60; count++) {
        yield* advance(page, stepMillis)
        pictures.add(
          yield* act(() => page.evaluate<string>(`document.querySelector(".workers").innerHTML`))
        )
      }
      expect(pictures.size).toBeLessThanOrEqual(4)
    })
  )

  it.scoped("on the first page: nothing of it is loaded before Start", () =>
    Effect.gen(function* () {
      const { browser } = yield* Play
      const address = yield* served
      const page = yield* Browser.open(browser, "about:blank", {
        viewport: { width: 1440, height: 900 }
      })
      const loaded: Array<string> = []
      page.on("request", (request) => loaded.push(request.url()))
      const isLoaded = () => loaded.some((url) => url.includes("virtual_play"))
      yield* act(() => page.goto(address, { waitUntil: "networkidle" }))
      const play = page.locator(".play")
      yield* act(() => play.scrollIntoViewIfNeeded())
      yield* act(() => page.waitForLoadState("networkidle"))
      expect(isLoaded()).toBe(false)
      yield* press(page, "Start")
      yield* shows(play.getByRole("log").getByText("has the lock"))
      expect(isLoaded()).toBe(true)
      // where Start was
      expect(yield* act(() => page.evaluate(`document.activeElement.innerText`))).toBe("Pause")
      yield* act(() => page.keyboard.press("Enter"))
      yield* shows(page.getByRole("button", { name: "Go on" }))
      for (const width of [1440, 768, 390]) {
        yield* act(() => page.setViewportSize({ width, height: 844 }))
        for (const colorScheme of ["light", "dark"] as const) {
          yield* act(() => page.emulateMedia({ colorScheme }))
          const isDark = `document.documentElement.classList.contains("dark")`
          yield* act(() => page.waitForFunction(`${isDark} === ${colorScheme === "dark"}`))
          expect({ width, colorScheme, found: yield* violations(page) }).toEqual({
            width,
            colorScheme,
            found: []
          })
        }
        const { scrollWidth, clientWidth } = yield* act(() =>
          page.evaluate<{ scrollWidth: number; clientWidth: number }>(
            `(({ scrollWidth, clientWidth }) => ({ scrollWidth, clientWidth }))(document.documentElement)`
          )
        )
        expect({ width, beyond: scrollWidth - clientWidth }).toEqual({ width, beyond: 0 })
      }
    })
  )
})

const acts = [
  "Cut off",
  "Cut off",
  "Freeze",
  "Freeze",
  "Kill",
  "Restart",
  "Restart",
  "Connect",
  "Thaw"
]

/** The same numbers each time. */
const randomOf = (seed: number) => () => {
  seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648
  return seed / 2_147_483_648
}
