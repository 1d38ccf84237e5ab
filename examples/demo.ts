/**
 * Shows what the lock is for:
 *
 *   npm run demo                                      leases in this process's memory
 *   REDIS_URL=redis://127.0.0.1:6379 npm run demo     leases in Redis
 *
 * 1. Workers update one account without a lock: updates are lost.
 * 2. The same workers with the lock: none is lost.
 * 3. The network of a lock's holder goes silent: the holder is interrupted before anyone else has
 *    the lock. One of its writes arrives late, and is refused because of its fencing token.
 *
 * Every sentence of the summary is checked; the exit code is 1 if one does not hold.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Deferred, Duration, Effect, Fiber, Logger, LogLevel, type Scope } from "effect"
import { Lock, LockError, LockStore, MemoryLockStore, RedisLockStore } from "effect-redis-lock"

const redisUrl = process.env["REDIS_URL"] || undefined
const key = "account:42"
const workers = [1, 2, 3, 4]
const depositsEach = 2
const amount = 10
const options = { ttl: "2 seconds", waitAtMost: "10 seconds" } as const
const expected = workers.length * depositsEach * amount

// ---------------------------------------------------------------- what is printed

const startedAt = performance.now()
const now = () => performance.now() - startedAt
const ms = (millis: number) => `${millis.toFixed(0)} ms`
const money = (balance: number) => String(balance).padStart(3)

const coloured = process.stdout.isTTY
  ? process.stdout.hasColors()
  : process.env["FORCE_COLOR"] === "1"

const style = (code: number) => (text: string) =>
  coloured ? `\u001b[${code}m${text}\u001b[0m` : text

const [bold, dim, red, green] = [style(1), style(2), style(31), style(32)]
const [yellow, blue] = [style(33), style(34)]

const colours: Record<string, (text: string) => string> = {
  "worker A": blue,
  "worker B": yellow,
  network: red
}

const say = (who: string, what: string) => {
  const name = (colours[who] ?? String)(who.padEnd(8))
  return Console.log(`${dim(`${now().toFixed(0).padStart(6)} ms`)}  ${name}  ${what}`)
}

const chapter = (title: string) => Console.log(`\n${bold(title)}`)

// ---------------------------------------------------------------- what is protected

/**
 * An account somewhere else, which is read and written. It remembers the greatest fencing token
 * that it has seen, and refuses a write with a smaller one.
 */
const makeAccount = () => {
  let balance = 0
  let greatestToken = 0
  return {
    read: () => balance,
    write: (newBalance: number, fencingToken = 0) => {
      if (fencingToken < greatestToken) return "refused"
      greatestToken = fencingToken
      balance = newBalance
      return "accepted"
    },
    greatestToken: () => greatestToken
  }
}

type Account = ReturnType<typeof makeAccount>

/** A read, some time, and a write: where two of these overlap, one of them is lost. */
const deposit = (account: Account, worker: number, fencingToken?: number) =>
  Effect.gen(function* () {
    const read = account.read()
    yield* Effect.sleep(10 + 5 * worker)
    const overwritten = account.read() - read
    account.write(read + amount, fencingToken)
    return { overwritten, text: `read ${money(read)}, wrote ${money(read + amount)}` }
  })

// ---------------------------------------------------------------- 1 and 2: lost updates

const withoutLock = Effect.gen(function* () {
  yield* chapter(`1. Without the lock: ${workers.length} workers, ${depositsEach} deposits each`)
  const account = makeAccount()
  const work = (worker: number) =>
    Effect.gen(function* () {
      const { overwritten, text } = yield* deposit(account, worker)
      const note = overwritten > 0 ? `, over ${overwritten} that others had deposited` : ""
      yield* say(`worker ${worker}`, text + note)
    }).pipe(Effect.repeat({ times: depositsEach - 1 }))
  yield* Effect.forEach(workers, work, { concurrency: "unbounded", discard: true })
  return account.read()
})

/** Opens a store for one worker: on Redis each has a connection of its own, as a process would. */
type OpenStore = Effect.Effect<LockStore.LockStore, LockError.LockStoreError, Scope.Scope>

const withLock = (account: Account, openStore: OpenStore) =>
  Effect.gen(function* () {
    yield* chapter("2. With the lock: the same workers, the same deposits")
    const tokens: Array<number> = []
    const work = (worker: number) =>
      Effect.suspend(() => {
        const askedAt = now()
        return Lock.withLock(
          key,
          options
        )((lease) =>
          Effect.gen(function* () {
            const grantedAt = now()
            tokens.push(lease.fencingToken)
            const { text } = yield* deposit(account, worker, lease.fencingToken)
            yield* say(
              `worker ${worker}`,
              `${text}   waited ${ms(grantedAt - askedAt).padStart(7)}   held ${ms(now() - grantedAt).padStart(6)}   token ${lease.fencingToken}`
            )
          })
        )
      }).pipe(
        Effect.repeat({ times: depositsEach - 1 }),
        Effect.provideServiceEffect(LockStore.LockStore, openStore)
      )
    yield* Effect.forEach(workers, work, { concurrency: "unbounded", discard: true })
    return { balance: account.read(), tokens }
  })

// ---------------------------------------------------------------- 3: a lease is lost

/**
 * A worker's connection to everything else. While it is silent, requests are delayed, unanswered.
 */
const makeNetwork = () => {
  let silent = false
  const renewals = { answered: 0, unanswered: 0 }
  const delayed: Array<() => void> = []
  return {
    renewals,
    isSilent: () => silent,
    fallSilent: () => void (silent = true),
    send: (message: () => void) => (silent ? void delayed.push(message) : message()),
    deliverDelayed: () => {
      silent = false
      for (const message of delayed.splice(0)) message()
    }
  }
}

/** The store as seen through that network: renewals and releases may get no answer. */
const through = (
  network: ReturnType<typeof makeNetwork>,
  store: LockStore.LockStore
): LockStore.LockStore => {
  const ask = <A>(
    operation: LockError.LockStoreOperation,
    command: Effect.Effect<A, LockError.LockStoreError>
  ) =>
    Effect.suspend(() =>
      network.isSilent()
        ? new LockError.LockStoreError({
            operation,
            key,
            detail: "No answer in 100 ms.",
            transient: true
          }).pipe(Effect.delay("100 millis"))
        : command
    )
  return {
    ...store,
    acquire: (claim, restore) =>
      Effect.map(store.acquire(claim, restore), (grant) => ({
        ...grant,
        renew: ask("renew", grant.renew).pipe(
          Effect.tap(() => Effect.sync(() => network.renewals.answered++)),
          Effect.tapError(() => Effect.sync(() => network.renewals.unanswered++))
        ),
        verify: ask("verify", grant.verify),
        release: ask("release", grant.release)
      }))
  }
}

const leaseLost = (account: Account, openStore: OpenStore) =>
  Effect.gen(function* () {
    yield* chapter("3. A holder whose network goes silent (ttl 2000 ms, margin 500 ms)")
    const network = makeNetwork()
    const firstHolds = yield* Deferred.make<void>()
    const before = account.read()
    let interruptedAt = Number.NaN
    let firstToken = 0
    let lateWrite = "never sent"

    const first = Lock.withLock(key, {
      ...options,
      renewEvery: "500 millis",
      margin: "500 millis"
    })((lease) =>
      Effect.gen(function* () {
        firstToken = lease.fencingToken
        yield* say("worker A", `has the lock, read ${money(before)}   token ${firstToken}`)
        yield* Deferred.succeed(firstHolds, undefined)
        yield* Effect.sleep("1200 millis")
        yield* say(
          "worker A",
          `still works, its lease was renewed ${network.renewals.answered} times`
        )
        network.fallSilent()
        yield* say("network", "goes silent for worker A, and for its renewals")
        network.send(() => {
          lateWrite = account.write(before + amount, firstToken)
        })
        yield* say("worker A", `sends its write of ${before + amount}, waits for the answer`)
        return yield* Effect.never
      }).pipe(
        Effect.onInterrupt(() =>
          Effect.gen(function* () {
            interruptedAt = now()
            const left = Duration.toMillis(yield* lease.remaining)
            yield* say(
              "worker A",
              `is interrupted: ${network.renewals.unanswered} renewals were not answered; the lock is its own for ${ms(left)} more`
            )
          })
        )
      )
    ).pipe(
      Effect.catchTag("LockLost", (lost) =>
        say("worker A", `withLock has failed with LockLost, reason ${lost.reason}`)
      ),
      Effect.provideServiceEffect(
        LockStore.LockStore,
        Effect.map(openStore, (store) => through(network, store))
      )
    )

    const second = Effect.suspend(() => {
      const askedAt = now()
      return Lock.withLock(
        key,
        options
      )((lease) =>
        Effect.gen(function* () {
          const grantedAt = now()
          const token = lease.fencingToken
          yield* say(
            "worker B",
            `has the lock after waiting ${ms(grantedAt - askedAt)}   token ${token}`
          )
          const withdrawn = account.write(account.read() - 3 * amount, token)
          yield* say("account", `${withdrawn} a write of ${account.read()}   token ${token}`)
          return { grantedAt, token, balance: account.read() }
        })
      )
    }).pipe(Effect.provideServiceEffect(LockStore.LockStore, openStore))

    const firstFiber = yield* Effect.fork(first)
    // a failure of its own must not be waited for
    yield* Effect.raceFirst(Deferred.await(firstHolds), Fiber.join(firstFiber))
    yield* say("worker B", "asks for the same lock")
    const { balance, grantedAt, token } = yield* second
    yield* Fiber.join(firstFiber)
    yield* say("network", "is back, and delivers what worker A had sent")
    network.deliverDelayed()
    yield* say(
      "account",
      `${lateWrite} the write of ${before + amount}: token ${firstToken} is behind ${account.greatestToken()}`
    )
    return {
      aheadMillis: grantedAt - interruptedAt,
      lateWrite,
      tokens: [firstToken, token],
      undamaged: account.read() === balance
    }
  })

// ---------------------------------------------------------------- the whole demo

const grows = (numbers: ReadonlyArray<number>) =>
  numbers.every((it, index) => index === 0 || it > numbers[index - 1]!)

const demo = Effect.gen(function* () {
  const memory = yield* MemoryLockStore.make
  const openStore: OpenStore =
    redisUrl === undefined
      ? Effect.succeed(memory)
      : RedisLockStore.make({ url: redisUrl, prefix: "effect-redis-lock-demo:" })
  const probedAt = now()
  yield* Lock.withLock("probe", { waitAtMost: "5 seconds" })(Effect.void).pipe(
    Effect.provideServiceEffect(LockStore.LockStore, openStore)
  )
  const place =
    redisUrl === undefined ? "this process's memory" : `Redis at ${new URL(redisUrl).host}`
  yield* Console.log(`Leases are kept in ${place}; a first lock took ${ms(now() - probedAt)}.`)

  const account = makeAccount()
  const unlocked = yield* withoutLock
  const locked = yield* withLock(account, openStore)
  const lost = yield* leaseLost(account, openStore)

  const updates = expected / amount
  const lostUpdates = (balance: number) => (expected - balance) / amount
  const claims: ReadonlyArray<readonly [holds: boolean, text: string]> = [
    [
      unlocked < expected,
      `without the lock   ${lostUpdates(unlocked)} of ${updates} updates lost, balance ${unlocked} instead of ${expected}`
    ],
    [
      locked.balance === expected,
      `with the lock      ${lostUpdates(locked.balance)} of ${updates} updates lost, balance ${locked.balance}`
    ],
    [
      grows([...locked.tokens, ...lost.tokens]),
      `fencing tokens     ${locked.tokens.length + lost.tokens.length} grants, each with a greater one than the last`
    ],
    [
      lost.aheadMillis > 0,
      `a lease lost       holder interrupted ${lost.aheadMillis.toFixed(0)} ms before the next one had the lock`
    ],
    [
      lost.lateWrite === "refused" && lost.undamaged,
      `its late write     ${lost.lateWrite} by the account, balance ${account.read()}`
    ]
  ]
  yield* chapter(`Summary, after ${now().toFixed(0)} ms`)
  for (const [holds, text] of claims)
    yield* Console.log(`  ${holds ? green("holds") : red("FALSE")}  ${text}`)
  if (claims.some(([holds]) => !holds))
    return yield* Effect.fail("not every claim of the summary holds")
}).pipe(
  Effect.scoped,
  Effect.timeoutFail({ duration: "20 seconds", onTimeout: () => "not done after 20 s" })
)

demo.pipe(
  // the loss is a warning in the log, too, which would break the columns
  Logger.withMinimumLogLevel(LogLevel.None),
  Effect.tapError((error) =>
    Console.error(`The demo ended early: ${typeof error === "string" ? error : error.message}`)
  ),
  NodeRuntime.runMain({ disableErrorReporting: true })
)
