/**
 * Which access token to give to whoever presents one. The token itself is the proof: what is written in it is believed as
 * far as it speaks against it, and the user is found by its hash.
 *
 * A token that leaked must not be a key for ever: whatever it buys ends with the time since a server last handed one out,
 * and with whatever changes the connection.
 */
import { Clock, Context, Duration, Effect, Option, Redacted, type Scope } from "effect"
import { LRUCache } from "lru-cache"
import { CalClient } from "../CalClient.js"
import * as Claims from "../CalClient/TokenAnswer/Claims.js"
import { CalTokens } from "../CalTokens.js"
import { reauthorizationRequired } from "../CalTokens/Ending.js"
import { all } from "../Environment/Variables.js"
import { hash, isExpired, type UserUlid } from "../Token.js"
import { TokenConfig } from "../TokenConfig.js"
import {
  type EnsureError,
  type ReauthorizationRequired,
  RefreshCoolingDown,
  StorageUnavailable
} from "../TokenError.js"
import { type StoredConnection, TokenStorage } from "../TokenStorage.js"
import * as Lookups from "../TokenStorage/Lookups.js"
import { annotate } from "./Annotations.js"
import { PublicLookups } from "./PublicLookups.js"

/**
 * For so long after a server handed out a token of the user, or the user connected, may pages renew theirs.
 *
 * @since 0.1.0
 * @category references
 */
export class MaxAge extends Context.Reference<MaxAge>()("cal-tokens/Http/AtomsMaxAge", {
  defaultValue: () => all.CAL_TOKENS_ATOMS_MAX_AGE.default
}) {}

/** How long after its expiry the present token of a user still names that user. */
const maxExpired = Duration.hours(24)

/** No token names anybody for longer after its expiry: it may have been the present one for all of that time. */
const oldest = Duration.toMillis(maxExpired) + Lookups.superseded.millis

/** A token that names nobody is not looked up again for so many milliseconds; so many of them are remembered. */
const unknown = { millis: 2000, tokens: 10_000 } as const

/** Whose a token was, and the one to use instead. */
export interface Renewed {
  readonly userUlid: UserUlid
  readonly accessToken: Redacted.Redacted
}

export interface AtomsTokens {
  /**
   * `None` for a token that names nobody (any more). `only`: the user whose token it has to be, where that is known. Log
   * lines of the scope name the user.
   */
  readonly exchange: (
    presented: Redacted.Redacted,
    only: UserUlid | undefined
  ) => Effect.Effect<Option.Option<Renewed>, EnsureError, Scope.Scope>
}

export const make: Effect.Effect<AtomsTokens, never, CalClient | CalTokens | PublicLookups | TokenStorage> = Effect.gen(
  function* () {
    const client = yield* CalClient
    const clientIds = new Set([...client.clients.managed.all.keys(), ...client.clients.oauth2.all.keys()])
    const tokens = yield* CalTokens
    const storage = yield* TokenStorage
    const { rejectedInterval } = yield* TokenConfig
    const maxAge = yield* MaxAge
    const { queue } = yield* PublicLookups
    const nobodys = new LRUCache<string, number>({ max: unknown.tokens })

    /** Whether it may be one of ours at all. Nothing is verified: it only spares us a query. */
    const isPlausible = (presented: Redacted.Redacted, now: number): boolean =>
      Option.exists(
        Claims.read(Redacted.value(presented)),
        ({ clientId, expiresAt, role }) =>
          role === "access" &&
          clientId !== undefined &&
          clientIds.has(clientId) &&
          expiresAt.length > 0 &&
          now - Math.max(...expiresAt) <= oldest
      )

    const lookUp = (accessHash: string, only: UserUlid | undefined) =>
      Effect.gen(function* () {
        const key = `${accessHash} ${only ?? ""}`
        const now = yield* Clock.currentTimeMillis
        // A pair that this process holds may be stored at any moment, and its token is known then.
        if (now < (nobodys.get(key) ?? 0) && !(yield* tokens.holdsUnstored)) return Option.none()
        const found = yield* queue("findByAccessToken", storage.findByAccessToken(accessHash, only))
        if (Option.isNone(found)) nobodys.set(key, (yield* Clock.currentTimeMillis) + unknown.millis)
        return found
      })

    /** Who comes late gets what is stored; asking with a token that was replaced never refreshes anything. */
    const stored = (row: StoredConnection, now: number): Effect.Effect<Redacted.Redacted, ReauthorizationRequired> => {
      const lost = isExpired(row.pair, now) ? reauthorizationRequired(row) : undefined
      return lost === undefined ? Effect.succeed(row.pair.accessToken) : Effect.fail(lost)
    }

    /**
     * Cal.com refused the present token, or Atoms would not be here. What comes instead may be of another origin: while the
     * refresh was waited for, somebody may have revoked what was presented. So that is looked up once more.
     */
    const rejected = (
      { userUlid }: StoredConnection,
      presented: Redacted.Redacted
    ): Effect.Effect<Option.Option<Redacted.Redacted>, EnsureError> =>
      Effect.gen(function* () {
        // Whether it was 401 or 498 is not told; by our clock the difference is known anyway.
        const advice = yield* tokens.reportRejected(userUlid, { accessToken: presented, status: 401 })
        if (advice._tag === "GiveUp") {
          return yield* new RefreshCoolingDown({ userUlid, retryAfter: rejectedInterval })
        }
        const { delay, token } = advice
        if (hash(token.accessToken) === hash(presented)) {
          return yield* Effect.delay(Effect.succeedSome(token.accessToken), delay)
        }
        const found = yield* lookUp(hash(presented), userUlid)
        if (Option.isNone(found)) return Option.none()
        if (found.value.lookup.supersededAt === null) {
          return yield* new StorageUnavailable({ operation: "refresh", reason: "the new token is not stored yet" })
        }
        return Option.some(yield* stored(found.value.row, yield* client.now))
      })

    return {
      exchange: (presented, only) =>
        Effect.gen(function* () {
          const now = yield* client.now
          if (!isPlausible(presented, now)) return Option.none()
          const found = yield* lookUp(hash(presented), only)
          if (Option.isNone(found)) return Option.none()
          const { lookup, row } = found.value
          yield* annotate({ userUlid: row.userUlid })
          if (now - (row.handedOutAt ?? -Infinity) > Duration.toMillis(maxAge)) return Option.none()
          if (!Lookups.isRecent(now)(lookup)) return Option.none()
          const { userUlid } = row
          if (lookup.supersededAt !== null) return Option.some({ userUlid, accessToken: yield* stored(row, now) })
          if (now - row.pair.accessTokenExpiresAt > Duration.toMillis(maxExpired)) return Option.none()
          return Option.map(yield* rejected(row, presented), (accessToken) => ({ userUlid, accessToken }))
        })
    }
  }
)
