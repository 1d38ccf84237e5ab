/** (Who interrupts, tests do not ask.) */
export const none = undefined
