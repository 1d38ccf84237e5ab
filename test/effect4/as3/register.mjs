/** For a process whose program is written for Effect 3, to run on Effect 4: `node --import tsx --import` this. */
import { register } from "node:module"

register("./hooks.mjs", import.meta.url)
