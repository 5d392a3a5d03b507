/**
 * Where people are kept while they are at Cal.com's consent page: one row per flow, for ten minutes. The secrets that
 * find a row again (state, completion) are stored as their hashes, what is to be exchanged is sealed by the drivers, and
 * each secret is used up in one atomic step.
 */
import { Context, Duration, Effect, Layer, Option, type Redacted } from "effect"
import type { UserUlid } from "./Token.js"
import type { StorageUnavailable, TokenUnreadable } from "./TokenError.js"

/** How long a flow may take: as long as a code lives at Cal.com. A code that came back begins the time anew. */
export const lifetime = Duration.minutes(10)

/** What was asked for when the flow began. */
export interface Flow {
  readonly userUlid: UserUlid
  /** Where the browser goes once it is back; absent when the app hosts the callback itself. */
  readonly returnTo?: string | undefined
  /** Take the Cal.com account from another user. */
  readonly replace: boolean
  /** Of PKCE; public clients only. */
  readonly codeVerifier?: Redacted.Redacted | undefined
}

/** A flow whose person came back with a code. */
export interface ReturnedFlow extends Flow {
  readonly code: Redacted.Redacted
}

export interface Return {
  readonly stateHash: string
  readonly userUlid: UserUlid
  readonly code: Redacted.Redacted
  readonly completionHash: string
}

/** Expiry is judged by the storage's own clock. */
export class FlowStorage extends Context.Tag("cal-tokens/FlowStorage")<
  FlowStorage,
  {
    /** Begins a flow; answers when it expires, in ms since the epoch. Flows that have expired are removed with it. */
    readonly begin: (stateHash: string, flow: Flow) => Effect.Effect<number, StorageUnavailable>
    /** A flow whose state is unused. */
    readonly find: (
      stateHash: string
    ) => Effect.Effect<Option.Option<Pick<Flow, "userUlid" | "returnTo">>, StorageUnavailable>
    /** Uses up a state: the flow is removed, and only one caller gets it. */
    readonly take: (stateHash: string) => Effect.Effect<Option.Option<Flow>, StorageUnavailable | TokenUnreadable>
    /** Uses up a state for a code, which waits for its completion from then on; `false` if it was not there to be used. */
    readonly keep: (request: Return) => Effect.Effect<boolean, StorageUnavailable>
    /** Uses up a completion: the flow is removed, and only one caller gets it. */
    readonly complete: (
      completionHash: string
    ) => Effect.Effect<Option.Option<ReturnedFlow>, StorageUnavailable | TokenUnreadable>
  }
>() {}

interface Row {
  readonly flow: Flow
  readonly expiresAt: number
  readonly returned?: { readonly code: Redacted.Redacted; readonly completionHash: string } | undefined
}

const makeMemory = (): (typeof FlowStorage)["Service"] => {
  const rows = new Map<string, Row>()

  const step = <A>(f: (now: number) => A): Effect.Effect<A> =>
    Effect.clockWith((clock) => Effect.sync(() => f(clock.unsafeCurrentTimeMillis())))

  const unused = (stateHash: string, now: number) =>
    Option.filter(
      Option.fromNullable(rows.get(stateHash)),
      ({ expiresAt, returned }) => returned === undefined && expiresAt > now
    )

  return {
    begin: (stateHash, flow) =>
      step((now) => {
        for (const [hash, row] of rows) if (row.expiresAt <= now) rows.delete(hash)
        const expiresAt = now + Duration.toMillis(lifetime)
        rows.set(stateHash, { flow, expiresAt })
        return expiresAt
      }),
    find: (stateHash) =>
      step((now) => Option.map(unused(stateHash, now), ({ flow: { returnTo, userUlid } }) => ({ userUlid, returnTo }))),
    take: (stateHash) =>
      step((now) =>
        Option.map(unused(stateHash, now), ({ flow }) => {
          rows.delete(stateHash)
          return flow
        })
      ),
    keep: ({ code, completionHash, stateHash, userUlid }) =>
      step((now) =>
        Option.match(
          Option.filter(unused(stateHash, now), ({ flow }) => flow.userUlid === userUlid),
          {
            onNone: () => false,
            onSome: ({ flow }) => {
              rows.set(stateHash, {
                flow,
                expiresAt: now + Duration.toMillis(lifetime),
                returned: { code, completionHash }
              })
              return true
            }
          }
        )
      ),
    complete: (completionHash) =>
      step((now) => {
        for (const [hash, { expiresAt, flow, returned }] of rows) {
          if (returned?.completionHash !== completionHash) continue
          rows.delete(hash)
          return expiresAt > now ? Option.some({ ...flow, code: returned.code }) : Option.none()
        }
        return Option.none()
      })
  }
}

/** Keeps flows in this process's memory until the layer is released: for tests, and for a single process. */
export const layerMemory: Layer.Layer<FlowStorage> = Layer.sync(FlowStorage, makeMemory)
