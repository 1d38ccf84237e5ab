/** What a picture says is so, or it is not drawn. */

export const holds = (holds: boolean, otherwise: string): void => {
  if (!holds) throw new Error(otherwise)
}

/** Each before the next. */
export const inOrder = (
  of: string,
  steps: ReadonlyArray<readonly [what: string, at: number]>
): void => {
  for (const [index, [what, at]] of steps.entries()) {
    const [next, then] = steps[index + 1] ?? ["", Infinity]
    holds(at < then, `${of}: "${what}" (${at}) is not before "${next}" (${then})`)
  }
}
