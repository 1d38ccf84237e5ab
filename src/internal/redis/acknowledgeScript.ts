/**
 * The question whether grants are where they are not lost: it goes to the master on a connection of its own,
 * and is no script alone. First, for each grant, whether the server has it: that writes, so that the
 * connection has written something behind the grant. Then one WAIT for all of them, which speaks of what its own
 * connection has written, and of all that was written before that.
 *
 * Whether the server is still the one that made the grant need not be known: it has it, and so have those that
 * have answered.
 */
import type { Settings } from "../common/settings.js"
import { slotOf } from "./layout.js"
import type { Script } from "./lua.js"
import { isServerError, messageOf } from "./replyErrors.js"

/**
 * KEYS: the first of the lock's. ARGV: token. How many ms are left of what the token holds, of whatever kind
 * the key is; -1, if it does not hold it. It makes the key's ttl what it is, which is a write.
 */
const present = `
local token, ends = redis.pcall('GET', KEYS[1]), false
if type(token) == 'table' then
  if not string.find(token.err, 'WRONGTYPE') then return token end
  ends = redis.pcall('ZSCORE', KEYS[1], ARGV[1])
  if type(ends) ~= 'string' then return -1 end
elseif token ~= ARGV[1] then
  return -1
end
local left = redis.call('PTTL', KEYS[1])
if left < 1 then return -1 end
redis.call('PEXPIRE', KEYS[1], left)
if not ends then return left end
local t = redis.call('TIME')
return math.max(-1, ends - t[1] * 1000 - math.floor(t[2] / 1000))
`

/** Stands for the question where calls and parcels have a script. */
export const acknowledge: Script = { name: "acknowledge", lua: present, sha: "" }

/** Who is to have it: how many replicas, and whether on their disks, and on the master's. */
export type Terms = NonNullable<Settings["acknowledged"]>

export const argsOf = (
  { disk, replicas, withinMillis }: Terms,
  tokens: ReadonlyArray<string>
): ReadonlyArray<string> => [String(replicas), disk ? "1" : "", String(withinMillis), ...tokens]

/** What was found of one grant. */
export interface Seen {
  /** How many ms are left of it on the server; -1: the server does not have it. Or why that is not known. */
  readonly left: number | Error
  /** How many replicas have it, and whether it is on the master's disk. Or why that is not known. */
  readonly answered: Answered | Error
}

export interface Answered {
  readonly replicas: number
  readonly onDisk: boolean
  /** How many replicas there are; asked where too few have answered. */
  readonly connected: number | undefined
}

export const notThere =
  "The server that was asked does not have it: it is another master than the one that has answered, or the key is not held any more."

/** None of them is there. As a demoted master answers: the connection is left for another one. */
const elsewhere = (): Error =>
  Object.assign(new Error(`READONLY ${notThere}`), { name: "ReplyError" })

/** What is needed of an ioredis client of one server. */
export interface Master {
  readonly options?:
    { readonly host?: string | undefined; readonly port?: number | undefined } | undefined
  eval(script: string, numberOfKeys: number, ...keysAndArgs: Array<string>): Promise<unknown>
  call(command: string, ...args: Array<string>): Promise<unknown>
}

/** Or of a Cluster. */
export interface Masters extends Master {
  readonly isCluster?: boolean
  readonly status: string
  readonly slots?: ReadonlyArray<ReadonlyArray<string> | undefined>
  connect(): Promise<void>
  nodes?(role: "master"): Array<Master>
  refreshSlotsCache?(callback: (error?: Error | null) => void): void
}

/** A grant, and where it stands in the answer. */
interface Asked {
  readonly key: string
  readonly token: string
  readonly at: number
}

/** Asks a client. Answers what was found of each grant. It fails with the trouble of a connection. */
export const acknowledgeOn = async (
  client: Masters,
  keyPrefix: string,
  keys: ReadonlyArray<string>,
  [replicas = "", disk = "", within = "", ...tokens]: ReadonlyArray<string>
): Promise<ReadonlyArray<Seen>> => {
  const found: Array<Seen> = []
  // (a node of a Cluster puts nothing before it)
  const prefix = client.isCluster === true ? keyPrefix : ""
  const all = keys.map((key, at): Asked => ({ key: prefix + key, token: tokens[at]!, at }))

  const askAt = async (node: Master, asked: ReadonlyArray<Asked>, asking: boolean) => {
    // (all of it in one turn: nothing comes in between)
    const seen = asked.map(({ key, token }) => {
      // (where that is refused, so is the next one)
      if (asking) node.call("ASKING").catch(() => {})
      return outcomeOf(node.eval(present, 1, key, token))
    })
    const waited = outcomeOf(
      disk === ""
        ? node.call("WAIT", replicas, within)
        : node.call("WAITAOF", "1", replicas, within)
    )
    const [reply, ...lefts] = await Promise.all([waited, ...seen])
    const answered =
      reply instanceof Error ? reply : await answeredBy(node, reply, Number(replicas))
    asked.forEach(({ at }, index) => {
      const left = lefts[index]
      found[at] = { left: left instanceof Error ? left : Number(left), answered }
    })
  }

  const checked = () => {
    if (found.every(({ left }) => left === -1)) throw elsewhere()
    return found
  }

  if (client.isCluster !== true) {
    await askAt(client, all, false)
    return checked()
  }
  if (client.status === "wait") await client.connect()
  const named = nodesOf(client)
  const nodeOf = ({ key }: Asked) =>
    named.get(client.slots?.[slotOf(key)]?.[0] ?? "") ?? [...named.values()][0]
  await Promise.all(byNode(all, nodeOf).map(([node, asked]) => askAt(node, asked, false)))
  // the slot has moved, or is on its way
  for (const one of all) {
    const { left } = found[one.at]!
    const [, how, address] =
      (left instanceof Error && /^(MOVED|ASK) \d+ (\S+)/.exec(messageOf(left))) || []
    if (how === "MOVED") client.refreshSlotsCache?.(() => {})
    const node = address === undefined ? undefined : nodesOf(client).get(address)
    if (node !== undefined) await askAt(node, [one], how === "ASK")
  }
  return checked()
}

const nodesOf = (client: Masters): ReadonlyMap<string, Master> =>
  new Map(
    client.nodes!("master").map((node) => [`${node.options?.host}:${node.options?.port}`, node])
  )

const byNode = (
  all: ReadonlyArray<Asked>,
  nodeOf: (asked: Asked) => Master | undefined
): ReadonlyArray<readonly [Master, ReadonlyArray<Asked>]> => {
  const groups = new Map<Master, Array<Asked>>()
  for (const one of all) {
    const node = nodeOf(one)
    if (node === undefined) throw new Error("The Cluster has no masters.")
    const group = groups.get(node)
    if (group === undefined) groups.set(node, [one])
    else group.push(one)
  }
  return [...groups]
}

/** Of WAIT: a number; of WAITAOF: how many servers of its own, and how many replicas. */
const answeredBy = async (node: Master, reply: unknown, wanted: number): Promise<Answered> => {
  const [own, replicas] = Array.isArray(reply) ? reply.map(Number) : [1, Number(reply)]
  const isEnough = replicas! >= wanted
  return {
    replicas: replicas!,
    onDisk: own === 1,
    connected: isEnough ? undefined : await connectedTo(node)
  }
}

/** How many replicas a server has; `undefined` where it does not say. */
const connectedTo = async (node: Master): Promise<number | undefined> => {
  const info = await outcomeOf(node.call("INFO", "replication"))
  const [, count] = /^connected_slaves:(\d+)/m.exec(String(info)) ?? []
  return count === undefined ? undefined : Number(count)
}

/** The answer, or the error of the server. That of a connection is thrown. */
const outcomeOf = (asked: Promise<unknown>): Promise<unknown> =>
  asked.catch((error: unknown) => {
    // (of a demoted master, or one that is starting: the connection is left for another one)
    if (!isServerError(error) || messageOf(error).startsWith("READONLY")) throw error
    return error
  })
