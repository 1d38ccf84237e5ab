/**
 * Pictures of the page for the docs, of a scene with a server and processes of its own: `npm run ui:screenshots`
 * writes docs/images/page-*.png. It takes half a minute: what happened has to happen.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { CronJob, ReadWriteLock, Semaphore } from "effect-redis-lock"
import { mkdirSync, statSync } from "node:fs"
import { join } from "node:path"
import type { Page } from "playwright-core"
import { announceRedisServer } from "../test/setup.js"
import * as Browser from "../test/support/Browser.js"
import * as Cli from "../test/support/Cli.js"
import * as LockScene from "../test/support/LockScene.js"
import * as RedisServer from "../test/support/RedisServer.js"

const images = join(import.meta.dirname, "../docs/images")

const pause = (seconds: number) => Effect.sleep(Duration.seconds(seconds))

/** Some hang, some wait, and one has died. */
const scene = (url: string) =>
  Effect.gen(function* () {
    const names = ["billing-1:311", "billing-2:977", "billing-3:120", "billing-4:58", "web-1:4021"]
    const [one, two, three, four, web] = yield* Effect.all(
      names.map((name) => LockScene.process(url, name))
    )
    const invoice = LockScene.lock("invoice:42", "6 seconds")
    yield* LockScene.holds(one!, LockScene.lock("report:monthly", "30 seconds"))
    yield* LockScene.holds(web!, LockScene.lock("leaders:rebalancer", "15 seconds"))
    yield* LockScene.holds(two!, LockScene.lock("leaders:rebalancer", "15 seconds"))
    for (const key of ["account:1007", "account:1031", "account:2210", "cart:88a1", "import:eu"]) {
      yield* LockScene.holds(key.length % 2 === 0 ? web! : three!, LockScene.lock(key))
    }
    for (const [by, permits] of [
      [one!, 2],
      [two!, 1],
      [web!, 1]
    ] as const) {
      const pool = Semaphore.acquire("pool:pdf", { limit: 5, permits, ttl: "20 seconds" })
      yield* LockScene.holds(by, pool)
    }
    const read = ReadWriteLock.readLock("catalogue", { ttl: "20 seconds" })
    yield* LockScene.holds(web!, read)
    yield* LockScene.holds(three!, read)
    yield* LockScene.holds(four!, ReadWriteLock.writeLock("catalogue"))
    const jobs = CronJob.run("jobs:mail", { cron: "*/10 * * * * *" })(Effect.sleep("700 millis"))
    yield* Effect.forkScoped(web!.provide(jobs))

    // what happened to an invoice: passed on, a holder that dies, and one that hangs
    const first = yield* LockScene.holds(one!, invoice)
    yield* pause(1)
    const ahead = [first, yield* LockScene.holds(two!, invoice)]
    yield* pause(2)
    const third = yield* LockScene.holds(three!, invoice)
    yield* pause(2)
    yield* ahead[0]!.stop
    yield* pause(4)
    const again = yield* LockScene.holds(one!, invoice)
    yield* ahead[1]!.stop
    yield* pause(3)
    const dead = yield* LockScene.process(url, "billing-9:7")
    yield* LockScene.holds(dead, invoice)
    yield* third.stop
    yield* pause(3)
    yield* again.stop
    yield* pause(2)
    yield* LockScene.holds(four!, invoice)
    yield* pause(1)
    yield* LockScene.holds(two!, invoice)
    yield* LockScene.holds(three!, invoice)
    yield* dead.die
    yield* pause(12)
  })

const take = (page: Page, name: string) =>
  Effect.gen(function* () {
    yield* pause(0.4)
    const path = join(images, `page-${name}.png`)
    yield* Effect.promise(() => page.screenshot({ path }))
    const { size } = statSync(path)
    if (size > 150_000) throw new Error(`${path} has ${size} bytes`)
    console.log(`${path}: ${size} bytes`)
  })

const program = Effect.gen(function* () {
  mkdirSync(images, { recursive: true })
  const { url } = yield* RedisServer.make()
  const ui = yield* Cli.start(
    ["ui", "--port", "0", "--allow-release", "--leaders", "leaders:", "--every", "250ms"],
    { url }
  )
  yield* ui.prints(/http:.*\n/)
  yield* scene(url)
  const browser = yield* Browser.launch
  const page = yield* Browser.open(browser, ui.stdout.trim(), {
    viewport: { width: 1280, height: 800 }
  })
  const key = page.getByRole("row", { name: /invoice:42/ })
  yield* Effect.promise(() => key.click())
  yield* pause(1.5)
  for (const colorScheme of ["light", "dark"] as const) {
    yield* Effect.promise(() => page.emulateMedia({ colorScheme }))
    yield* take(page, colorScheme)
  }
  yield* Effect.promise(() => page.setViewportSize({ width: 390, height: 800 }))
  yield* take(page, "narrow-dark")
  yield* Effect.promise(() => page.keyboard.press("Escape"))
  yield* Effect.promise(() => page.emulateMedia({ colorScheme: "light" }))
  yield* take(page, "narrow-light")
  yield* Effect.promise(() => page.setViewportSize({ width: 1100, height: 600 }))
  yield* take(page, "changes")
  yield* Effect.promise(() => page.setViewportSize({ width: 1100, height: 700 }))
  yield* Effect.promise(() => key.click())
  yield* Effect.promise(() => page.getByRole("button", { name: "Free by force…" }).click())
  yield* Effect.promise(() => page.getByLabel(/Type the key/).fill("invoice:42"))
  yield* take(page, "release")
})

await announceRedisServer()
await Effect.runPromise(Effect.scoped(program))
process.exit()
