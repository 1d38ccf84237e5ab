/**
 * The first import of every module for Effect 4. With Effect 3, its own import is not found, and the error
 * names this file: its path is the sentence that helps.
 */
export { TracerEnabled as effect4 } from "effect/References"
