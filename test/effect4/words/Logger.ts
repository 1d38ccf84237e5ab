import type * as Cause from "effect4/Cause"
import * as HashMap from "effect4/HashMap"
import type * as Layer from "effect4/Layer"
import * as Logger from "effect4/Logger"
import * as References from "effect4/References"

export * from "effect4/Logger"

interface Options {
  readonly message: unknown
  readonly cause: Cause.Cause<unknown>
  readonly logLevel: { readonly label: string }
  readonly annotations: HashMap.HashMap<string, unknown>
}

export const make = (log: (options: Options) => void): Logger.Logger<unknown, void> =>
  Logger.make(({ cause, fiber, logLevel, message }) =>
    log({
      cause,
      message,
      logLevel: { label: logLevel.toUpperCase() },
      annotations: HashMap.fromIterable(
        Object.entries(fiber.getRef(References.CurrentLogAnnotations))
      )
    })
  )

type AnyLogger = Logger.Logger<unknown, unknown>

const without = (gone: AnyLogger): ReadonlyArray<AnyLogger> =>
  [Logger.defaultLogger, Logger.tracerLogger].filter((logger) => logger !== gone)

export const remove = (logger: AnyLogger): Layer.Layer<never> => Logger.layer(without(logger))

export const replace = (logger: AnyLogger, that: AnyLogger): Layer.Layer<never> =>
  Logger.layer([...without(logger), that])
