/**
 * Where people are kept while they are at Cal.com's consent page: one row per flow, for ten minutes. The secrets that
 * find a row again (state, completion) are stored as their hashes. All else is one text that the drivers seal and bind to
 * the state's hash, so that whoever can write rows without a key makes none that counts: what does not open is not there.
 * Each secret is used up in one atomic step. What came back stays known until the flow's time is over, because browsers
 * ask twice.
 */
import { Context, Duration, Effect, Layer, Option, type Redacted } from "effect"
import { hash, type UserUlid } from "./Token.js"
import type { StorageUnavailable } from "./TokenError.js"

/**
 * How long a flow may take: as long as a code lives at Cal.com. The first code that comes back begins the time anew.
 *
 * @since 0.1.0
 * @category constants
 */
export const lifetime = Duration.minutes(10)

/**
 * No flow is older, with five minutes for clocks that differ.
 *
 * @since 0.1.0
 * @category constants
 */
export const longest = Duration.minutes(25)

/**
 * What was asked for when the flow began.
 *
 * @since 0.1.0
 * @category models
 */
export interface Flow {
  readonly userUlid: UserUlid
  /** The OAuth2 client that the person is asked to trust; the code is exchanged by no other one. */
  readonly clientId: string
  /** Where the browser goes once it is back; absent when the app hosts the callback itself. */
  readonly returnTo?: string | undefined
  /** Take the Cal.com account from another user. */
  readonly replace: boolean
  /** Of PKCE; public clients only. */
  readonly codeVerifier?: Redacted.Redacted | undefined
}

/**
 * A flow whose person came back with a code.
 *
 * @since 0.1.0
 * @category models
 */
export interface ReturnedFlow extends Flow {
  readonly code: Redacted.Redacted
}

/**
 * A flow as it stands.
 *
 * @since 0.1.0
 * @category models
 */
export interface FoundFlow extends Flow {
  /** The hash of the code that the person came back with, if they did. */
  readonly codeHash?: string | undefined
  /** Its completion was used up. */
  readonly isOver: boolean
  /** Changes with every write. */
  readonly revision: string
}

/**
 * A person who came back from Cal.com, for the storage to remember.
 *
 * @since 0.1.0
 * @category models
 */
export interface Return {
  readonly stateHash: string
  /** As it was found. */
  readonly flow: FoundFlow
  readonly code: Redacted.Redacted
  readonly completionHash: string
}

/**
 * Expiry is judged by the storage's own clock.
 *
 * @since 0.1.0
 * @category tags
 */
export class FlowStorage extends Context.Tag("cal-tokens/FlowStorage")<
  FlowStorage,
  {
    /**
     * Makes a state or a completion of a text that cannot be guessed, such that everybody with the keys knows it again, and
     * when it was made.
     */
    readonly sign: (text: Redacted.Redacted) => Effect.Effect<Redacted.Redacted>
    /**
     * Whether a state or a completion was signed, within {@link longest}. Nobody is asked: what was made up costs no
     * look-up, what is over costs none any more, and whoever puts old rows back makes no more of it.
     */
    readonly isSigned: (signed: Redacted.Redacted) => Effect.Effect<boolean>
    /** Begins a flow; answers when it expires, in ms since the epoch. Flows that have expired are removed with it. */
    readonly begin: (stateHash: string, flow: Flow) => Effect.Effect<number, StorageUnavailable>
    /** A flow within its time, unless its state was taken. Changes nothing. */
    readonly find: (stateHash: string) => Effect.Effect<Option.Option<FoundFlow>, StorageUnavailable>
    /** Uses up a state that no code came back with: the flow is removed, and only one caller gets it. */
    readonly take: (stateHash: string) => Effect.Effect<Option.Option<Flow>, StorageUnavailable>
    /**
     * Keeps a code, which waits for its completion from then on; a completion that waited already is no more. `false` if
     * the flow is not as it was found, or is over.
     */
    readonly keep: (request: Return) => Effect.Effect<boolean, StorageUnavailable>
    /** Uses up a completion: the flow is over, and only one caller gets it. */
    readonly complete: (completionHash: string) => Effect.Effect<Option.Option<ReturnedFlow>, StorageUnavailable>
  }
>() {}

interface Row {
  readonly flow: Flow
  readonly expiresAt: number
  readonly revision: string
  readonly returned?: Returned | undefined
}

interface Returned {
  /** Until it is handed out. */
  readonly code?: Redacted.Redacted | undefined
  readonly codeHash: string
  readonly completionHash: string
}

const makeMemory = (): (typeof FlowStorage)["Service"] => {
  const rows = new Map<string, Row>()
  let revision = 0

  const write = (stateHash: string, row: Omit<Row, "revision">) =>
    rows.set(stateHash, { ...row, revision: String(++revision) })

  const step = <A>(f: (now: number) => A): Effect.Effect<A> =>
    Effect.clockWith((clock) => Effect.sync(() => f(clock.unsafeCurrentTimeMillis())))

  const living = (stateHash: string, now: number) =>
    Option.filter(Option.fromNullable(rows.get(stateHash)), ({ expiresAt }) => expiresAt > now)

  return {
    // A look into this map costs less than a MAC.
    sign: Effect.succeed,
    isSigned: () => Effect.succeed(true),
    begin: (stateHash, flow) =>
      step((now) => {
        for (const [hash, row] of rows) if (row.expiresAt <= now) rows.delete(hash)
        const expiresAt = now + Duration.toMillis(lifetime)
        write(stateHash, { flow, expiresAt })
        return expiresAt
      }),
    find: (stateHash) =>
      step((now) =>
        Option.map(living(stateHash, now), ({ flow, returned, revision }) => ({
          ...flow,
          codeHash: returned?.codeHash,
          isOver: returned !== undefined && returned.code === undefined,
          revision
        }))
      ),
    take: (stateHash) =>
      step((now) =>
        Option.map(
          Option.filter(living(stateHash, now), ({ returned }) => returned === undefined),
          ({ flow }) => {
            rows.delete(stateHash)
            return flow
          }
        )
      ),
    keep: ({ code, completionHash, flow: { isOver, revision }, stateHash }) =>
      step((now) =>
        Option.match(
          Option.filter(living(stateHash, now), (row) => row.revision === revision && !isOver),
          {
            onNone: () => false,
            onSome: ({ expiresAt, flow, returned }) => {
              write(stateHash, {
                flow,
                expiresAt: returned === undefined ? now + Duration.toMillis(lifetime) : expiresAt,
                returned: { code, codeHash: hash(code), completionHash }
              })
              return true
            }
          }
        )
      ),
    complete: (completionHash) =>
      step((now) => {
        for (const [stateHash, { expiresAt, flow, returned }] of rows) {
          if (returned?.completionHash !== completionHash || returned.code === undefined) continue
          const { code, ...over } = returned
          write(stateHash, { flow, expiresAt, returned: over })
          return expiresAt > now ? Option.some({ ...flow, code }) : Option.none()
        }
        return Option.none()
      })
  }
}

/**
 * Keeps flows in this process's memory until the layer is released: for tests, and for a single process.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerMemory: Layer.Layer<FlowStorage> = Layer.sync(FlowStorage, makeMemory)
