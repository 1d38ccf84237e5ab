/** Where it is printed, only what its `toJSON` says is shown: not the token, nor the store behind it. */
import * as Inspectable from "effect/Inspectable"
import * as Redactable from "effect/Redactable"

export abstract class Shown extends Inspectable.Class {
  /** Asked by what prints without regard to `toString`, as a context is printed that has it. */
  [Redactable.symbolRedactable](): unknown {
    return this.toJSON()
  }
}
