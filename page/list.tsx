/** The list of keys: of any number of them, only what is seen is in the document. */
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks"
import type { Row } from "../src/internal/inspector/wire.js"
import { age, clock, count } from "./format.js"
import type { Seen } from "./live.js"
import { kindOf, Name, Owner, Ttl, useOf } from "./parts.js"

export type Column = "key" | "kind" | "holder" | "since" | "ttl" | "waiting"

export interface Order {
  readonly by: Column
  readonly down: boolean
}

const columns: ReadonlyArray<readonly [Column, string]> = [
  ["key", "Key"],
  ["kind", "Kind"],
  ["holder", "Held by"],
  ["since", "For"],
  ["ttl", "TTL"],
  ["waiting", "Waiting"]
]

/** What a column is ordered by. */
const valueOf: Record<Column, (row: Row) => string | number> = {
  key: (row) => row.key,
  kind: (row) => kindOf(row),
  holder: (row) => row.first?.owner ?? "",
  since: (row) => -(row.first?.since ?? Infinity),
  ttl: (row) => row.first?.endsAt ?? Infinity,
  waiting: (row) => row.pendingCount
}

export const ordered = (all: Array<Seen>, { by, down }: Order): Array<Seen> => {
  const of = valueOf[by]
  const sign = down ? -1 : 1
  return all.sort((a, b) => {
    const [x, y] = [of(a.row), of(b.row)]
    if (x !== y) return x < y ? -sign : sign
    return a.row.key < b.row.key ? -1 : 1
  })
}

/** (Numbers are wanted with the greatest first.) */
const downFirst = (column: Column): boolean => column === "since" || column === "waiting"

/** Above and below what is seen. */
const beyond = 6

interface Props {
  readonly rows: ReadonlyArray<Seen>
  readonly order: Order
  readonly onOrder: (order: Order) => void
  readonly selected: string | undefined
  readonly onSelect: (key: string) => void
  readonly now: number
  /** When all of them were looked at. */
  readonly seenAt: number
}

export const List = ({ now, onOrder, onSelect, order, rows, seenAt, selected }: Props) => {
  const list = useRef<HTMLDivElement>(null)
  const [top, setTop] = useState(0)
  const [height, setHeight] = useState(600)
  const [rowHeight, setRowHeight] = useState(40)
  const [active, setActive] = useState<string>()

  useLayoutEffect(() => {
    const element = list.current!
    const measure = () => {
      setHeight(element.clientHeight)
      setRowHeight(Number.parseFloat(getComputedStyle(element).getPropertyValue("--row")) || 40)
    }
    measure()
    const observer = new ResizeObserver(measure)
    observer.observe(element)
    return () => observer.disconnect()
  }, [])

  const at = rows.findIndex(({ row }) => row.key === (active ?? selected))
  const reveal = (index: number) => {
    const element = list.current!
    const y = index * rowHeight
    // (its head stays where it is)
    const seen = element.clientHeight - (element.querySelector(".head")?.clientHeight ?? 0)
    if (y < element.scrollTop) element.scrollTop = y
    else if (y + rowHeight > element.scrollTop + seen) element.scrollTop = y + rowHeight - seen
  }
  useEffect(() => {
    setActive(selected)
    const index = rows.findIndex(({ row }) => row.key === selected)
    if (index >= 0) reveal(index)
  }, [selected])

  const move = (index: number) => {
    const to = Math.max(0, Math.min(rows.length - 1, index))
    const next = rows[to]
    if (next === undefined) return
    setActive(next.row.key)
    reveal(to)
  }
  const page = Math.max(1, Math.floor(height / rowHeight) - 1)
  const keys: Record<string, () => void> = {
    ArrowDown: () => move(at + 1),
    ArrowUp: () => move(at < 0 ? 0 : at - 1),
    j: () => move(at + 1),
    k: () => move(at < 0 ? 0 : at - 1),
    PageDown: () => move(at + page),
    PageUp: () => move(at - page),
    Home: () => move(0),
    End: () => move(rows.length - 1),
    Enter: () => rows[at] && onSelect(rows[at].row.key),
    " ": () => rows[at] && onSelect(rows[at].row.key)
  }

  const first = Math.max(0, Math.floor(top / rowHeight) - beyond)
  const last = Math.min(rows.length, Math.ceil((top + height) / rowHeight) + beyond)
  const shown = rows.slice(first, last)
  const isShown = at >= first && at < last

  return (
    <div
      class="list"
      role="grid"
      aria-label="Locks"
      aria-rowcount={rows.length + 1}
      aria-colcount={6}
      aria-activedescendant={isShown ? `row-${at}` : undefined}
      tabIndex={0}
      ref={list}
      onScroll={({ currentTarget }) => setTop(currentTarget.scrollTop)}
      onKeyDown={(event) => {
        const isOwn = event.target === event.currentTarget
        const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey
        const act = isOwn && isPlain ? keys[event.key] : undefined
        if (act === undefined) return
        event.preventDefault()
        act()
      }}
    >
      <div class="head" role="rowgroup">
        <div class="row" role="row" aria-rowindex={1}>
          {columns.map(([column, name]) => (
            <div
              role="columnheader"
              class={column}
              aria-sort={order.by !== column ? undefined : order.down ? "descending" : "ascending"}
            >
              <button
                type="button"
                onClick={() =>
                  onOrder({
                    by: column,
                    down: order.by === column ? !order.down : downFirst(column)
                  })
                }
              >
                {name}
              </button>
            </div>
          ))}
        </div>
      </div>
      <div class="body" role="rowgroup" style={{ height: `${rows.length * rowHeight}px` }}>
        {shown.map((seen, index) => (
          <Line
            key={seen.row.key}
            seen={seen}
            index={first + index}
            top={(first + index) * rowHeight}
            isSelected={seen.row.key === selected}
            isActive={first + index === at}
            onSelect={onSelect}
            now={now}
            seenAt={seenAt}
          />
        ))}
      </div>
    </div>
  )
}

interface LineProps {
  readonly seen: Seen
  readonly index: number
  readonly top: number
  readonly isSelected: boolean
  readonly isActive: boolean
  readonly onSelect: (key: string) => void
  readonly now: number
  readonly seenAt: number
}

const Line = ({ index, isActive, isSelected, now, onSelect, seen, seenAt, top }: LineProps) => {
  const { goneAt, row } = seen
  const line = useRef<HTMLDivElement>(null)
  useEffect(() => {
    // (a row that comes into view by scrolling has not changed now)
    if (performance.now() - seen.changedAt < 700) flash(line.current)
  }, [seen.changedAt])
  const { first } = row
  const names = [
    "row",
    isSelected && "selected",
    isActive && "active",
    goneAt !== undefined && "gone"
  ]
  return (
    <div
      ref={line}
      id={`row-${index}`}
      class={names.filter(Boolean).join(" ")}
      role="row"
      aria-rowindex={index + 2}
      aria-selected={isSelected}
      style={{ transform: `translateY(${top}px)` }}
      onClick={() => onSelect(row.key)}
    >
      <div role="gridcell" class="key">
        <Name of={row.key} />
      </div>
      <div role="gridcell" class="kind">
        {kindOf(row)}
        {row.kind === "semaphore" && <span class="use"> {useOf(row)}</span>}
      </div>
      <div role="gridcell" class="holder">
        {goneAt !== undefined ? (
          <span class="none">free</span>
        ) : first === null ? (
          <span class="none">
            {row.lastTick === null ? "nobody" : `due ${clock(row.lastTick, now)}`}
          </span>
        ) : (
          <Owner of={first} />
        )}
        {goneAt === undefined && row.heldCount > 1 && (
          <span class="more"> +{count(row.heldCount - 1)}</span>
        )}
      </div>
      <div role="gridcell" class="since">
        {goneAt === undefined && first !== null && first.since !== null
          ? age(now - first.since)
          : ""}
      </div>
      <div role="gridcell" class="ttl">
        {goneAt === undefined && first !== null && <Ttl holder={first} now={now} seenAt={seenAt} />}
      </div>
      <div role="gridcell" class="waiting">
        {row.pendingCount > 0 && goneAt === undefined ? (
          <span class="badge">
            {count(row.pendingCount)}
            <span class="unit"> waiting</span>
          </span>
        ) : (
          <span class="zero">0</span>
        )}
      </div>
    </div>
  )
}

/** Shows that something has changed there. */
export const flash = (element: HTMLElement | null): void => {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return
  const colour = getComputedStyle(document.documentElement).getPropertyValue("--flash")
  element?.animate([{ backgroundColor: colour }, { backgroundColor: "transparent" }], {
    duration: 1_600,
    easing: "ease-out"
  })
}
