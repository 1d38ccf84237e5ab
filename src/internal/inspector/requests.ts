/** Which requests are answered: those that were not made by another site. */
import * as HttpIncomingMessage from "@effect/platform/HttpIncomingMessage"
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

type Request = HttpServerRequest.HttpServerRequest

/** By the name that the browser used: `Host`, or, behind a proxy, what the options say. */
const hostOf = ({ headers }: Request): string | undefined => headers["host"]?.toLowerCase()

/** `hosts`: under which names the page is reached; where it is not known, under any. */
export const badHost = (
  request: Request,
  hosts: ReadonlyArray<string> | undefined
): string | undefined => {
  const host = hostOf(request)
  return hosts === undefined || (host !== undefined && hosts.includes(host))
    ? undefined
    : "This page is not reached under that name (the header Host)."
}

/**
 * Whether a page of another site can have sent it. A browser names the origin with every POST; a request without
 * one is refused, too: programs have `Lock.forceRelease`, and people the command line.
 */
export const badOrigin = (
  request: Request,
  hosts: ReadonlyArray<string> | undefined
): string | undefined => {
  const { "content-type": type, origin, "sec-fetch-site": site } = request.headers
  const own = hosts ?? [hostOf(request)]
  const from = origin !== undefined && URL.canParse(origin) ? new URL(origin).host : undefined
  if (from === undefined || !own.includes(from)) {
    return "A request of another site, or of no site (the header Origin)."
  }
  if (site !== undefined && site !== "same-origin") {
    return "A request of another site (the header Sec-Fetch-Site)."
  }
  return /^application\/json\b/i.test(type ?? "") ? undefined : "The body must be JSON."
}

/** More than the longest key, each character of it escaped. */
const mostBytes = 524_288

/** Its body, or what is wrong with that. */
export const jsonOf = <A, I>(
  request: Request,
  schema: Schema.Schema<A, I>
): Effect.Effect<A, string> =>
  request.json.pipe(
    HttpIncomingMessage.withMaxBodySize(Option.some(mostBytes)),
    Effect.mapError(() => `The body is no JSON, or has more than ${mostBytes} bytes.`),
    Effect.flatMap((body) =>
      Effect.mapError(Schema.decodeUnknown(schema)(body), ({ message }) => message)
    )
  )
