/** An instant in people's words. The exact one shows by hover, focus and touch, and is read out. */
import { useId, useLayoutEffect, useRef, useState } from "preact/hooks"
import { useNow } from "./Clock.js"
import * as Format from "./Format.js"

const gap = 6

/** Puts the tip above what it explains, or below it, and never outside the window. */
const place = (tip: HTMLElement, { bottom, left, top, width }: DOMRect) => {
  const free = document.documentElement.clientWidth - tip.offsetWidth - gap
  const above = top - tip.offsetHeight - gap
  tip.style.left = `${Math.max(gap, Math.min(free, left + width / 2 - tip.offsetWidth / 2))}px`
  tip.style.top = `${above < gap ? bottom + gap : above}px`
}

interface Props {
  readonly at: Format.At
  /** How it is told; how far off it is by default. */
  readonly as?: (at: Format.At, now: number) => string
  /** Of many in a table, those of one row may be left out of the order of tabs. They still show by hover and touch. */
  readonly isStop?: boolean
}

export const Instant = ({ as = Format.relative, at, isStop = true }: Props) => {
  const id = useId()
  const text = useNow((now) => as(at, now))
  const [isOpen, show] = useState(false)
  const tip = useRef<HTMLSpanElement>(null)
  const owner = useRef<HTMLTimeElement>(null)
  useLayoutEffect(() => {
    if (!isOpen || tip.current === null || owner.current === null) return
    const found = tip.current
    found.showPopover()
    const put = () => owner.current !== null && place(found, owner.current.getBoundingClientRect())
    put()
    const listening = new AbortController()
    const listen = (type: string, isOver: (event: Event) => boolean) =>
      window.addEventListener(type, (event) => isOver(event) && show(false), {
        capture: true,
        signal: listening.signal
      })
    window.addEventListener("scroll", put, { capture: true, passive: true, signal: listening.signal })
    listen("pointerdown", (event) => owner.current?.contains(event.target as Node) === false)
    listen("keydown", (event) => (event as KeyboardEvent).key === "Escape")
    return () => {
      listening.abort()
      if (found.isConnected) found.hidePopover()
    }
  }, [isOpen])
  return (
    <time
      ref={owner}
      class="instant"
      dateTime={Format.utc(at)}
      aria-describedby={id}
      {...(isStop ? { tabIndex: 0 } : {})}
      onPointerEnter={() => show(true)}
      onPointerLeave={(event) => show(event.pointerType === "touch")}
      onFocus={() => show(true)}
      onBlur={() => show(false)}
    >
      {text}
      <span ref={tip} id={id} class="tip" role="tooltip" popover="manual">
        {Format.exact(at)}
        <span class="quiet"> {Format.utc(at)}</span>
      </span>
    </time>
  )
}
