/** Asks before something is done, and stays until that has ended. The focus is kept inside, and given back. */
import type { ComponentChildren } from "preact"
import { useId, useLayoutEffect, useRef, useState } from "preact/hooks"
import * as Client from "./Client.js"
import { useWait } from "./Retry.js"

interface Props {
  readonly title: string
  /** What it means. */
  readonly children: ComponentChildren
  /** What the button says, and what while it runs. */
  readonly action: string
  readonly doing: string
  readonly isDanger?: boolean
  readonly run: () => Promise<unknown>
  /** `done`: it was, or it was called off. */
  readonly close: (done: boolean) => void
}

export const Confirm = ({ action, children, close, doing, isDanger = false, run, title }: Props) => {
  const id = useId()
  const dialog = useRef<HTMLDialogElement>(null)
  const [state, set] = useState<"asking" | "running" | Client.ServiceError>("asking")
  const isRunning = state === "running"
  const error = state instanceof Client.ServiceError ? state : undefined
  const wait = useWait(error)
  useLayoutEffect(() => {
    const found = dialog.current
    found?.showModal()
    return () => found?.close()
  }, [])
  const go = () => {
    if (isRunning) return
    set("running")
    run().then(
      () => close(true),
      (thrown: unknown) => set(Client.toError(thrown))
    )
  }
  return (
    <dialog
      ref={dialog}
      class="confirm"
      aria-labelledby={`${id}title`}
      aria-describedby={`${id}text`}
      onCancel={(event) => {
        event.preventDefault()
        if (!isRunning) close(false)
      }}
    >
      <div class="stack">
        <h2 id={`${id}title`}>{title}</h2>
        <div id={`${id}text`} class="stack">
          {children}
        </div>
        {error !== undefined && (
          <div class="note broken" role="alert">
            {error.message}
          </div>
        )}
        <div class="row confirm-buttons">
          <button
            type="button"
            class="button"
            autofocus
            aria-disabled={isRunning}
            onClick={() => isRunning || close(false)}
          >
            Cancel
          </button>
          <button
            type="button"
            class={`button ${isDanger ? "danger" : "primary"}`}
            aria-disabled={isRunning || wait !== undefined}
            onClick={() => wait === undefined && go()}
          >
            {isRunning ? doing : wait === undefined ? action : `${action} in ${wait}`}
          </button>
        </div>
      </div>
    </dialog>
  )
}
