/** The ways an attempt ends without a pair, and what each writes. */
import { Duration, Effect, Option, Random } from "effect"
import { CallFailure, type CalClient } from "../CalClient.js"
import { hash } from "../Token.js"
import type { Options } from "../TokenConfig.js"
import {
  type ReauthorizationCause,
  retryAfter,
  type StorageUnavailable,
  type TokenError,
  TokenUnreadable
} from "../TokenError.js"
import { AttemptFailure, type StoredConnection, type TokenStorage } from "../TokenStorage.js"
import type { Circuit } from "./Circuit.js"
import type { Committed } from "./Commit.js"

/** The claim an attempt starts from. */
export interface Claim {
  readonly attemptId: string
  /** When it was asked for, by our clock, in milliseconds: the lease is not older. */
  readonly startedAt: number
  readonly row: StoredConnection
  /** Hash of the refresh token whose outcome is unknown. */
  readonly probe: Option.Option<string>
  readonly consecutiveFailures: number
  readonly reissue: boolean
}

/** How an attempt ends, if not with an error. */
export type Ended =
  | Committed
  /** Somebody else changed the row meanwhile: look again. */
  | { readonly _tag: "Moved" }
  /** The outcome is unknown; the token is probed later. */
  | { readonly _tag: "Unknown"; readonly error: TokenError }
  /** Every token was refused, and so it is written. */
  | { readonly _tag: "Terminal"; readonly row: StoredConnection }

/** `Again`: a token turned up that was not tried yet. */
export type Step = Ended | { readonly _tag: "Again"; readonly row: StoredConnection }

export type Failure = StorageUnavailable | TokenUnreadable | TokenError

/**
 * Back-off before the next attempt: a ceiling that doubles up to `backoffMax`, half of it jitter. The lowest value is
 * `backoffMin`.
 */
export const backoff = (
  config: Pick<Options, "backoffMax" | "backoffMin">,
  consecutiveFailures: number
): Effect.Effect<Duration.Duration> => {
  const ceiling = Math.min(
    Duration.toMillis(config.backoffMax),
    Duration.toMillis(config.backoffMin) * 2 ** (Math.min(consecutiveFailures, 30) + 1)
  )
  return Effect.map(Random.next, (random) => Duration.millis(Math.round((ceiling / 2) * (1 + random))))
}

export interface Endings {
  /** Takes the circuit's turn before the first call; without one the attempt ends as if it had not begun. */
  readonly admit: Effect.Effect<void, Failure>
  /** Ends with what Cal.com's answer says about the token. */
  readonly after: (failure: CallFailure) => Effect.Effect<Ended, Failure>
  /** Ends because every token of the row is refused; `Again` when another one arrived in the last moment. */
  readonly terminal: (row: StoredConnection, cause: ReauthorizationCause) => Effect.Effect<Step, Failure>
}

/** `refused` grows while the attempt goes on. */
export const make = (
  deps: {
    readonly config: Options
    readonly storage: typeof TokenStorage.Service
    readonly client: typeof CalClient.Service
    readonly circuit: Circuit
  },
  claim: Claim,
  refused: ReadonlySet<string>
): Endings => {
  const { circuit, client, config, storage } = deps
  const { attemptId, consecutiveFailures, row } = claim
  const { userUlid } = row
  const { clientId } = row.connection

  /** Is the outcome of an earlier attempt still open? Not once the probed token was refused. */
  const openProbe = () => Option.filter(claim.probe, (probed) => !refused.has(probed))

  /** Writes how the attempt failed. A storage that does not answer leaves the claim to lapse, which says the same. */
  const record = (failure: AttemptFailure) =>
    storage
      .fail({ userUlid, attemptId, failure })
      .pipe(
        Effect.catchAll((error) =>
          Effect.logWarning("The end of a refresh attempt was not recorded; its lease will lapse").pipe(
            Effect.annotateLogs({ userUlid, error: error.message })
          )
        )
      )

  /** Cal.com's own wish, if it has one, and never less than the back-off. */
  const pause = (error: TokenError) =>
    Effect.map(backoff(config, consecutiveFailures), (duration) => Duration.max(duration, wish(error)))

  const notSpent = (error: TokenError): Effect.Effect<Ended, Failure> =>
    Effect.gen(function* () {
      yield* record(AttemptFailure.NotSpent({ error, backoff: yield* pause(error) }))
      return yield* Effect.fail(error)
    })

  const unknown = (error: TokenError): Effect.Effect<Ended, Failure> =>
    Effect.gen(function* () {
      const left = Duration.millis(Math.max(0, row.pair.accessTokenExpiresAt - (yield* client.now)))
      const probeIn = Duration.max(config.probeDelayExpired, Duration.min(config.probeDelayValid, left))
      yield* record(
        AttemptFailure.Unknown({
          error,
          // The probe's own delay is pause enough after a first failure.
          backoff: consecutiveFailures === 0 ? Duration.zero : yield* pause(error),
          probeIn: Duration.max(probeIn, wish(error))
        })
      )
      return { _tag: "Unknown", error }
    })

  const release = Effect.suspend(() => record(AttemptFailure.Released({ probe: openProbe() })))

  return {
    admit: Effect.tapError(circuit.enter(clientId, userUlid), () => release),
    after: CallFailure.$match({
      // A probe that was not even processed leaves the outcome as unknown as it was.
      NotSpent: ({ error }) => (Option.isSome(openProbe()) ? unknown(error) : notSpent(error)),
      Unknown: ({ error }) => unknown(error),
      ClientWide: ({ error }) =>
        Effect.zipRight(release, Effect.flatMap(circuit.misconfigured(clientId, error), Effect.fail)),
      // Neither answers the call that was made, so nothing is known about the token.
      Rejected: ({ error }) => unknown(error),
      UserGone: ({ error }) => unknown(error)
    }),
    terminal: (current, cause) =>
      Effect.gen(function* () {
        yield* Effect.tapError(circuit.refused(clientId, userUlid), () => release)
        const dead = new Set([...refused, ...hashes(current)])
        const failure = AttemptFailure.Terminal({ cause, dead: [...dead] })
        const result = yield* storage.fail({ userUlid, attemptId, failure })
        if (result._tag === "Recorded") return { _tag: "Terminal", row: result.row }
        if (!result.attemptIsMine || Option.isNone(result.row)) return { _tag: "Moved" }
        if (hashes(result.row.value).some((each) => !dead.has(each))) return { _tag: "Again", row: result.row.value }
        // One that could still work is kept there, and these keys do not open it.
        return yield* notSpent(new TokenUnreadable({ userUlid, reason: "a pair that is kept as a fallback" }))
      })
  }
}

const hashes = ({ fallbacks, pair }: StoredConnection) => [pair, ...fallbacks].map((each) => hash(each.refreshToken))

const wish = (error: TokenError) => Option.getOrElse(retryAfter(error), () => Duration.zero)
