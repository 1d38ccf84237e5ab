import * as Inspectable from "effect/Inspectable"

const shown = (): unknown => ({ _id: "LockStore" })

/** What Effect 4 asks of what it prints (`Redactable.symbolRedactable`). */
const redactable: unique symbol = Symbol.for("~effect/Redactable")

/**
 * A store, of which nothing is shown where it is printed: tokens, passwords. Nor of a copy with some
 * of its members replaced (`{ ...store, acquire }`): what hides them is copied as well.
 */
export abstract class Opaque {
  readonly toJSON = shown
  readonly [Inspectable.NodeInspectSymbol] = shown
  readonly [redactable] = shown
}
