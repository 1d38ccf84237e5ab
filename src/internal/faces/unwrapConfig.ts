/** Options whose values come from `Config`, at any depth. */
import * as Config from "effect/Config"
import { show } from "../common/options.js"

/**
 * Like `Config.unwrap`, which throws at any value that is not a Config. Here a value without a Config
 * inside is taken as it is, so that constants, functions and instances can stand beside Configs.
 */
export const unwrapConfig = <A>(
  wrapped: unknown,
  invalid: (detail: string) => Config.Config<never>
): Config.Config<A> => {
  const unwrapped = (
    value: unknown,
    path: ReadonlyArray<string>,
    inside: ReadonlyArray<unknown>
  ): Config.Config<unknown> => {
    if (Config.isConfig(value)) return value
    if (!hasConfig(value)) return Config.succeed(value)
    if (inside.includes(value)) {
      return invalid(
        `Impossible option ${path.join(".")}: ${show(value)}. It contains itself, so its Configs cannot be read.`
      )
    }
    const parts = Object.entries(value).map(
      ([name, part]) => [name, unwrapped(part, [...path, name], [...inside, value])] as const
    )
    return Array.isArray(value)
      ? Config.all(parts.map(([, part]) => part))
      : Config.all(Object.fromEntries(parts))
  }
  return unwrapped(wrapped, [], []) as Config.Config<A>
}

const hasConfig = (value: unknown): value is object => {
  const seen = new Set([value])
  for (const one of seen) {
    if (Config.isConfig(one)) return true
    // (the bytes of a certificate are not looked at one by one)
    if (typeof one !== "object" || one === null || ArrayBuffer.isView(one)) continue
    for (const part of Object.values(one)) seen.add(part)
  }
  return false
}
