/**
 * The keys of a server, page by page: by SCAN, which is no script, so it is sent as the command that it is.
 * Of a Cluster, one master after the other.
 */
import type { Page } from "../engine.js"
import { keyNamed } from "./layout.js"
import type { Script } from "./lua.js"

/** Stands for the command where calls and parcels have a script. */
export const scan: Script = { name: "scan", lua: "", sha: "" }

/** What is needed of an ioredis client of one server. */
export interface Server {
  readonly options?:
    { readonly host?: string | undefined; readonly port?: number | undefined } | undefined
  scan(
    cursor: string,
    match: "MATCH",
    pattern: string,
    count: "COUNT",
    atMost: string
  ): Promise<[cursor: string, names: Array<string>]>
}

/** Or of a Cluster, which would ask any of its nodes. */
export interface Scannable extends Pick<Server, "scan"> {
  readonly status: string
  readonly isCluster?: boolean
  connect(): Promise<void>
  nodes?(role: "master"): Array<Server>
  refreshSlotsCache?(callback: (error?: Error | null) => void): void
}

/** So many keys of the server are gone through in one call. */
const pageSize = 500

/** Where a page begins: how far the first of the masters is, and which are left. (One server has no name.) */
interface Position {
  readonly cursor: string
  readonly masters: ReadonlyArray<string>
}

const start: Position = { cursor: "0", masters: [] }

/** All characters as they are. */
const literally = (text: string): string => text.replace(/[\\*?[\]]/g, "\\$&")

/**
 * What matches is the key itself, and what stands beside it: that somebody waits for a key that nobody has
 * is only seen by its queue.
 */
const patternOf = (head: string, prefix: string): string =>
  prefix === "" ? `${literally(head)}*` : `${literally(head)}*${literally(prefix)}*`

/** What to ask for a page. `from`: as the page before it said. */
export const scanArgs = (
  head: string,
  prefix: string,
  from: string | undefined
): ReadonlyArray<string> => {
  const { cursor, masters } = from === undefined ? start : (JSON.parse(from) as Position)
  return [cursor, patternOf(head, prefix), String(pageSize), ...masters]
}

/** `undefined`: not an answer to that. */
export const readPage = (
  reply: unknown,
  clientPrefix: string,
  ownPrefix: string,
  prefix: string
): Page | undefined => {
  if (!Array.isArray(reply) || !Array.isArray(reply[1])) return undefined
  const [cursor, names, ...masters] = reply as [unknown, ReadonlyArray<unknown>, ...Array<string>]
  const keys = new Set<string>()
  for (const name of names) {
    const key = keyNamed(clientPrefix, ownPrefix, String(name))
    if (key?.startsWith(prefix) === true) keys.add(key)
  }
  const left = String(cursor) === "0" ? masters.slice(1) : masters
  const isLast = String(cursor) === "0" && left.length === 0
  const position: Position = { cursor: String(cursor), masters: left }
  return { keys: [...keys], next: isLast ? undefined : JSON.stringify(position) }
}

/**
 * Asks a client. Answers the next cursor, the names of keys, and of a Cluster the masters that are not done
 * yet, the present one first.
 */
export const scanOn = async (
  client: Scannable,
  [cursor = "0", pattern = "*", count = "", ...given]: ReadonlyArray<string>
): Promise<unknown> => {
  const masters = client.isCluster === true ? await mastersOf(client, given.length === 0) : []
  const names = given.length > 0 ? given : masters.map(([name]) => name)
  const node = client.isCluster === true ? new Map(masters).get(names[0] ?? "") : client
  if (node === undefined) {
    throw new Error("The Cluster has changed while its keys were listed.")
  }
  return [...(await node.scan(cursor, "MATCH", pattern, "COUNT", count)), ...names]
}

/** `anew`: as the Cluster says now. (A node whose connection has ended is not known to the client.) */
const mastersOf = async (
  client: Scannable,
  anew: boolean
): Promise<ReadonlyArray<readonly [string, Server]>> => {
  if (client.status === "wait") await client.connect()
  if (anew) {
    await new Promise<void>((resolve, reject) =>
      client.refreshSlotsCache!((error) => (error ? reject(error) : resolve()))
    )
  }
  return client.nodes!("master").map(
    (node) => [`${node.options?.host}:${node.options?.port}`, node] as const
  )
}
