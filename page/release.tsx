/** Asks before a key is freed by force. */
import { useEffect, useRef, useState } from "preact/hooks"
import type { Details, Holder } from "../src/internal/inspector/wire.js"
import { age, clock, visible } from "./format.js"
import type { Live } from "./live.js"
import { Name, Owner } from "./parts.js"

interface Props {
  readonly keyName: string
  /** As it was seen when somebody asked for it. */
  readonly holder: Holder
  readonly details: Details | undefined
  readonly live: Live
  readonly onClose: () => void
}

type State =
  | { readonly is: "asking" }
  | { readonly is: "sending" }
  | { readonly is: "done"; readonly freed: boolean }
  | { readonly is: "failed"; readonly why: string }

export const ReleaseDialog = ({ details, holder, keyName, live, onClose }: Props) => {
  const dialog = useRef<HTMLDialogElement>(null)
  const [typed, setTyped] = useState("")
  const [state, setState] = useState<State>({ is: "asking" })
  useEffect(() => {
    if (!dialog.current!.open) dialog.current!.showModal()
  }, [])
  const now = live.now()
  const token = holder.fencingToken!
  const expected = visible(keyName)
  const isThere = details?.held.some(({ fencingToken }) => fencingToken === token) ?? false
  const next = details?.pending[0]

  const send = (event: Event) => {
    event.preventDefault()
    if (typed !== expected || state.is === "sending") return
    setState({ is: "sending" })
    live.release(keyName, token).then(
      (freed) => setState({ is: "done", freed }),
      (error: unknown) =>
        setState({ is: "failed", why: error instanceof Error ? error.message : String(error) })
    )
  }

  return (
    <dialog ref={dialog} aria-labelledby="release-title" onClose={onClose}>
      <form onSubmit={send}>
        <h2 id="release-title">Free this key by force?</h2>
        <p class="key">
          <Name of={keyName} />
        </p>
        <dl>
          <div>
            <dt>held by</dt>
            <dd>
              <Owner of={holder} />
            </dd>
          </div>
          {holder.since !== null && (
            <div>
              <dt>for</dt>
              <dd>
                {age(now - holder.since)}, since {clock(holder.since, now)}
              </dd>
            </div>
          )}
          <div>
            <dt>token</dt>
            <dd class="token">{token}</dd>
          </div>
          <div>
            <dt>next</dt>
            <dd>{next === undefined ? "nobody waits" : <Name of={next.owner} />}</dd>
          </div>
        </dl>
        {state.is === "done" ? (
          <>
            <p class={`verdict ${state.freed ? "well" : "look"}`} role="status">
              {state.freed
                ? "It is free, or the next one has it."
                : "That holder does not hold it any more. Nothing was changed."}
            </p>
            <div class="buttons">
              <button type="button" onClick={() => dialog.current!.close()}>
                Close
              </button>
            </div>
          </>
        ) : (
          <>
            <p>
              The work of the holder goes on until it notices, at its next renewal at the latest.
              The next one enters at once: for that time both may run.
            </p>
            {!isThere && (
              <p class="verdict look" role="status">
                That holder does not hold it any more.
              </p>
            )}
            <label>
              Type the key, to say that you mean it
              <input
                type="text"
                value={typed}
                onInput={({ currentTarget }) => setTyped(currentTarget.value)}
                autocomplete="off"
                autocapitalize="off"
                spellcheck={false}
                placeholder={expected.length > 80 ? `${expected.slice(0, 80)}…` : expected}
              />
            </label>
            {state.is === "failed" && (
              <p class="verdict look" role="alert">
                Refused: {state.why}
              </p>
            )}
            <div class="buttons">
              <button type="button" onClick={() => dialog.current!.close()}>
                Keep it
              </button>
              <button
                type="submit"
                class="danger"
                disabled={typed !== expected || state.is === "sending"}
              >
                Free by force
              </button>
            </div>
          </>
        )}
      </form>
    </dialog>
  )
}
