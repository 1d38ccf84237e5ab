/**
 * A page preloads what it imports, also what it imports later. It imports this, which is small, and what this imports
 * is loaded only when it is called.
 */
export const load = () => import("./main.js")
