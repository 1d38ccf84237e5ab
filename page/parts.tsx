/** Small things that are shown in several places. */
import { useEffect, useRef } from "preact/hooks"
import type { Details, Holder, Row, Waiter } from "../src/internal/inspector/wire.js"
import { left, partsOf, visible } from "./format.js"

/** Of a text of somebody else's, so much is put into the page. */
const mostShown = 400

/** A name as text, whatever it contains. */
export const Name = ({ of, none = "no name" }: { of: string | null; none?: string }) => {
  if (of === null || of === "") return <span class="none">({none})</span>
  const text = of.length > mostShown ? `${of.slice(0, mostShown)}…` : of
  return (
    <bdi title={visible(text)}>
      {partsOf(text).map(({ isHidden, text }) => (isHidden ? <i class="escape">{text}</i> : text))}
    </bdi>
  )
}

export const Owner = ({ of }: { of: Pick<Holder, "owner" | "foreign" | "isLeft"> }) =>
  of.foreign ? (
    <span class="none" title="A program that does not use this library">
      another program
    </span>
  ) : (
    <>
      <Name of={of.owner} />
      {of.isLeft && <span class="none"> (has ended)</span>}
    </>
  )

export const kindOf = ({ kind, role }: Pick<Row, "kind" | "role">): string =>
  role ?? (kind === "readWriteLock" ? "read-write" : (kind ?? "free"))

export const shareOf = ({ limit, mode, permits }: Holder | Waiter): string =>
  permits === null
    ? mode === "shared"
      ? "reads"
      : ""
    : `${permits} of ${limit ?? "?"} permit${permits === 1 ? "" : "s"}`

export const useOf = ({ inUse, limit }: Pick<Row | Details, "inUse" | "limit">): string =>
  inUse === null ? "" : `${inUse} of ${limit ?? "?"}`

/** A live process renews at half of its ttl. `seenAt`: of what came later, nobody knows whether it was renewed. */
export const isLate = (holder: Holder, seenAt: number): boolean =>
  holder.endsAt !== null && !holder.isLeft && holder.endsAt - seenAt < 0.3 * holder.ttl

interface TtlProps {
  readonly holder: Holder
  readonly now: number
  /** When it was looked at. */
  readonly seenAt: number
}

/** Runs down with the ttl, and is full again when it is renewed. */
export const Ttl = ({ holder, now, seenAt }: TtlProps) => {
  const bar = useRef<HTMLSpanElement>(null)
  const { endsAt, ttl } = holder
  useEffect(() => {
    if (endsAt === null || bar.current === null) return
    const rest = Math.max(0, endsAt - now)
    const from = ttl > 0 ? Math.min(1, rest / ttl) : 0
    const running = bar.current.animate(
      [{ transform: `scaleX(${from})` }, { transform: "scaleX(0)" }],
      { duration: rest, fill: "forwards" }
    )
    return () => running.cancel()
  }, [endsAt, ttl])
  const state = endsAt === null ? "endless" : isLate(holder, seenAt) ? "late" : ""
  const isUnknown = endsAt !== null && endsAt <= now && state !== "late"
  const text = endsAt === null ? "no ttl" : isUnknown ? "?" : left(endsAt - now)
  return (
    <span
      class={`ttl ${state}`}
      title={isUnknown ? `Over, unless it was renewed since the last look` : undefined}
    >
      <span class="track" aria-hidden="true">
        <span class="fill" ref={bar} />
      </span>
      <span class="number">{text}</span>
    </span>
  )
}
