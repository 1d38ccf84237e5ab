/**
 * A TCP proxy between a client and Redis that fails on command: what is held, lost, delayed or cut
 * is decided by the test, and every event can be waited for.
 *
 * @example
 * ```ts
 * const proxy = yield* FaultProxy.make(server.port)
 * const lost = proxy.resetAfterApply("EVALSHA")
 * const fiber = yield* Effect.fork(acquire(proxy.url))
 * yield* lost.fired // applied by the server, and the client cannot know
 * ```
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import * as Changes from "./Changes.js"
import * as Resp from "./Resp.js"

// -----------------------------------------------------------------------------
// models
// -----------------------------------------------------------------------------

/**
 * Which commands: a string is the command's name (in any case) or a part of one of its arguments,
 * and never matches what clients send by themselves on connecting (HELLO, AUTH, CLIENT, SELECT,
 * INFO, COMMAND), nor does the default, any other command. A predicate sees everything.
 */
export type Matcher = string | ((args: ReadonlyArray<string>) => boolean)

/** Which connections. Default: all. */
export type Where = (connection: Connection) => boolean

export interface Connection {
  readonly id: number
  /** Has sent SUBSCRIBE, PSUBSCRIBE or SSUBSCRIBE. */
  readonly subscriber: boolean
  /** It leads nowhere, by `abandon`. */
  readonly abandoned: boolean
  /** What it has sent. */
  readonly requests: ReadonlyArray<Request>
}

export interface Request {
  /** The `id` of its connection. */
  readonly connection: number
  readonly args: ReadonlyArray<string>
  /** Whether the server's reply has come to the proxy (not: whether it was passed on). */
  readonly replied: boolean
  /** The reply; `undefined` until then, and for (un)subscriptions. */
  readonly reply: unknown
}

export interface HoldOptions {
  readonly where?: Where | undefined
  /**
   * What happens to held bytes when their connection closes. `"deliver"` keeps them, and the close
   * behind them, until the release: the network that delivers a command after its sender gave up.
   * Default: `"drop"`.
   */
  readonly afterClose?: "drop" | "deliver" | undefined
}

export interface BlackHoleOptions {
  readonly where?: Where | undefined
  /** Loses the bytes. Default: they come late, as TCP would have sent them again. */
  readonly drop?: boolean | undefined
}

/** In milliseconds. */
export interface Latency {
  readonly toServer?: number | undefined
  readonly toClient?: number | undefined
}

/** A fault that is armed for the next occasion, or the next few. */
export interface Trap {
  /** How often it has happened. */
  readonly count: number
  /** Ends when it has happened as often as asked, with the last command (or message). */
  readonly fired: Effect.Effect<ReadonlyArray<string>>
  readonly disarm: () => void
}

export interface FaultProxy {
  readonly host: "127.0.0.1"
  readonly port: number
  /** `redis://127.0.0.1:port` */
  readonly url: string

  // what came by

  readonly connections: ReadonlyArray<Connection>
  /** How many connections there have ever been: also those that were refused. */
  readonly opened: number
  /** Everything that clients sent through the proxy, held or not, in the order of arrival. */
  readonly requests: ReadonlyArray<Request>
  /** Name and arguments of each request. */
  readonly commands: ReadonlyArray<ReadonlyArray<string>>
  readonly bytesToServer: number
  readonly bytesToClient: number
  /** Forgets `requests`, `commands` and the bytes so far. */
  readonly forget: () => void
  /** The first matching command, since `forget`, or the next to arrive. */
  readonly awaitCommand: (matcher?: Matcher) => Effect.Effect<ReadonlyArray<string>>
  /** The first matching command whose reply has arrived at the proxy, held or not. */
  readonly awaitReply: (matcher?: Matcher) => Effect.Effect<Request>
  /** Any other condition on what this proxy shows, looked at whenever something happens. */
  readonly until: (predicate: () => boolean) => Effect.Effect<void>

  // held, lost, late

  readonly holdRequests: (options?: HoldOptions) => void
  readonly releaseRequests: () => void
  readonly holdReplies: (options?: HoldOptions) => void
  readonly releaseReplies: () => void
  /** Only pub/sub messages; replies overtake them. */
  readonly holdMessages: () => void
  readonly releaseMessages: () => void
  /** Each ends when at least one is being held (or waits in a black hole). */
  readonly heldRequests: Effect.Effect<void>
  readonly heldReplies: Effect.Effect<void>
  readonly heldMessages: Effect.Effect<void>
  /**
   * Nothing passes either way, not even the close of a connection; new connections are accepted,
   * and silent.
   */
  readonly blackHole: (options?: BlackHoleOptions) => void
  readonly heal: () => void
  /**
   * From now on these connections lead nowhere, for good: neither bytes nor a close come out at the
   * other end, and new connections work. So do idle ones die behind a load balancer, which forgets
   * them without FIN or RST. They end when they are cut.
   */
  readonly abandon: (where?: Where) => void
  /** Latency in milliseconds for what arrives from now on; order is kept, omitted is none. */
  readonly delay: (latency: Latency) => void
  /** The length of the way itself, to which `delay` adds. */
  readonly link: (latency: Latency) => void
  /** Loses whole pub/sub messages (`message`, `pmessage`, `smessage`). */
  readonly dropNextMessage: (times?: number) => Trap

  // cut

  /** Resets connections, on both sides. Returns how many. */
  readonly cutWhere: (where: Where) => number
  readonly cutAll: () => number
  readonly cutSubscribers: () => number
  /** Resets new connections at once, until `accept`. */
  readonly refuse: () => void
  readonly accept: () => void
  /**
   * The next matching command is applied, its reply is lost, and the client's socket reset. An
   * error reply (NOSCRIPT) and QUEUED pass, and the trap stays armed: nothing was applied.
   */
  readonly resetAfterApply: (matcher?: Matcher, times?: number) => Trap
  /** The same for the client, but the command never reaches the server. */
  readonly resetBeforeApply: (matcher?: Matcher, times?: number) => Trap
}

// -----------------------------------------------------------------------------
// constructors
// -----------------------------------------------------------------------------

/** A proxy to a port of Redis; it closes, with all its connections, at the end of the scope. */
export const make = (
  targetPort: number,
  targetHost = "127.0.0.1"
): Effect.Effect<FaultProxy, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.async<{ readonly proxy: FaultProxy; readonly server: Net.Server }>((resume) => {
        const { accept, proxy } = unsafeMake({ port: targetPort, host: targetHost })
        const server = Net.createServer({ allowHalfOpen: true, noDelay: true }, accept)
        server.once("error", (error) => resume(Effect.die(error)))
        server.listen(0, host, () => {
          const { port } = server.address() as Net.AddressInfo
          resume(Effect.succeed({ proxy: proxy(port), server }))
        })
      }),
      ({ proxy, server }) =>
        Effect.async<void>((resume) => {
          server.close(() => resume(Effect.void))
          proxy.refuse()
          proxy.cutAll()
        })
    ),
    ({ proxy }) => proxy
  )

const host = "127.0.0.1"

// -----------------------------------------------------------------------------
// one direction of one connection
// -----------------------------------------------------------------------------

type Item =
  | { readonly _tag: "Bytes"; readonly at: number; readonly bytes: Buffer }
  | { readonly _tag: "Close"; readonly at: number; readonly reset: boolean }

/** `"keep"` and `"lose"` say what to do with bytes; a hold lets a close pass, at their expense. */
type Gate = "open" | "lose" | "keep" | "keep until close"

interface Flow {
  readonly bytes: (bytes: Buffer) => void
  readonly close: (reset: boolean) => void
  /** To be called when the gate may have opened. */
  readonly pump: () => void
  readonly clear: () => void
  /** Whether bytes wait at the gate. */
  readonly isHeld: () => boolean
}

const makeFlow = (options: {
  readonly gate: () => Gate
  readonly latency: () => number
  readonly deliver: (item: Item) => void
}): Flow => {
  let queue: Array<Item> = []
  let timer: NodeJS.Timeout | undefined
  const due = () => performance.now() + options.latency()
  const pump = () => {
    clearTimeout(timer)
    // Only ever the first: after a shorter latency, too, nothing overtakes.
    while (queue.length > 0 && options.gate() === "open") {
      const item = queue[0]!
      const wait = item.at - performance.now()
      if (wait > 0) {
        timer = setTimeout(pump, Math.ceil(wait))
        return
      }
      queue.shift()
      options.deliver(item)
    }
  }
  return {
    bytes: (bytes) => {
      if (options.gate() === "lose") return
      queue.push({ _tag: "Bytes", at: due(), bytes })
      pump()
    },
    close: (reset) => {
      const item: Item = { _tag: "Close", at: due(), reset }
      if (options.gate() === "keep until close") {
        queue = []
        options.deliver(item)
      } else {
        queue.push(item)
        pump()
      }
    },
    pump,
    clear: () => {
      clearTimeout(timer)
      queue = []
    },
    isHeld: () => options.gate() !== "open" && queue.some((item) => item._tag === "Bytes")
  }
}

// -----------------------------------------------------------------------------
// the proxy
// -----------------------------------------------------------------------------

type Mutable<A> = { -readonly [K in keyof A]: A[K] }

interface Armed {
  readonly kind: "after" | "before" | "message"
  readonly matches: (args: ReadonlyArray<string>) => boolean
  readonly happened: (args: ReadonlyArray<string>) => void
}

/** A request that waits for its reply, or replies: a SUBSCRIBE gets one for each channel. */
interface Pending {
  readonly request: Mutable<Request>
  readonly confirms: boolean
  confirmed: number
  trap: Armed | undefined
}

interface Link extends Connection {
  subscriber: boolean
  abandoned: boolean
  readonly requests: Array<Request>
  readonly client: Net.Socket
  /** Absent as long as it was silent from the start. */
  server: Net.Socket | undefined
  readonly toServer: Flow
  readonly toClient: Flow
  readonly pending: Array<Pending>
  readonly messages: Array<Buffer>
}

interface Hold {
  readonly where: Where
  readonly gate: Gate
}

const everywhere: Where = () => true

const hold = (options: HoldOptions = {}): Hold => ({
  where: options.where ?? everywhere,
  gate: options.afterClose === "deliver" ? "keep" : "keep until close"
})

const handshake = new Set(["hello", "auth", "client", "select", "info", "command"])
const subscribes = /^[ps]?subscribe$/i
const subscriptions = /^[ps]?(un)?subscribe$/i
const publications = /^[ps]?message$/

const matching =
  (matcher: Matcher | undefined) =>
  (args: ReadonlyArray<string>): boolean => {
    if (typeof matcher === "function") return matcher(args)
    const name = (args[0] ?? "").toLowerCase()
    if (handshake.has(name)) return false
    return (
      matcher === undefined ||
      name === matcher.toLowerCase() ||
      args.slice(1).some((arg) => arg.includes(matcher))
    )
  }

const unsafeMake = (target: { readonly host: string; readonly port: number }) => {
  const changes = Changes.make()
  const links = new Set<Link>()
  const traps = new Set<Armed>()
  let requests: Array<Mutable<Request>> = []
  let bytesToServer = 0
  let bytesToClient = 0
  let lastId = 0
  let refusing = false
  let holdingMessages = false
  let requestHold: Hold | undefined
  let replyHold: Hold | undefined
  let hole: Hold | undefined
  let latency: Latency = {}
  let way: Latency = {}

  const gate = (link: Link, own: Hold | undefined): Gate => {
    if (link.abandoned) return "lose"
    if (hole !== undefined && hole.where(link)) return hole.gate
    return own !== undefined && own.where(link) ? own.gate : "open"
  }

  // --- a connection's life -----------------------------------------------------

  const accept = (client: Net.Socket): void => {
    client.on("error", () => {})
    lastId++
    if (refusing) {
      client.resetAndDestroy()
      return
    }
    const link: Link = {
      id: lastId,
      subscriber: false,
      abandoned: false,
      requests: [],
      client,
      server: undefined,
      pending: [],
      messages: [],
      toServer: makeFlow({
        gate: () => (link.server === undefined ? "keep" : gate(link, requestHold)),
        latency: () => (way.toServer ?? 0) + (latency.toServer ?? 0),
        deliver: (item) => deliver(link.server, item)
      }),
      toClient: makeFlow({
        gate: () => gate(link, replyHold),
        latency: () => (way.toClient ?? 0) + (latency.toClient ?? 0),
        deliver: (item) => deliver(client, item)
      })
    }
    links.add(link)
    const split = Resp.splitter("requests")
    client.on("data", (chunk) => {
      bytesToServer += chunk.length
      for (const frame of split(chunk)) onRequest(link, frame)
      changes.announce()
    })
    onClose(client, (reset) => {
      // A client that never got through to the server has nothing to be delivered.
      if (link.server === undefined) client.destroy()
      else link.toServer.close(reset)
    })
    client.once("close", () => {
      link.toClient.clear()
      ended(link)
    })
    open(link)
    changes.announce()
  }

  const open = (link: Link): void => {
    if (link.server !== undefined || link.client.destroyed) return
    if (hole !== undefined && hole.where(link)) return
    const server = Net.connect({ ...target, allowHalfOpen: true, noDelay: true })
    link.server = server
    const split = Resp.splitter("replies")
    server.on("data", (chunk) => {
      bytesToClient += chunk.length
      for (const frame of split(chunk)) onReply(link, frame)
      changes.announce()
    })
    server.on("error", () => {})
    onClose(server, (reset) => link.toClient.close(reset))
    server.once("close", () => {
      link.toServer.clear()
      rearm(link)
      ended(link)
    })
    link.toServer.pump()
  }

  const ended = (link: Link): void => {
    if (link.client.destroyed && (link.server?.destroyed ?? true)) links.delete(link)
    changes.announce()
  }

  const cut = (link: Link): void => {
    link.toServer.clear()
    link.toClient.clear()
    link.client.resetAndDestroy()
    link.server?.resetAndDestroy()
    rearm(link)
    ended(link)
  }

  const cutWhere = (where: Where): number => {
    const cuts = [...links].filter(where)
    cuts.forEach(cut)
    return cuts.length
  }

  /** Traps whose reply will never come wait for another command. */
  const rearm = (link: Link): void => {
    for (const { trap } of link.pending.splice(0)) if (trap !== undefined) traps.add(trap)
  }

  const pump = (): void => {
    for (const link of links) {
      open(link)
      link.toServer.pump()
      link.toClient.pump()
    }
    changes.announce()
  }

  // --- what passes ---------------------------------------------------------------

  const onRequest = (link: Link, frame: Resp.Frame): void => {
    if (frame.raw) return link.toServer.bytes(frame.bytes)
    if (link.client.destroyed) return
    const args = (frame.value as ReadonlyArray<unknown>).map(String)
    const name = args[0] ?? ""
    if (subscribes.test(name)) link.subscriber = true
    const request = { connection: link.id, args, replied: false, reply: undefined }
    requests.push(request)
    link.requests.push(request)
    const trap = take("before", args) ?? take("after", args)
    if (trap?.kind === "before") {
      cut(link)
      trap.happened(args)
      return
    }
    if (link.abandoned || (hole?.gate === "lose" && hole.where(link))) {
      if (trap !== undefined) traps.add(trap)
      return
    }
    link.pending.push({ request, confirms: subscriptions.test(name), confirmed: 0, trap })
    link.toServer.bytes(frame.bytes)
  }

  const onReply = (link: Link, frame: Resp.Frame): void => {
    if (link.server?.destroyed === true) return
    if (frame.raw) return link.toClient.bytes(frame.bytes)
    const kind = Array.isArray(frame.value) ? String(frame.value[0]) : ""
    const outOfBand = frame.push || link.subscriber
    if (outOfBand && publications.test(kind)) return onMessage(link, frame)
    const pending =
      outOfBand && subscriptions.test(kind)
        ? confirmed(link)
        : frame.push
          ? undefined
          : answered(link, frame.value)
    if (pending?.trap !== undefined) {
      const trap = pending.trap
      pending.trap = undefined
      if (!(frame.value instanceof Resp.ReplyError) && frame.value !== "QUEUED") {
        cut(link)
        trap.happened(pending.request.args)
        return
      }
      traps.add(trap)
    }
    link.toClient.bytes(frame.bytes)
  }

  const confirmed = (link: Link): Pending | undefined => {
    const pending = link.pending[0]
    if (pending === undefined || !pending.confirms) return undefined
    pending.confirmed++
    pending.request.replied = true
    // Without arguments it is unsubscribed from all, however many: the next reply tells the end.
    if (pending.confirmed === pending.request.args.length - 1) link.pending.shift()
    return pending
  }

  const answered = (link: Link, reply: unknown): Pending | undefined => {
    if (link.pending[0]?.confirms === true && link.pending[0].confirmed > 0) link.pending.shift()
    const pending = link.pending.shift()
    if (pending !== undefined) {
      pending.request.replied = true
      pending.request.reply = reply
    }
    return pending
  }

  const onMessage = (link: Link, frame: Resp.Frame): void => {
    const message = (frame.value as ReadonlyArray<unknown>).map(String)
    const trap = take("message", message)
    if (trap !== undefined) trap.happened(message)
    else if (holdingMessages) link.messages.push(frame.bytes)
    else link.toClient.bytes(frame.bytes)
  }

  // --- traps ---------------------------------------------------------------------

  const take = (kind: Armed["kind"], args: ReadonlyArray<string>): Armed | undefined => {
    for (const trap of traps) {
      if (trap.kind !== kind || !trap.matches(args)) continue
      traps.delete(trap)
      return trap
    }
    return undefined
  }

  const arm = (kind: Armed["kind"], matches: Armed["matches"], times: number): Trap => {
    let count = 0
    let disarmed = false
    let last: ReadonlyArray<string> = []
    const armed: Armed = {
      kind,
      matches: (args) => !disarmed && matches(args),
      happened: (args) => {
        last = args
        if (++count < times) traps.add(armed)
        changes.announce()
      }
    }
    traps.add(armed)
    return {
      get count() {
        return count
      },
      fired: Effect.map(
        changes.until(() => count >= times),
        () => last
      ),
      disarm: () => {
        disarmed = true
        traps.delete(armed)
      }
    }
  }

  const some = (predicate: (link: Link) => boolean): Effect.Effect<void> =>
    changes.until(() => [...links].some(predicate))

  const proxy = (port: number): FaultProxy => ({
    host,
    port,
    url: `redis://${host}:${port}`,

    get connections() {
      return [...links]
    },
    get opened() {
      return lastId
    },
    get requests() {
      return requests
    },
    get commands() {
      return requests.map((request) => request.args)
    },
    get bytesToServer() {
      return bytesToServer
    },
    get bytesToClient() {
      return bytesToClient
    },
    forget: () => {
      requests = []
      bytesToServer = 0
      bytesToClient = 0
    },
    awaitCommand: (matcher) => {
      const matches = matching(matcher)
      const find = () => requests.find((request) => matches(request.args))
      return Effect.map(
        changes.until(() => find() !== undefined),
        () => find()!.args
      )
    },
    awaitReply: (matcher) => {
      const matches = matching(matcher)
      const find = () => requests.find((request) => request.replied && matches(request.args))
      return Effect.map(
        changes.until(() => find() !== undefined),
        () => find()!
      )
    },
    until: changes.until,

    holdRequests: (options) => {
      requestHold = hold(options)
      pump()
    },
    releaseRequests: () => {
      requestHold = undefined
      pump()
    },
    holdReplies: (options) => {
      replyHold = hold(options)
      pump()
    },
    releaseReplies: () => {
      replyHold = undefined
      pump()
    },
    holdMessages: () => {
      holdingMessages = true
    },
    releaseMessages: () => {
      holdingMessages = false
      for (const link of links) link.messages.splice(0).forEach(link.toClient.bytes)
    },
    heldRequests: some((link) => link.toServer.isHeld()),
    heldReplies: some((link) => link.toClient.isHeld()),
    heldMessages: some((link) => link.messages.length > 0),
    blackHole: (options = {}) => {
      hole = { where: options.where ?? everywhere, gate: options.drop === true ? "lose" : "keep" }
      pump()
    },
    heal: () => {
      hole = undefined
      pump()
    },
    abandon: (where = everywhere) => {
      for (const link of links) if (where(link)) link.abandoned = true
    },
    delay: (next) => {
      latency = next
    },
    link: (next) => {
      way = next
    },
    dropNextMessage: (times = 1) => arm("message", () => true, times),

    cutWhere,
    cutAll: () => cutWhere(everywhere),
    cutSubscribers: () => cutWhere((link) => link.subscriber),
    refuse: () => {
      refusing = true
    },
    accept: () => {
      refusing = false
    },
    resetAfterApply: (matcher, times = 1) => arm("after", matching(matcher), times),
    resetBeforeApply: (matcher, times = 1) => arm("before", matching(matcher), times)
  })

  return { accept, proxy }
}

/** The other side's end, once: by FIN, or by RST. */
const onClose = (socket: Net.Socket, closed: (reset: boolean) => void): void => {
  socket.once("end", () => closed(false))
  socket.once("close", (hadError) => {
    if (hadError) closed(true)
  })
}

const deliver = (socket: Net.Socket | undefined, item: Item): void => {
  if (socket === undefined || socket.destroyed) return
  if (item._tag === "Bytes") socket.write(item.bytes)
  else if (item.reset) socket.resetAndDestroy()
  else socket.end()
}
