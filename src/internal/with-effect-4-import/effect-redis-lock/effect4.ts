/**
 * The first import of every module for Effect 3. With Effect 4, its own import is not found, and the error
 * names this file: its path is the sentence that helps. (Nothing of ours could run and say it: what is
 * imported is looked for before anything runs.)
 */
export { unsafeMake as effect3 } from "effect/FiberRef"
