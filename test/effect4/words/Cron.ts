import * as Cron from "effect4/Cron"

export * from "effect4/Cron"

export const unsafeParse = Cron.parseUnsafe
