import * as Inspectable from "effect/Inspectable"

const shown = (): unknown => ({ _id: "LockStore" })

/**
 * A store, of which nothing is shown where it is printed: tokens, passwords. Nor of a copy with some
 * of its members replaced (`{ ...store, acquire }`): what hides them is copied as well.
 */
export abstract class Opaque {
  readonly toJSON = shown
  readonly [Inspectable.NodeInspectSymbol] = shown
}
