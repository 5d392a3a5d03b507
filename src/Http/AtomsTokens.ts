/**
 * Which access token to give to whoever presents one. The token itself is the proof: it is looked up by its hash, so
 * nothing that is written in it is believed, and what was never issued finds nobody.
 */
import { Duration, Effect, Option, type Redacted, type Scope } from "effect"
import { CalClient } from "../CalClient.js"
import { CalTokens } from "../CalTokens.js"
import { hash, isExpired, type UserUlid } from "../Token.js"
import { TokenConfig } from "../TokenConfig.js"
import { ReauthorizationRequired, RefreshCoolingDown, type TokenError } from "../TokenError.js"
import { type StoredConnection, TokenStorage } from "../TokenStorage.js"

/** How long after its expiry the present token of a user still names that user. */
export const maxExpired = Duration.hours(24)

/** Finds the user of a token, and the token to use instead; `None` for one that names nobody (any more). */
export interface AtomsTokens {
  /** `accepts`: whether the user whose token it is may have another one. Log lines of the scope name that user. */
  readonly exchange: (
    presented: Redacted.Redacted,
    accepts: (userUlid: UserUlid) => boolean
  ) => Effect.Effect<Option.Option<Redacted.Redacted>, TokenError, Scope.Scope>
}

export const make: Effect.Effect<AtomsTokens, never, CalClient | CalTokens | TokenStorage> = Effect.gen(function* () {
  const client = yield* CalClient
  const tokens = yield* CalTokens
  const storage = yield* TokenStorage
  const { rejectedInterval } = yield* TokenConfig

  /** Who comes late gets what is stored; asking with a token that was replaced never refreshes anything. */
  const stored = (row: StoredConnection, now: number): Effect.Effect<Redacted.Redacted, TokenError> =>
    row.status._tag === "ReauthorizationRequired" && isExpired(row.pair, now)
      ? Effect.fail(
          new ReauthorizationRequired({
            userUlid: row.userUlid,
            cause: row.status.cause,
            since: row.status.since
          })
        )
      : Effect.succeed(row.pair.accessToken)

  /** Cal.com refused the present token, or Atoms would not be here. */
  const rejected = (userUlid: UserUlid, presented: Redacted.Redacted): Effect.Effect<Redacted.Redacted, TokenError> =>
    Effect.gen(function* () {
      // Whether it was 401 or 498 is not told; by our clock the difference is known anyway.
      const advice = yield* tokens.reportRejected(userUlid, { accessToken: presented, status: 401 })
      if (advice._tag === "GiveUp") {
        return yield* new RefreshCoolingDown({ userUlid, retryAfter: rejectedInterval })
      }
      return yield* Effect.delay(Effect.succeed(advice.token.accessToken), advice.delay)
    })

  return {
    exchange: (presented, accepts) =>
      Effect.gen(function* () {
        const owner = yield* storage.findByAccessToken(hash(presented))
        if (Option.isNone(owner) || !accepts(owner.value.userUlid)) return Option.none()
        const { userUlid } = owner.value
        yield* Effect.annotateLogsScoped({ userUlid })
        const row = yield* storage.find(userUlid)
        if (Option.isNone(row)) return Option.none()
        const now = yield* client.now
        const { pair } = row.value
        if (hash(pair.accessToken) !== hash(presented)) return Option.some(yield* stored(row.value, now))
        if (now - pair.accessTokenExpiresAt > Duration.toMillis(maxExpired)) return Option.none()
        return Option.some(yield* rejected(userUlid, presented))
      })
  }
})
