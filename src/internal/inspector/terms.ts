/** The options of the page's server, checked. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { checkEvery, checkPrefix, impossible, notADuration } from "../common/options.js"
import { defect } from "../face/causes.js"
import { toMillis } from "../faces/millis.js"

export interface Terms {
  readonly prefix: string
  readonly everyMillis: number
  /** For how long it goes on when nobody watches any more. */
  readonly idleAfterMillis: number
  readonly allowRelease: boolean
  readonly hosts: ReadonlyArray<string> | undefined
  readonly leaders: ReadonlyArray<string>
}

/** So often at most: each look goes through all keys. */
const leastEvery = 100

const howHosts =
  'It must be as it stands in an address, between "//" and "/": ops.example.com, or ops.example.com:8443.'

const isHost = (host: string): boolean => {
  const address = `http://${host}`
  if (!URL.canParse(address)) return false
  const url = new URL(address)
  return url.host === host || `${url.host}:80` === host
}

/** A browser leaves a port away that is the usual one. */
const asSent = (host: string): ReadonlyArray<string> => {
  const [, name] = /^(.*):(?:80|443)$/.exec(host) ?? []
  return name === undefined ? [host] : [host, name]
}

export const decodeTerms = (options: {
  readonly prefix?: string | undefined
  readonly every?: Duration.DurationInput | undefined
  readonly idleAfter?: Duration.DurationInput | undefined
  readonly allowRelease?: boolean | undefined
  readonly hosts?: ReadonlyArray<string> | undefined
  readonly leaders?: ReadonlyArray<string> | undefined
}): Effect.Effect<Terms> => {
  const { allowRelease = false, every = "1 second", idleAfter = "2 minutes" } = options
  const { leaders = [], prefix = "" } = options
  const everyMillis = toMillis(every)
  const idleAfterMillis = toMillis(idleAfter)
  if (everyMillis === undefined) return defect(notADuration("every", every))
  if (idleAfterMillis === undefined) return defect(notADuration("idleAfter", idleAfter))
  const wrong = checkPrefix(prefix) ?? checkEvery(everyMillis, leastEvery)
  if (wrong !== undefined) return defect(wrong)
  const hosts = options.hosts?.map((host) => host.toLowerCase())
  const noHost = hosts?.find((host) => !isHost(host))
  if (noHost !== undefined) return defect(impossible("hosts", noHost, howHosts))
  return Effect.succeed({
    prefix,
    everyMillis,
    idleAfterMillis,
    allowRelease,
    hosts: hosts?.flatMap(asSent),
    leaders
  })
}
