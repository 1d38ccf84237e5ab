/** The built site on a free port, as a host of static files serves it. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { extname, join } from "node:path"

const dist = join(import.meta.dirname, "../.vitepress/dist")

const types: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css",
  ".js": "text/javascript",
  ".json": "application/json",
  ".png": "image/png",
  ".svg": "image/svg+xml"
}

/** The paths of all of its pages. */
export const pages = (): ReadonlyArray<string> =>
  readdirSync(dist, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".html") && name !== "404.html")
    .sort()

export const served: Effect.Effect<string, never, Scope.Scope> = Effect.gen(function* () {
  if (!existsSync(dist)) throw new Error("the site is not built: npm run docs:build")
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url!, "http://site.invalid").pathname)
    const file = join(dist, path.endsWith("/") ? `${path}index.html` : path)
    const found = existsSync(file) && statSync(file).isFile()
    response.writeHead(found ? 200 : 404, {
      "content-type": found ? (types[extname(file)] ?? "application/octet-stream") : types[".html"]
    })
    response.end(readFileSync(found ? file : join(dist, "404.html")))
  })
  yield* Effect.acquireRelease(
    Effect.async<void>((resume) => {
      server.listen(0, "127.0.0.1", () => resume(Effect.void))
    }),
    () =>
      Effect.async<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  )
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
})
