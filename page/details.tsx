/** One key: who has it, who waits in which order, and what happened. */
import { useEffect, useRef } from "preact/hooks"
import type { Details as Of, Holder } from "../src/internal/inspector/wire.js"
import { age, clock, count, fineAge } from "./format.js"
import { flash } from "./list.js"
import { isLate, kindOf, Name, Owner, shareOf, Ttl, useOf } from "./parts.js"
import { Timeline } from "./timeline.js"

interface Verdict {
  readonly level: "well" | "look" | "free"
  readonly text: string
}

/** How many wait, and for how long. */
const waits = ({ pending, pendingCount }: Of, now: number): string => {
  const since = pending[0]?.since ?? null
  const long =
    since === null ? "" : `, ${pendingCount === 1 ? "" : "the first "}for ${age(now - since)}`
  return pendingCount === 0
    ? ""
    : pendingCount === 1
      ? `One waits${long}.`
      : `${count(pendingCount)}\u00A0wait${long}.`
}

/** What somebody on call wants to know first. */
const verdictOf = (details: Of, now: number): Verdict => {
  const { heldCount, pendingCount } = details
  const [first] = details.held
  const waiting = waits(details, now)
  if (first === undefined) {
    return pendingCount === 0
      ? {
          level: "free",
          text:
            details.role === "job"
              ? "The job does not run now."
              : "Free. Nobody holds it, and nobody waits."
        }
      : {
          level: "look",
          text: `Nobody holds it. ${waiting} In the moment of a handoff that is normal. If it lasts, the first in the queue has died: its place is skipped after 3 seconds at most.`
        }
  }
  if (first.foreign) {
    return first.endsAt === null
      ? {
          level: "look",
          text: "A program that does not use this library has set the key without a ttl: it never ends by itself. When nobody needs it any more, delete it in Redis."
        }
      : { level: "look", text: "Held by a program that does not use this library." }
  }
  if (first.isLeft) {
    return {
      level: "well",
      text: "Its holder has given it back. It is kept held until its ttl ends (holdAtLeast)."
    }
  }
  if (heldCount > 1) {
    return {
      level: "well",
      text: `${count(heldCount)} hold it. ${waiting || "Nobody waits."}`
    }
  }
  const { endsAt, renewedAt } = first
  const isOver = endsAt !== null && endsAt <= now
  if (endsAt !== null && isLate(first, details.at)) {
    const free = isOver ? "now, or somebody else's" : `in ${age(endsAt - now + 999)}`
    return {
      level: "look",
      text: `The holder is late to renew. If its process has died, is stopped, or does not reach Redis, the key is free ${free}. ${waiting}`
    }
  }
  if (isOver) {
    return {
      level: "free",
      text: `It was held ${age(now - details.at)} ago. Since then its ttl has ended, unless it was renewed: that is not known before the next look.`
    }
  }
  return {
    level: "well",
    text:
      renewedAt === null
        ? "Not renewed since somebody watches; its ttl is not near its end."
        : `The holder is alive: it renewed ${fineAge(now - renewedAt)} ago. ${waiting || "Nobody waits."}`
  }
}

interface Props {
  readonly keyName: string
  readonly details: Of | undefined
  readonly error: string | undefined
  readonly now: number
  readonly allowRelease: boolean
  readonly onClose: () => void
  readonly onRelease: (holder: Holder) => void
}

export const Details = (props: Props) => {
  const { allowRelease, details, error, keyName, now, onClose, onRelease } = props
  const title = useRef<HTMLHeadingElement>(null)
  useEffect(() => title.current?.focus({ preventScroll: true }), [keyName])
  return (
    <article class="details" aria-labelledby="details-title">
      <header>
        <h2 id="details-title" tabIndex={-1} ref={title}>
          <Name of={keyName} />
        </h2>
        <button type="button" class="close" onClick={onClose} aria-label="Close the details">
          <span aria-hidden="true">×</span>
        </button>
      </header>
      {error !== undefined && (
        <p class="verdict look" role="alert">
          {error}
        </p>
      )}
      {details === undefined ? (
        error === undefined && <p class="note">Looking…</p>
      ) : (
        <>
          <p class="facts">
            {kindOf(details)}
            {details.inUse !== null && `, ${useOf(details)} permits in use`}
            {details.lastTick !== null &&
              `, last due ${clock(details.lastTick, now)} (${age(now - details.lastTick)} ago)`}
          </p>
          <VerdictOf details={details} now={now} />
          {details.heldCount > 0 && (
            <section aria-labelledby="held-title">
              <h3 id="held-title">
                Held by{details.heldCount > 1 && <small> {count(details.heldCount)}</small>}
              </h3>
              <ul class="holders">
                {details.held.map((holder) => (
                  <HolderOf
                    key={`${holder.id} ${holder.fencingToken}`}
                    holder={holder}
                    isLeader={details.role === "leader"}
                    now={now}
                    seenAt={details.at}
                    onRelease={
                      allowRelease && holder.fencingToken !== null
                        ? () => onRelease(holder)
                        : undefined
                    }
                  />
                ))}
              </ul>
              {details.heldCount > details.held.length && (
                <p class="note">and {count(details.heldCount - details.held.length)} more</p>
              )}
            </section>
          )}
          <section aria-labelledby="queue-title">
            <h3 id="queue-title">
              Queue
              {details.pendingCount > 0 && <small> {count(details.pendingCount)}</small>}
            </h3>
            {details.pendingCount === 0 ? (
              <p class="note">Nobody waits.</p>
            ) : (
              <ol class="queue">
                {details.pending.map((waiter, index) => (
                  <li key={waiter.id ?? index}>
                    <span class="place">{index + 1}</span>
                    <span class="who">
                      <Name of={waiter.owner} />
                      <small> {shareOf(waiter)}</small>
                    </span>
                    <span class="number">
                      {waiter.since === null ? "" : age(now - waiter.since)}
                    </span>
                  </li>
                ))}
              </ol>
            )}
            {details.pendingCount > details.pending.length && (
              <p class="note">
                The first {count(details.pending.length)} of {count(details.pendingCount)}.
              </p>
            )}
          </section>
          <Timeline details={details} now={now} />
        </>
      )}
    </article>
  )
}

const VerdictOf = ({ details, now }: { details: Of; now: number }) => {
  const { level, text } = verdictOf(details, now)
  return <p class={`verdict ${level}`}>{text}</p>
}

interface HolderProps {
  readonly holder: Holder
  readonly isLeader: boolean
  readonly now: number
  readonly seenAt: number
  readonly onRelease: (() => void) | undefined
}

const HolderOf = ({ holder, isLeader, now, onRelease, seenAt }: HolderProps) => {
  const item = useRef<HTMLLIElement>(null)
  useEffect(() => {
    if (holder.since !== null && now - holder.since < 2_000) flash(item.current)
  }, [])
  return (
    <li ref={item}>
      <div class="who">
        {onRelease && (
          <button type="button" class="danger quiet" onClick={onRelease}>
            Free by force…
          </button>
        )}
        <Owner of={holder} />
        <small> {shareOf(holder)}</small>
      </div>
      <Ttl holder={holder} now={now} seenAt={seenAt} />
      <dl>
        {holder.since !== null && (
          <div>
            <dt>for</dt>
            <dd>
              {age(now - holder.since)} <small>since {clock(holder.since, now)}</small>
            </dd>
          </div>
        )}
        {holder.renewedAt !== null && (
          <div>
            <dt>renewed</dt>
            <dd>{age(now - holder.renewedAt)} ago</dd>
          </div>
        )}
        {holder.fencingToken !== null && (
          <div>
            <dt>
              <abbr title="The fencing token">{isLeader ? "term" : "token"}</abbr>
            </dt>
            <dd class="token">{holder.fencingToken}</dd>
          </div>
        )}
      </dl>
    </li>
  )
}
