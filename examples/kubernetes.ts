/**
 * What becomes of a lock when a pod is stopped. Two pods (processes of shutdown.ts) want the same lock:
 *
 * - The one that has it gets a SIGTERM, as from `kubectl delete pod` or a rollout: it gives the lock
 *   back, and the other one has it after one message.
 * - The one that has it then is killed, as when its grace period is over or its node dies: the next one
 *   has the lock when the ttl has passed.
 *
 *   REDIS_URL=redis://127.0.0.1:6379 npx tsx examples/kubernetes.ts
 *
 * What to set in the pod, and why, is in docs/recipes.md ("Shutdown").
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"

const ttlMillis = 3_000

/** A pod: it waits for the lock, works under it, and says so. */
class Pod {
  private text = ""
  private readonly process = spawn(
    process.execPath,
    ["--import", "tsx", fileURLToPath(new URL("shutdown.ts", import.meta.url))],
    {
      stdio: ["ignore", "pipe", "inherit"],
      env: { ...process.env, TTL: `${ttlMillis} millis` }
    }
  )
  readonly ended = once(this.process, "close")

  constructor() {
    this.process.stdout.setEncoding("utf8").on("data", (text: string) => (this.text += text))
  }

  async says(text: string): Promise<void> {
    while (!this.text.includes(text)) {
      if (this.process.exitCode !== null) throw new Error(`a pod ended without saying "${text}"`)
      await once(this.process.stdout, "data")
    }
  }

  /** Sends a signal, and answers for how long another pod has to wait from then on. */
  async stop(signal: NodeJS.Signals, next: Pod): Promise<number> {
    const at = performance.now()
    this.process.kill(signal)
    await next.says("has the lock")
    const waited = performance.now() - at
    await this.ended
    return waited
  }

  async end(): Promise<void> {
    this.process.kill("SIGTERM")
    await this.ended
  }
}

const main = async () => {
  const pods: Array<Pod> = []
  const start = async (says: string) => {
    const pod = new Pod()
    pods.push(pod)
    await pod.says(says)
    return pod
  }
  try {
    const first = await start("has the lock")
    const second = await start("waits for the lock")
    const terminated = await first.stop("SIGTERM", second)
    console.log(`SIGTERM: the next pod has the lock after ${terminated.toFixed(0)} ms`)

    const third = await start("waits for the lock")
    const killed = await second.stop("SIGKILL", third)
    console.log(
      `SIGKILL: the next pod has the lock after ${killed.toFixed(0)} ms, with a ttl of ${ttlMillis} ms`
    )
  } finally {
    await Promise.all(pods.map((pod) => pod.end()))
  }
}

if (process.env["REDIS_URL"]) await main()
else console.log("This example needs a Redis: set REDIS_URL.")
