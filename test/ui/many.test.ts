/** Thousands of locks and waiters, a browser that sleeps, and the command that serves the page. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type { Page } from "playwright-core"
import * as Browser from "../support/Browser.js"
import * as Cli from "../support/Cli.js"
import * as LockScene from "../support/LockScene.js"
import * as PageServer from "../support/PageServer.js"
import * as RedisServer from "../support/RedisServer.js"
import { act, Chrome, emptyServer, open, rowOf, shows } from "../support/inBrowser.js"

const Live = Layer.merge(RedisServer.layer(), Layer.scoped(Chrome, Browser.launch))

/** Keys of other programs, with ttls of a minute. */
const fill = (prefix: string, count: number) =>
  Effect.flatMap(RedisServer.RedisServer, ({ command }) =>
    command(
      "EVAL",
      "for i = 1, tonumber(ARGV[2]) do redis.call('SET', string.format('%s%05d', ARGV[1], i), 'x', 'PX', 60000 + i) end",
      0,
      prefix,
      count
    )
  )

/** Gives some of them a new ttl, as holders that renew do. */
const renew = (prefix: string, from: number, count: number) =>
  Effect.flatMap(RedisServer.RedisServer, ({ command }) =>
    command(
      "EVAL",
      "for i = tonumber(ARGV[2]), ARGV[2] + ARGV[3] - 1 do redis.call('PEXPIRE', string.format('%s%05d', ARGV[1], i), 60000) end",
      0,
      prefix,
      from,
      count
    )
  )

/** So many wait for the key, as far as Redis knows. */
const queue = (key: string, count: number) =>
  Effect.flatMap(RedisServer.RedisServer, ({ command }) =>
    command(
      "EVAL",
      `local time = redis.call('TIME')
      local now = time[1] * 1000 + math.floor(time[2] / 1000)
      for i = 1, tonumber(ARGV[1]) do
        local token = 'erl1:aaaaaaaaaaaa.' .. string.format('%022d', i)
        redis.call('ZADD', KEYS[1], string.format('%.0f', (now - 600000) * 1000 + i), token)
        redis.call('HSET', KEYS[2], token, string.format('%.0f', now) .. ' 1000000000 5000 lock/1 5000 waiter-' .. i)
      end`,
      2,
      `{${key}}:lock-queue`,
      `{${key}}:lock-waiters`,
      count
    )
  )

/** Milliseconds from frame to frame, while it scrolls to the end and back. */
const frames = (page: Page, count: number): Effect.Effect<ReadonlyArray<number>> =>
  act(() =>
    page.evaluate<ReadonlyArray<number>>(`new Promise((resolve) => {
      const list = document.querySelector(".list")
      const times = []
      let last = performance.now()
      const next = (now) => {
        times.push(now - last)
        last = now
        const part = (2 * times.length) / ${count}
        list.scrollTop = (list.scrollHeight - list.clientHeight) * (part < 1 ? part : 2 - part)
        if (times.length < ${count}) requestAnimationFrame(next)
        else resolve(times)
      }
      requestAnimationFrame(next)
    })`)
  )

const at = (times: ReadonlyArray<number>, part: number): number =>
  [...times].sort((a, b) => a - b)[Math.floor(part * (times.length - 1))]!

interface Round {
  readonly median: number
  readonly most: number
}

const said = ({ median, most }: Round): string =>
  `${Math.round(median)} ms (95 %: ${Math.round(most)} ms)`

layer(Live, { excludeTestServices: true })("the page", (it) => {
  it.scoped(
    "5,000 locks that are renewed scroll as 50 do",
    () =>
      Effect.gen(function* () {
        yield* emptyServer
        const { url } = yield* RedisServer.RedisServer
        yield* fill("few:", 50)
        yield* fill("many:", 5_000)
        const few = yield* open(yield* PageServer.start(url, { prefix: "few:", every: "1 second" }))
        const many = yield* open(
          yield* PageServer.start(url, { prefix: "many:", every: "1 second" })
        )
        yield* shows(few.getByRole("button", { name: "All 50" }))
        yield* shows(many.getByRole("button", { name: "All 5 000" }))
        yield* shows(rowOf(few, /^few:/))
        yield* shows(rowOf(many, /^many:/))
        let from = 1
        yield* Effect.forkScoped(
          Effect.repeat(
            Effect.suspend(() => {
              from = (from + 1_000) % 4_000
              return Effect.zipRight(renew("few:", 1, 50), renew("many:", from || 1, 1_000))
            }),
            Schedule.spaced("500 millis")
          )
        )
        // (in turns, and the best of each: whatever else the machine does slows a turn)
        const rounds = { few: [] as Array<Round>, many: [] as Array<Round> }
        for (let round = 0; round < 3; round++) {
          for (const [name, page] of [
            ["few", few],
            ["many", many]
          ] as const) {
            yield* act(() => page.bringToFront())
            const times = yield* frames(page, 30)
            rounds[name].push({ median: at(times, 0.5), most: at(times, 0.95) })
          }
        }
        const best = (of: ReadonlyArray<Round>) => ({
          median: Math.min(...of.map(({ median }) => median)),
          most: Math.min(...of.map(({ most }) => most))
        })
        const [ofFew, ofMany] = [best(rounds.few), best(rounds.many)]
        const shown = yield* act(() => many.locator(".list .body .row").count())
        console.log(
          `frames while scrolling: of 5,000 locks ${said(ofMany)}, of 50 ${said(ofFew)}; ${shown} rows in the document`
        )
        expect(shown).toBeLessThan(60)
        expect(ofMany.median).toBeLessThan(2 * ofFew.median + 20)
        expect(ofMany.most).toBeLessThan(3 * ofFew.most + 100)
        // the last one is there, and what is looked for is found
        yield* act(() => many.locator(".list").press("End"))
        yield* shows(rowOf(many, /^many:05000/))
        yield* act(() => many.getByRole("searchbox").fill("04321"))
        yield* shows(rowOf(many, /^many:04321/))
        expect(yield* act(() => many.locator(".list .body .row").count())).toBe(1)
      }),
    150_000
  )

  it.scoped(
    "of 50,000 who wait it shows the first hundred, and how many there are",
    () =>
      Effect.gen(function* () {
        const { url } = yield* emptyServer
        const one = yield* LockScene.process(url, "one:1")
        yield* LockScene.holds(one, LockScene.lock("k", "60 seconds"))
        yield* LockScene.heldBy(one, "k", "one:1")
        yield* queue("k", 50_000)
        const page = yield* open(`${yield* PageServer.start(url)}#key=k`)
        const details = page.getByRole("article")
        yield* shows(details.getByText("The first 100 of 50 000."))
        const places = details.locator(".queue li")
        expect(yield* act(() => places.count())).toBe(100)
        expect(yield* act(() => places.first().innerText())).toMatch(/^1\s+waiter-1\s+10 m 0\d s$/)
        yield* shows(rowOf(page, /^k .* 50 000 waiting/))
      }),
    120_000
  )

  it.scoped(
    "the command: an address, a port that is taken, a URL that leads nowhere",
    () =>
      Effect.gen(function* () {
        const { url } = yield* emptyServer
        const one = yield* LockScene.process(url, "one:1")
        yield* LockScene.holds(one, LockScene.lock("jobs:k", "60 seconds"))
        yield* LockScene.holds(one, LockScene.lock("other", "60 seconds"))
        const ui = yield* Cli.start(["ui", "jobs:", "--port", "0"], { url })
        yield* ui.prints(/^http:\/\/127\.0\.0\.1:\d+\/\n/)
        const address = ui.stdout.trim()
        const page = yield* open(address)
        yield* shows(rowOf(page, /^jobs:k lock one:1/))
        expect(yield* act(() => rowOf(page, /^other/).count())).toBe(0)
        // under another name it is nobody's
        const { port } = new URL(address)
        const refused = yield* act(() =>
          page.request.get(address, { headers: { host: `evil.example:${port}` } })
        )
        expect(refused.status()).toBe(403)

        const second = yield* Cli.run(["ui", "--port", port], { url })
        expect(second).toMatchObject({ code: 69, stdout: "" })
        expect(second.stderr).toContain(`Port ${port} of 127.0.0.1 is taken`)
        expect(yield* Cli.run(["ui", "--port", "70000"], { url })).toMatchObject({ code: 64 })

        const nowhere = yield* Cli.start(["ui", "--port", "0"], { url: "redis://127.0.0.1:1" })
        yield* nowhere.prints(/http:.*\n/)
        const away = yield* open(nowhere.stdout.trim())
        yield* shows(away.getByText("Redis is away"))
        yield* shows(away.getByText("Nothing is known yet"))
        // (a page that is open does not keep it)
        yield* nowhere.signal("SIGINT")
        expect(yield* nowhere.ended).toBe("SIGINT")
        yield* shows(away.getByText("The server of this page does not answer."))
      }),
    120_000
  )

  it.scoped(
    "tabs that nobody looks at keep no connection from the others, and are up to date when somebody does",
    () =>
      Effect.gen(function* () {
        const { url } = yield* emptyServer
        const one = yield* LockScene.process(url, "one:1")
        const before = yield* LockScene.holds(one, LockScene.lock("before", "60 seconds"))
        const address = yield* PageServer.start(url)
        const browser = yield* Chrome
        // (one profile: its tabs share the six connections to a server)
        const context = yield* Effect.acquireRelease(
          act(() => browser.newContext()),
          (context) => act(() => context.close())
        )
        // (without a window all tabs are visible; and the clock of that machine is a day ahead)
        yield* act(() =>
          context.addInitScript(`{
            const { now } = Date
            Date.now = () => now() + 86_400_000
            let hidden = false
            Object.defineProperty(document, "hidden", { get: () => hidden })
            window.hide = (is) => {
              hidden = is
              document.dispatchEvent(new Event("visibilitychange"))
            }
          }`)
        )
        const tab = Effect.gen(function* () {
          const page = yield* act(() => context.newPage())
          page.setDefaultTimeout(15_000)
          yield* act(() => page.goto(address))
          yield* shows(rowOf(page, /^before lock one:1/))
          return page
        })
        const first = yield* tab
        yield* act(() => first.evaluate("hide(true)"))
        for (let i = 2; i <= 8; i++) {
          const page = yield* tab
          yield* act(() => page.evaluate("hide(true)"))
        }
        const last = yield* tab
        yield* act(() => rowOf(last, /^before /).click())
        yield* shows(rowOf(last, /^before lock one:1 (\d m )?\d+ s (\d m )?\d+ s$/))
        yield* shows(last.getByRole("article").getByText(/Not renewed since|is alive/))
        yield* before.stop
        yield* LockScene.holds(one, LockScene.lock("after", "60 seconds"))
        yield* shows(rowOf(last, /^after /))
        // one that was hidden asks now and then
        yield* shows(rowOf(first, /^after /))
        yield* act(() => first.evaluate("hide(false)"))
        yield* shows(first.getByText(/^live/))
      }),
    120_000
  )

  it.scoped(
    "a browser that has slept is up to date when it wakes",
    () =>
      Effect.gen(function* () {
        const { url } = yield* emptyServer
        const one = yield* LockScene.process(url, "one:1")
        const before = yield* LockScene.holds(one, LockScene.lock("before", "60 seconds"))
        const ui = yield* Cli.start(["ui", "--port", "0"], { url })
        yield* ui.prints(/http:.*\n/)
        const address = ui.stdout.trim()
        const page = yield* open(address)
        yield* shows(rowOf(page, /^before /))
        const debug = yield* act(() => page.context().newCDPSession(page))
        yield* act(() => debug.send("Page.setWebLifecycleState", { state: "frozen" }))
        // meanwhile its connection is cut, the server is another one, and so are the locks
        yield* ui.signal("SIGKILL")
        yield* ui.ended
        yield* before.stop
        yield* LockScene.holds(one, LockScene.lock("after", "60 seconds"))
        yield* LockScene.heldBy(one, "after", "one:1")
        const again = yield* Cli.start(["ui", "--port", new URL(address).port], { url })
        yield* again.prints(/http:.*\n/)
        yield* act(() => debug.send("Page.setWebLifecycleState", { state: "active" }))
        yield* shows(rowOf(page, /^after /))
        yield* act(() => rowOf(page, /^before /).waitFor({ state: "hidden" }))
        yield* shows(page.getByText(/^live/))
      }),
    120_000
  )
})
