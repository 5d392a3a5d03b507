/**
 * What stands behind the actions: services that are built for whoever calls first, and closed when nobody needs them.
 * A program may hold this module more than once (Next builds a page and a route into two bundles), so what is shared hangs
 * on the process.
 */
import { Effect, Exit, Layer, ManagedRuntime, type Runtime } from "effect"
import * as Quiet from "../Fibers/Quiet.js"

/** Somebody's share in services. */
export interface Backing<R, E> {
  /** The services, or why they could not be built. */
  readonly runtime: Promise<Exit.Exit<Runtime.Runtime<R>, E>>
  /** Gives the share back. Where nobody else has one, the services are closed when this resolves. */
  readonly leave: () => Promise<Exit.Exit<void>>
}

export interface Open<R, E> {
  /** Begins to build, or joins. */
  (): Promise<Backing<R, E>>
  /** What writes log lines while there are no services, where those log in a way of their own. Builds none. */
  readonly logging?: (() => Promise<Runtime.Runtime<never>>) | undefined
}

/** Services of one's own. */
export const own =
  <R, E>(layer: Layer.Layer<R, E>): Open<R, E> =>
  () => {
    // It remembers a failed build for ever, so each attempt has one of its own.
    const managed = ManagedRuntime.make(Layer.provideMerge(layer, Quiet.layer))
    return Promise.resolve({
      runtime: Effect.runPromiseExit(managed.runtimeEffect),
      leave: () => Effect.runPromiseExit(managed.disposeEffect)
    })
  }

/** Services that everybody in this process shares who names them by the same key. */
export const shared = <R, E>(key: string, open: Open<R, E>): Backing<R, E> => {
  const all = registry<R, E>()
  const present = all.get(key)
  const entry = present?.closing === undefined && present !== undefined ? present : begin(all, key, open)
  entry.users++
  let left: Promise<Exit.Exit<void>> | undefined
  return {
    runtime: entry.runtime,
    leave: () => (left ??= --entry.users === 0 ? entry.close() : (entry.closing ?? Promise.resolve(Exit.void)))
  }
}

interface Entry<R, E> {
  users: number
  readonly runtime: Backing<R, E>["runtime"]
  readonly close: Backing<R, E>["leave"]
  /** Set once it is of no use to those who come. */
  closing: Promise<Exit.Exit<void>> | undefined
}

const begin = <R, E>(all: Map<string, Entry<R, E>>, key: string, open: Open<R, E>): Entry<R, E> => {
  // An embedded database is locked until those before have closed it.
  const backing = Promise.resolve(all.get(key)?.closing).then(open)
  const close = () =>
    (entry.closing ??= backing
      .then((it) => it.leave())
      .finally(() => {
        if (all.get(key) === entry) all.delete(key)
      }))
  const entry: Entry<R, E> = {
    users: 0,
    close,
    closing: undefined,
    runtime: backing
      .then(({ runtime }) => runtime)
      .then((exit) => {
        if (Exit.isFailure(exit)) void close()
        return exit
      })
  }
  all.set(key, entry)
  return entry
}

const registryKey = Symbol.for("cal-tokens")

const registry = <R, E>(): Map<string, Entry<R, E>> => {
  const process = globalThis as { [registryKey]?: Map<string, Entry<R, E>> }
  return (process[registryKey] ??= new Map())
}
