import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as References from "effect/References"

export * from "effect/Logger"

export const jsonLogger = Logger.formatJson
export const logfmtLogger = Logger.formatLogFmt
export const stringLogger = Logger.formatSimple

export const make = (
  log: (entry: {
    readonly message: unknown
    readonly annotations: HashMap.HashMap<string, unknown>
    readonly logLevel: {
      readonly label: string
      readonly _tag: string
      readonly ordinal: number
    }
  }) => void
) =>
  Logger.make<unknown, void>((entry) =>
    log({
      ...entry,
      annotations: HashMap.fromIterable(
        Object.entries(entry.fiber.getRef(References.CurrentLogAnnotations))
      ),
      logLevel: {
        label: entry.logLevel.toUpperCase(),
        _tag: entry.logLevel,
        ordinal: LogLevel.getOrdinal(entry.logLevel)
      }
    })
  )
export const replace = (_: unknown, logger: Logger.Logger<unknown, unknown>) =>
  Logger.layer([logger])
export const remove = () => Logger.layer([])
export const minimumLogLevel = (level: LogLevel.LogLevel) =>
  Layer.succeed(References.MinimumLogLevel, level)
export const withMinimumLogLevel = (level: LogLevel.LogLevel) =>
  Effect.provideService(References.MinimumLogLevel, level)
