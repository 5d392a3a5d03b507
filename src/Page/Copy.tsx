/** Copies a text. Where a page may not reach the clipboard, the text is shown, selected, to be copied by hand. */
import { useEffect, useId, useRef, useState } from "preact/hooks"
import * as Clock from "./Clock.js"

interface Props {
  readonly label: string
  readonly text: () => string
}

const told = 4_000

export const Copy = ({ label, text }: Props) => {
  const id = useId()
  const [state, set] = useState<"ready" | "copied" | { readonly byHand: string }>("ready")
  const area = useRef<HTMLTextAreaElement>(null)
  const byHand = typeof state === "object" ? state.byHand : undefined
  useEffect(() => {
    if (byHand !== undefined) {
      area.current?.focus()
      area.current?.select()
    }
    return state === "copied" ? Clock.after(told, () => set("ready")) : undefined
  }, [state])
  const copy = async () => {
    const lines = text()
    // There in secure contexts alone.
    const clipboard = (navigator as { readonly clipboard?: Clipboard }).clipboard
    try {
      if (clipboard === undefined) throw new Error("no clipboard")
      await clipboard.writeText(lines)
      set("copied")
    } catch {
      set({ byHand: lines })
    }
  }
  return (
    <div class="stack copy">
      <div class="row">
        <button type="button" class="button" onClick={() => void copy()}>
          {label}
        </button>
        <span role="status" class="quiet">
          {state === "copied" ? "Copied." : ""}
        </span>
      </div>
      {byHand !== undefined && (
        <div class="field">
          <label for={id}>
            This page may not use the clipboard here. The text is selected: copy it with Ctrl or ⌘ and C.
          </label>
          <textarea
            id={id}
            ref={area}
            class="mono"
            readonly
            rows={Math.min(14, byHand.split("\n").length + 1)}
            value={byHand}
          />
        </div>
      )}
    </div>
  )
}
