/** Takes a thing out of a list; answers whether it was there. */
export const remove = <A>(list: Array<A>, thing: A): boolean => {
  const index = list.indexOf(thing)
  if (index < 0) return false
  list.splice(index, 1)
  return true
}
