import * as Inspectable from "effect/Inspectable"

/** A store, of which nothing is shown where it is printed: tokens, passwords. */
export abstract class Opaque {
  toJSON(): unknown {
    return { _id: "LockStore" }
  }

  [Inspectable.NodeInspectSymbol](): unknown {
    return this.toJSON()
  }
}
