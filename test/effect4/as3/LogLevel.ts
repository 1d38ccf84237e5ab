export * from "effect/LogLevel"

export const All = "All"
export const Debug = "Debug"
export const None = "None"
