export * from "effect4/Clock"

/** (A clock needs none here.) */
export const ClockTypeId = "no type id"
