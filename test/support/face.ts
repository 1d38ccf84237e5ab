/**
 * Whether tests that are written for Effect 3 run on Effect 4 (test/effect4/as3). They leave out what
 * differs: nothing flows back from a child's references, to the caller or out of a `provide`.
 */
export const isEffect4 = process.env.EFFECT_MAJOR === "4"
