/**
 * What is looked up by name, and comes and goes all the time. V8's `Map` makes a new table for itself
 * when many entries have come and gone, and the old table refers to the new one: once one of them has
 * got to the old generation, it keeps all later ones there, with everything that was ever in them.
 */
export class Dictionary<A extends object> {
  size = 0
  private readonly entries = Object.create(null) as Record<string, A>

  get(name: string): A | undefined {
    return this.entries[name]
  }

  set(name: string, value: A): void {
    if (this.entries[name] === undefined) this.size++
    this.entries[name] = value
  }

  delete(name: string): void {
    if (this.entries[name] === undefined) return
    this.size--
    delete this.entries[name]
  }

  get values(): ReadonlyArray<A> {
    return Object.values(this.entries)
  }
}
