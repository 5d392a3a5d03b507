/** Counts down until the service says that the same may succeed. */
import type { ComponentChildren } from "preact"
import { useMemo } from "preact/hooks"
import * as Clock from "./Clock.js"
import * as Format from "./Format.js"

interface Props {
  /** What `retryAfter` came with. */
  readonly error: { readonly retryAfter?: number | undefined } | undefined
  /** `wait`: how long it still is, `54 s`; undefined when it is over. */
  readonly children: (wait: string | undefined) => ComponentChildren
}

export const Retry = ({ children, error }: Props) => {
  const after = error?.retryAfter
  const until = useMemo(() => (after === undefined ? 0 : Clock.now() + after * 1_000), [error])
  const left = Clock.useNow((now) => Math.ceil(Math.max(0, until - now) / 1_000))
  return <>{children(left === 0 ? undefined : Format.duration(left * 1_000))}</>
}
