/**
 * Just enough RESP2 and RESP3 to cut a stream into whole frames and to read them.
 */

/** An error reply, such as `-NOSCRIPT …`, as a value. */
export class ReplyError extends Error {
  override readonly name = "ReplyError"
}

export interface Frame {
  /** The frame exactly as it came. */
  readonly bytes: Buffer
  /** Strings, numbers, null, booleans, `ReplyError`s and arrays of them (a map is a flat array). */
  readonly value: unknown
  /** A RESP3 push (`>`). */
  readonly push: boolean
  /** Not RESP: the bytes are passed on as they come, without a value. */
  readonly raw: boolean
}

interface Parsed {
  readonly value: unknown
  readonly end: number
}

class NotResp extends Error {}

const parse = (buffer: Buffer, start: number): Parsed | undefined => {
  if (start >= buffer.length) return undefined
  const type = String.fromCharCode(buffer[start]!)
  if (!"+-:$*_,#!=(%~>|".includes(type)) throw new NotResp()
  const lineEnd = buffer.indexOf("\r\n", start + 1, "latin1")
  if (lineEnd === -1) return undefined
  const line = buffer.toString("utf8", start + 1, lineEnd)
  const next = lineEnd + 2
  switch (type) {
    case "+":
    case "(":
      return { value: line, end: next }
    case "-":
      return { value: new ReplyError(line), end: next }
    case ":":
    case ",":
      return { value: Number(line), end: next }
    case "#":
      return { value: line === "t", end: next }
    case "_":
      return { value: null, end: next }
    case "$":
    case "!":
    case "=": {
      const length = Number(line)
      if (Number.isNaN(length)) throw new NotResp()
      if (length < 0) return { value: null, end: next }
      if (buffer.length < next + length + 2) return undefined
      const text = buffer.toString("utf8", next, next + length)
      return { value: type === "!" ? new ReplyError(text) : text, end: next + length + 2 }
    }
    default: {
      const count = Number(line) * (type === "%" || type === "|" ? 2 : 1)
      if (Number.isNaN(count)) throw new NotResp()
      if (count < 0) return { value: null, end: next }
      const values: Array<unknown> = []
      let end = next
      for (let i = 0; i < count; i++) {
        const item = parse(buffer, end)
        if (item === undefined) return undefined
        values.push(item.value)
        end = item.end
      }
      // An attribute belongs to the reply that follows it.
      return type === "|" ? parse(buffer, end) : { value: values, end }
    }
  }
}

const parseInline = (buffer: Buffer): Parsed | undefined => {
  const first = buffer[0]!
  const letter = (first >= 0x41 && first <= 0x5a) || (first >= 0x61 && first <= 0x7a)
  if (!letter && first !== 0x0d && first !== 0x0a) throw new NotResp()
  const lineEnd = buffer.indexOf(0x0a)
  if (lineEnd === -1) return undefined
  const words = buffer.toString("utf8", 0, lineEnd).split(/\s+/)
  return { value: words.filter((word) => word !== ""), end: lineEnd + 1 }
}

/**
 * A function that takes the chunks of one stream and gives back the frames each of them completes.
 * A stream that turns out not to be RESP (TLS, say) comes back raw, chunk by chunk.
 */
export const splitter = (side: "requests" | "replies"): ((chunk: Buffer) => Array<Frame>) => {
  let rest: Buffer = Buffer.alloc(0)
  let raw = false
  return (chunk) => {
    if (raw) return [{ bytes: chunk, value: undefined, push: false, raw }]
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    const frames: Array<Frame> = []
    try {
      while (rest.length > 0) {
        const inline = side === "requests" && rest[0] !== 0x2a
        const parsed = inline ? parseInline(rest) : parse(rest, 0)
        if (parsed === undefined) break
        frames.push({
          bytes: rest.subarray(0, parsed.end),
          value: parsed.value,
          push: rest[0] === 0x3e,
          raw
        })
        rest = rest.subarray(parsed.end)
      }
    } catch (error) {
      if (!(error instanceof NotResp)) throw error
      raw = true
      frames.push({ bytes: rest, value: undefined, push: false, raw })
    }
    return frames
  }
}

/** A command as the array of bulk strings that a server reads. */
export const encode = (args: ReadonlyArray<string | number>): string =>
  `*${args.length}\r\n` +
  args.map((arg) => `$${Buffer.byteLength(String(arg))}\r\n${arg}\r\n`).join("")
