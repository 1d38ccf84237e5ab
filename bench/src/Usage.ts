/** What a server has used so far. */
import * as Effect from "effect/Effect"
import type * as RedisServer from "../../test/support/RedisServer.js"

export const usage = (server: RedisServer.RedisProcess) =>
  Effect.map(server.command("INFO", "stats", "cpu"), (info) => {
    const field = (name: string) =>
      Number(new RegExp(`^${name}:([\\d.]+)`, "m").exec(String(info))?.[1] ?? Number.NaN)
    return {
      bytes: field("total_net_input_bytes") + field("total_net_output_bytes"),
      cpuMicros: 1e6 * (field("used_cpu_sys") + field("used_cpu_user"))
    }
  })
