/**
 * A program that starts, takes one lock, and ends. Arguments: who, and the server's URL; or a package
 * that is only imported. It tells how long that took, as JSON.
 */
const began = performance.now()

const [who, url] = process.argv.slice(2) as [string, string | undefined]

const first = async (url: string): Promise<{ importMillis: number; lockedMillis: number }> => {
  const { load } = await import("./contenders/index.js")
  const contender = await load(who as Parameters<typeof load>[0])
  const importMillis = performance.now() - began
  const session = await contender.open({ url, ttlMillis: 5_000, pollMillis: [2, 8] }, 0)
  let lockedMillis = Number.NaN
  let asked = false
  await session.run(
    { callers: 1, keys: "own", body: "empty", shape: "withLock" },
    {
      work: undefined,
      begin: () => {
        const key = asked ? undefined : "start"
        asked = true
        return key
      },
      writes: () => true,
      enter: () => (lockedMillis = performance.now() - began),
      leave: () => {},
      failed: (_, error) => {
        throw error
      }
    }
  )
  await session.close()
  return { importMillis, lockedMillis }
}

const result =
  url === undefined
    ? { importMillis: (await import(who), performance.now() - began) }
    : await first(url)
console.log(JSON.stringify(result))
process.exit(0)
