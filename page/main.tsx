/** The page. */
import { render } from "preact"
import { useEffect, useMemo, useRef, useState } from "preact/hooks"
import type { Holder } from "../src/internal/inspector/wire.js"
import { Details } from "./details.js"
import { age, clock, count, visible } from "./format.js"
import { List, type Order, ordered } from "./list.js"
import { Live, type Seen } from "./live.js"
import { kindOf, Name } from "./parts.js"
import { ReleaseDialog } from "./release.js"

const live = new Live()

type Filter = "all" | "waiting" | "lock" | "semaphore" | "read-write" | "leader" | "job"

const filters: ReadonlyArray<readonly [Filter, string]> = [
  ["all", "All"],
  ["waiting", "Waited for"],
  ["lock", "Locks"],
  ["semaphore", "Semaphores"],
  ["read-write", "Read-write"],
  ["leader", "Leaders"],
  ["job", "Jobs"]
]

const passes = ({ row }: Seen, filter: Filter): boolean =>
  filter === "all" || (filter === "waiting" ? row.pendingCount > 0 : kindOf(row) === filter)

const matches = ({ row }: Seen, words: string): boolean =>
  words === "" ||
  visible(row.key).toLowerCase().includes(words) ||
  visible(row.first?.owner ?? "")
    .toLowerCase()
    .includes(words)

/** What is looked at is in the address, so that it can be passed on. */
const fromAddress = (): { key: string | undefined; words: string } => {
  const params = new URLSearchParams(location.hash.slice(1))
  return { key: params.get("key") ?? undefined, words: params.get("search") ?? "" }
}

const App = () => {
  const [, setVersion] = useState(0)
  const [words, setWords] = useState(() => fromAddress().words)
  const [filter, setFilter] = useState<Filter>("all")
  const [order, setOrder] = useState<Order>({ by: "key", down: false })
  const [selected, setSelected] = useState(() => fromAddress().key)
  const [freeing, setFreeing] = useState<{ readonly key: string; readonly holder: Holder }>()
  const search = useRef<HTMLInputElement>(null)

  useEffect(() => live.onChange(() => setVersion(live.version)), [])
  useEffect(() => {
    live.select(selected)
    const params = new URLSearchParams()
    if (selected !== undefined) params.set("key", selected)
    if (words !== "") params.set("search", words)
    history.replaceState(null, "", `#${params}`)
  }, [selected, words])
  useEffect(() => {
    const onHash = () => setSelected(fromAddress().key)
    addEventListener("hashchange", onHash)
    return () => removeEventListener("hashchange", onHash)
  }, [])

  const close = () => {
    setSelected(undefined)
    document.querySelector<HTMLElement>(".list")?.focus()
  }
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const isTyping = event.target instanceof HTMLInputElement
      if (document.querySelector("dialog[open]") !== null) return
      if (event.key === "/" && !isTyping) {
        event.preventDefault()
        search.current?.focus()
      } else if (event.key === "Escape") {
        if (isTyping && words !== "") setWords("")
        else close()
      }
    }
    addEventListener("keydown", onKey)
    return () => removeEventListener("keydown", onKey)
  }, [words])

  const now = live.now()
  const all = [...live.seen.values()]
  const there = all.filter(({ goneAt }) => goneAt === undefined)
  const waitedFor = there.filter(({ row }) => row.pendingCount > 0).length
  const wanted = words.trim().toLowerCase()
  const rows = useMemo(
    () =>
      ordered(
        all.filter((one) => passes(one, filter) && matches(one, wanted)),
        order
      ),
    [live.version, filter, wanted, order]
  )
  const kinds = new Set(there.map(({ row }) => kindOf(row)))
  const { details, detailsError, last } = live
  const prefix = last?.prefix ?? ""

  return (
    <div class={`page ${selected === undefined ? "" : "with-details"} ${live.status}`}>
      <header class="top">
        <h1>
          Locks
          {prefix !== "" && (
            <span class="prefix">
              <Name of={prefix} />
            </span>
          )}
        </h1>
        <Status now={now} />
        <label class="search">
          <span class="hidden">Search by key or holder</span>
          <input
            ref={search}
            type="search"
            value={words}
            placeholder="Search by key or holder"
            onInput={({ currentTarget }) => setWords(currentTarget.value)}
          />
          <kbd aria-hidden="true">/</kbd>
        </label>
        <div class="choice filters" role="group" aria-label="Which">
          {filters
            .filter(
              ([one]) => one === "all" || one === "waiting" || one === filter || kinds.has(one)
            )
            .map(([one, name]) => (
              <button type="button" aria-pressed={one === filter} onClick={() => setFilter(one)}>
                {name}
                {one === "all" && <small> {count(there.length)}</small>}
                {one === "waiting" && <small> {count(waitedFor)}</small>}
              </button>
            ))}
        </div>
      </header>
      <Trouble now={now} />
      <main>
        {all.length === 0 ? (
          <Empty prefix={prefix} />
        ) : rows.length === 0 ? (
          <div class="empty">
            <h2>Nothing matches</h2>
            <p>
              {count(there.length)} {there.length === 1 ? "key is" : "keys are"} held or waited for,
              but none of them is what you look for.
            </p>
            <button
              type="button"
              onClick={() => {
                setWords("")
                setFilter("all")
              }}
            >
              Show all
            </button>
          </div>
        ) : (
          <List
            rows={rows}
            order={order}
            onOrder={setOrder}
            selected={selected}
            onSelect={setSelected}
            now={now}
            seenAt={last?.lookedAt ?? now}
          />
        )}
      </main>
      <aside aria-label={selected === undefined ? "Recent changes" : "Details"}>
        {selected === undefined ? (
          <Events now={now} onSelect={setSelected} />
        ) : (
          <Details
            keyName={selected}
            details={details}
            error={detailsError}
            now={now}
            allowRelease={last?.allowRelease === true}
            onClose={close}
            onRelease={(holder) => setFreeing({ key: selected, holder })}
          />
        )}
      </aside>
      {freeing !== undefined && (
        <ReleaseDialog
          keyName={freeing.key}
          holder={freeing.holder}
          details={freeing.key === selected ? details : undefined}
          live={live}
          onClose={() => setFreeing(undefined)}
        />
      )}
    </div>
  )
}

const Status = ({ now }: { now: number }) => {
  const { last, status } = live
  const text = {
    starting: "looking…",
    live: last === undefined ? "" : `live, every ${last.everyMillis / 1_000} s`,
    trouble: last?.trouble?.isRefusal === true ? "the store refuses" : "the store is away",
    offline: "no connection"
  }[status]
  const looked = last?.lookedAt ?? undefined
  return (
    <p
      class={`status ${status}`}
      role="status"
      title={looked ? `Last look ${clock(looked, now)}` : ""}
    >
      <span class="dot" aria-hidden="true" />
      {text}
    </p>
  )
}

const Trouble = ({ now }: { now: number }) => {
  const { last, status } = live
  if (status !== "trouble" && status !== "offline") return null
  const looked = last?.lookedAt ?? null
  const asOf = looked === null ? "" : ` What is shown is as it was ${age(now - looked)} ago.`
  return (
    <div class="trouble" role="alert">
      {status === "offline" ? (
        <>
          {live.isTurnedAway ? (
            <>
              <strong>The server of this page refuses to be asked.</strong> If you have to log in
              again, reload the page.
            </>
          ) : (
            <>
              <strong>The server of this page does not answer.</strong> It is tried again.
            </>
          )}
          {asOf}
        </>
      ) : (
        <>
          {last!.trouble!.isRefusal ? (
            <strong>The store refuses to be asked</strong>
          ) : (
            <strong>Redis is away</strong>
          )}{" "}
          for {age(now - last!.trouble!.since)}: it is tried again.
          {asOf}
          <code>{visible(last!.trouble!.detail)}</code>
        </>
      )}
    </div>
  )
}

const Empty = ({ prefix }: { prefix: string }) => {
  if (live.status === "starting") return <div class="empty" aria-busy="true" />
  if (live.status !== "live") {
    return (
      <div class="empty">
        <h2>Nothing is known yet</h2>
        <p>What is held is shown as soon as there is an answer.</p>
      </div>
    )
  }
  return (
    <div class="empty">
      <h2>No locks</h2>
      <p>
        Nobody holds a key
        {prefix !== "" && (
          <>
            {" "}
            that begins with <Name of={prefix} />
          </>
        )}
        , and nobody waits for one. To see one here:
      </p>
      <pre>npx effect-redis-lock run {/^[\w:.-]*$/.test(prefix) ? prefix : ""}demo -- sleep 60</pre>
      <p>
        Your programs hold locks all the same? Then this page looks at another place: compare the
        URL, the database, and the prefix of the store (<code>--prefix</code>).
      </p>
    </div>
  )
}

const verbs = {
  granted: "got",
  released: "gave back",
  expired: "lost, its ttl ended:",
  lost: "lost, by force:",
  queued: "waits for",
  left: "left the queue of"
} as const

const Events = ({ now, onSelect }: { now: number; onSelect: (key: string) => void }) => (
  <section class="events" aria-labelledby="events-title">
    <h2 id="events-title">Recent changes</h2>
    {live.events.length === 0 ? (
      <p class="note">
        What changes from now on is shown here. Choose a key to see who waits for it.
      </p>
    ) : (
      <ol>
        {live.events.slice(0, 60).map((event) => (
          <li class={event.what}>
            <time>{clock(event.at, now)}</time>
            <span>
              {event.foreign ? "another program" : <Name of={event.owner} />}{" "}
              <span class="verb">{verbs[event.what]}</span>{" "}
              <button type="button" class="link" onClick={() => onSelect(event.key)}>
                <Name of={event.key} />
              </button>
            </span>
          </li>
        ))}
      </ol>
    )}
  </section>
)

live.start()
render(<App />, document.getElementById("app")!)
