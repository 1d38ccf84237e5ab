import { Effect, Stream } from "effect"
import { LockInspector, RedisLockStore } from "effect-redis-lock"
import * as RS from "/tmp/h/inspector/test/support/RedisServer.js"
import { Redis } from "ioredis"
const main = Effect.scoped(Effect.gen(function* () {
  const server = yield* RS.make()
  const c = new Redis(server.url)
  yield* Effect.promise(async () => {
    for (let b = 0; b < 10; b++) { const p = c.pipeline(); for (let i = 0; i < 1000; i++) { const k = `locks:k${b*1000+i}`
      p.set(k, `erl1:abcdefghijkl.${String(i).padStart(22,"x")}`, "PX", 600000); p.set(`locks:{${k}}:lock-record`, `${Date.now()}000 lock/1 600000 web-3:4711`) } await p.exec() }
    for (let b = 0; b < 50; b++) { const p = c.pipeline(); for (let i = 0; i < 1000; i++) { const t = `erl1:abcdefghijkl.${String(b*1000+i).padStart(22,"y")}`
      p.zadd("locks:{locks:k1}:lock-queue", 1000000 + b*1000+i, t); p.hset("locks:{locks:k1}:lock-waiters", t, `${Date.now()+1000000} 3000 3000 lock/1 5000 web-5:4711`) } await p.exec() }
  })
  const store = RedisLockStore.layer({ url: server.url, prefix: "locks:" })
  yield* Effect.gen(function* () {
  yield* server.command("CONFIG", "SET", "slowlog-log-slower-than", 1000)
  for (let round = 0; round < 6; round++) {
    yield* server.command("CONFIG", "RESETSTAT")
    const t = performance.now(); const cpu = process.cpuUsage()
    const n = (yield* Stream.runCollect(LockInspector.list())).length
    const u = process.cpuUsage(cpu)
    console.log("list", n, performance.now() - t, "cpu", u.user/1000+u.system/1000)
    console.log(String(yield* server.command("INFO", "commandstats")).match(/cmdstat_(eval|scan).*/g))
    const t2 = performance.now()
    const k1 = yield* LockInspector.inspect("k1")
    console.log("inspect", performance.now() - t2, k1.pending.length, k1.pendingCount)
  }
  console.log(JSON.stringify(yield* server.command("SLOWLOG", "GET", 5)).slice(0, 1500))
  }).pipe(Effect.provide(store))
  c.disconnect()
}))
Effect.runPromise(main)
