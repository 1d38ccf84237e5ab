/**
 * The least of many, where each can leave, or change its rank, at a cost that grows with the logarithm
 * of their number.
 */

export interface Ranked {
  rank: number
  /** Its place in the heap; the heap's own. */
  slot: number
}

export class Heap<A extends Ranked> {
  private readonly items: Array<A> = []

  get first(): A | undefined {
    return this.items[0]
  }

  add(item: A): void {
    this.items.push(item)
    this.settle(item, this.items.length - 1)
  }

  /** Only what is in it. */
  delete({ slot }: A): void {
    const last = this.items.pop()!
    if (slot < this.items.length) this.settle(last, slot)
  }

  /** What is in it has another rank now. */
  update(item: A, rank: number): void {
    item.rank = rank
    this.settle(item, item.slot)
  }

  /** Puts it where it belongs, from this slot on up or down. */
  private settle(item: A, slot: number): void {
    const { items } = this
    while (slot > 0) {
      const above = (slot - 1) >> 1
      if (items[above]!.rank <= item.rank) break
      this.put(items[above]!, slot)
      slot = above
    }
    for (;;) {
      let below = 2 * slot + 1
      if (below >= items.length) break
      if (below + 1 < items.length && items[below + 1]!.rank < items[below]!.rank) below++
      if (items[below]!.rank >= item.rank) break
      this.put(items[below]!, slot)
      slot = below
    }
    this.put(item, slot)
  }

  private put(item: A, slot: number): void {
    this.items[slot] = item
    item.slot = slot
  }
}
