import * as Deferred from "effect4/Deferred"

export * from "effect4/Deferred"

export const unsafeDone = Deferred.doneUnsafe
