/** A value that changes, and hooks that draw again only where what they took of it is another. */
import { useLayoutEffect, useReducer, useRef } from "preact/hooks"

export interface Store<A> {
  readonly get: () => A
  readonly set: (value: A) => void
  readonly subscribe: (listener: () => void) => () => void
}

/** `whileWatched` begins with the first subscriber; what it answers ends it with the last. */
export const make = <A>(initial: A, whileWatched?: () => () => void): Store<A> => {
  let value = initial
  let end: (() => void) | undefined
  const listeners = new Set<() => void>()
  return {
    get: () => value,
    set: (next) => {
      if (Object.is(next, value)) return
      value = next
      for (const listener of [...listeners]) listener()
    },
    subscribe: (listener) => {
      listeners.add(listener)
      if (listeners.size === 1) end = whileWatched?.()
      return () => {
        if (listeners.delete(listener) && listeners.size === 0) end?.()
      }
    }
  }
}

/** What `select` takes of the value. */
export const useSelected = <A, B>(from: Store<A>, select: (value: A) => B): B => {
  const [, draw] = useReducer<number, void>((count) => count + 1, 0)
  const shown = useRef({ select, value: undefined as B })
  shown.current = { select, value: select(from.get()) }
  useLayoutEffect(() => {
    const look = () => {
      if (!Object.is(shown.current.select(from.get()), shown.current.value)) draw()
    }
    look()
    return from.subscribe(look)
  }, [from])
  return shown.current.value
}

export const useStore = <A>(from: Store<A>): A => useSelected(from, (value) => value)
