/** The lines of claims with bounds: of a key one for each bounds. */
import { Dictionary } from "../common/dictionary.js"
import { sameBounds } from "./bounds.js"
import type { LockKeys } from "./layout.js"
import { Line } from "./line.js"
import type { Protocol } from "./protocol.js"
import type { Surroundings } from "./surroundings.js"

const none: ReadonlyArray<Line> = []

export class BoundLines {
  private readonly lines = new Dictionary<Array<Line>>()

  get size(): number {
    return this.lines.size
  }

  get all(): ReadonlyArray<Line> {
    return this.lines.values.flat()
  }

  of(key: string): ReadonlyArray<Line> {
    return this.lines.get(key) ?? none
  }

  /** What a caller of it is granted is passed on to no other one: the server decides of each. */
  line(key: string, protocol: Protocol, keys: LockKeys, around: Surroundings): Line {
    const lines = this.lines.get(key) ?? []
    const present = lines.find((line) => sameBounds(line.protocol, protocol))
    if (present !== undefined) return present
    const made = new Line(key, protocol, keys, { ...around, localHandoffMillis: 0 }, () => {
      if (lines.includes(made)) lines.splice(lines.indexOf(made), 1)
      if (lines.length === 0 && this.lines.get(key) === lines) this.lines.delete(key)
    })
    if (lines.push(made) === 1) this.lines.set(key, lines)
    return made
  }
}
