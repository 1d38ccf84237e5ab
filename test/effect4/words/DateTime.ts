import * as DateTime from "effect4/DateTime"
import * as Duration from "effect4/Duration"

export * from "effect4/DateTime"

export const distance = (from: DateTime.DateTime, to: DateTime.DateTime): number =>
  Duration.toMillis(DateTime.distance(from, to))
