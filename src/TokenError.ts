/**
 * Everything that can go wrong, as distinct tags. Messages tell a person what to do and never contain a token or a
 * secret; what a program needs to recover stands beside them as data. Errors of libraries below (HTTP, SQL, schema) are
 * translated where they arise and never attached: their objects carry requests, rows and values.
 */
import { Duration, Option, Schema } from "effect"
import type { Code } from "./ErrorFacts.js"
import { UserUlid } from "./Token.js"

/**
 * How long to wait, shown to people in whole seconds and never as 0.
 *
 * @since 0.1.0
 * @category conversions
 */
export const toSeconds = (duration: Duration.Duration): number => Math.max(1, Math.ceil(Duration.toSeconds(duration)))

/**
 * An argument is malformed. Nothing was changed.
 *
 * @since 0.1.0
 * @category errors
 */
export class InvalidInput extends Schema.TaggedError<InvalidInput>()("InvalidInput", {
  /** What was wrong: a field, `body`, `path`, … */
  field: Schema.String,
  /** The expected form, never the value that was sent. */
  expected: Schema.String,
  /** Set when the input was refused for its size alone. */
  tooLarge: Schema.optional(Schema.Boolean)
}) {
  override get message() {
    return `${this.field} ${this.expected}.`
  }
}

/**
 * This user never connected, or was disconnected.
 *
 * @since 0.1.0
 * @category errors
 */
export class TokensNotFound extends Schema.TaggedError<TokensNotFound>()("TokensNotFound", { userUlid: UserUlid }) {
  override get message() {
    return `User ${this.userUlid} has no Cal.com connection: connect one first.`
  }
}

/**
 * A managed-only operation was asked for an OAuth2 user.
 *
 * @since 0.1.0
 * @category errors
 */
export class NotManagedUser extends Schema.TaggedError<NotManagedUser>()("NotManagedUser", { userUlid: UserUlid }) {
  override get message() {
    return `User ${this.userUlid} is connected through OAuth2; this operation exists for managed users only.`
  }
}

/**
 * The Cal.com account is connected to another user; two rows would revoke each other's refresh tokens.
 *
 * @since 0.1.0
 * @category errors
 */
export class CalAccountInUse extends Schema.TaggedError<CalAccountInUse>()("CalAccountInUse", { userUlid: UserUlid }) {
  override get message() {
    return `The Cal.com account offered for user ${this.userUlid} is already connected to another user: disconnect it there first.`
  }
}

/**
 * Why a user has to reconnect. `revoked`: Cal.com refuses the refresh token. `rotationLost`: it does, after an answer of
 * Cal.com was lost on the way. `calUserGone`: the managed user no longer exists at Cal.com.
 *
 * @since 0.1.0
 * @category schemas
 */
export const ReauthorizationCause = Schema.Literal("revoked", "rotationLost", "calUserGone")
export type ReauthorizationCause = typeof ReauthorizationCause.Type

/** Why, since when, and when the user was imported, if so; in milliseconds since the epoch. */
interface Lost {
  readonly cause: ReauthorizationCause
  readonly since: number
  readonly importedAt?: number | undefined
}

/** For so long after an import another system is the likely cause, in milliseconds. */
const suspected = Duration.toMillis("24 hours")

/**
 * What probably became of a user who has to reconnect, for people; nothing where that does not show.
 *
 * @since 0.1.0
 * @category getters
 */
export const likelyCause = ({ cause, importedAt, since }: Lost): string | undefined => {
  const passed = importedAt === undefined ? -1 : since - importedAt
  if (cause === "calUserGone" || passed < 0 || passed > suspected) return undefined
  const minutes = Math.floor(passed / 60_000)
  const ago = minutes < 1 ? "less than a minute" : minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h`
  return `The user was imported ${ago} before that: a second system may still refresh this user.`
}

/**
 * The user has to connect again; nothing the server does can help.
 *
 * @since 0.1.0
 * @category errors
 */
export class ReauthorizationRequired extends Schema.TaggedError<ReauthorizationRequired>()("ReauthorizationRequired", {
  userUlid: UserUlid,
  cause: ReauthorizationCause,
  /** Milliseconds since the epoch. */
  since: Schema.Number,
  /** When the user was imported, if so; milliseconds since the epoch. */
  importedAt: Schema.optional(Schema.Number)
}) {
  override get message() {
    const why = {
      revoked: "Cal.com no longer accepts the refresh token",
      rotationLost: "Cal.com's answer with the new tokens was lost",
      calUserGone: "the managed user no longer exists at Cal.com"
    }[this.cause]
    const hint = likelyCause(this)
    return `User ${this.userUlid} has to reconnect Cal.com: ${why}.${hint === undefined ? "" : ` ${hint}`}`
  }
}

/**
 * Too many refreshes in a short time, or the last ones failed.
 *
 * @since 0.1.0
 * @category errors
 */
export class RefreshCoolingDown extends Schema.TaggedError<RefreshCoolingDown>()("RefreshCoolingDown", {
  userUlid: UserUlid,
  retryAfter: Schema.DurationFromMillis,
  /** The tag of the failure that started the cooldown, if one did. */
  lastError: Schema.optional(Schema.String)
}) {
  override get message() {
    const last = this.lastError === undefined ? "" : ` (last failure: ${this.lastError})`
    return `Refreshing is cooling down for user ${this.userUlid}${last}: try again in ${toSeconds(this.retryAfter)} s.`
  }
}

/**
 * Cal.com's own rate limit (500 per 60 s and client; the block lasts 60 s).
 *
 * @since 0.1.0
 * @category errors
 */
export class CalRateLimited extends Schema.TaggedError<CalRateLimited>()("CalRateLimited", {
  operation: Schema.String,
  retryAfter: Schema.DurationFromMillis
}) {
  override get message() {
    return `Cal.com's rate limit is reached (${this.operation}): try again in ${toSeconds(this.retryAfter)} s.`
  }
}

/**
 * Cal.com could not be reached, did not answer in time, or answered 5xx.
 *
 * @since 0.1.0
 * @category errors
 */
export class CalUnavailable extends Schema.TaggedError<CalUnavailable>()("CalUnavailable", {
  operation: Schema.String,
  /** What happened: `timeout`, `connection reset`, `status 503`, … */
  reason: Schema.String,
  status: Schema.optional(Schema.Int),
  retryAfter: Schema.optional(Schema.DurationFromMillis)
}) {
  override get message() {
    const retry = this.retryAfter === undefined ? "try again later" : `try again in ${toSeconds(this.retryAfter)} s`
    return `Cal.com is unavailable (${this.operation}: ${this.reason}): ${retry}.`
  }
}

/**
 * Cal.com answered 4xx to a call made by us.
 *
 * @since 0.1.0
 * @category errors
 */
export class CalRequestRejected extends Schema.TaggedError<CalRequestRejected>()("CalRequestRejected", {
  operation: Schema.String,
  status: Schema.Int,
  /** Cal.com's own words, tokens removed. */
  reason: Schema.String,
  /** What the user has to be asked to allow before Cal.com takes this, where Cal.com names it. */
  missingScopes: Schema.optional(Schema.Array(Schema.String)),
  /** Where time can help. */
  retryAfter: Schema.optional(Schema.DurationFromMillis)
}) {
  override get message() {
    return `Cal.com refused ${this.operation} with status ${this.status}: ${this.reason}`
  }
}

/**
 * Cal.com's answer does not have the shape its contract promises.
 *
 * @since 0.1.0
 * @category errors
 */
export class CalProtocolError extends Schema.TaggedError<CalProtocolError>()("CalProtocolError", {
  operation: Schema.String,
  /** Where the answer departs, in plain words or as field paths; never values. */
  issue: Schema.String,
  /** When the next refresh is let through, where all answers are like that. */
  retryAfter: Schema.optional(Schema.DurationFromMillis)
}) {
  override get message() {
    return `Cal.com's answer to ${this.operation} is not understood: ${this.issue}.`
  }
}

/**
 * Stands for the client where there is none.
 *
 * @since 0.1.0
 * @category constants
 */
export const noClient = "(none)"

/**
 * Cal.com refuses the client itself (wrong id, secret, URL, approval): every user of it is affected, none is at fault.
 *
 * @since 0.1.0
 * @category errors
 */
export class CalClientMisconfigured extends Schema.TaggedError<CalClientMisconfigured>()("CalClientMisconfigured", {
  clientId: Schema.String,
  reason: Schema.String,
  /** When the next refresh is let through. */
  retryAfter: Schema.optional(Schema.DurationFromMillis)
}) {
  override get message() {
    if (this.clientId === noClient) return `${this.reason.charAt(0).toUpperCase()}${this.reason.slice(1)}.`
    return `Cal.com refuses the client ${this.clientId} (${this.reason}): check its id, secret, URL and approval. No user has to reconnect.`
  }
}

/**
 * The database cannot be reached or does not answer.
 *
 * @since 0.1.0
 * @category errors
 */
export class StorageUnavailable extends Schema.TaggedError<StorageUnavailable>()("StorageUnavailable", {
  operation: Schema.String,
  /** What the driver said, without parameters or rows. */
  reason: Schema.String
}) {
  override get message() {
    return `The token database is unavailable (${this.operation}: ${this.reason}): try again later.`
  }
}

/**
 * This row cannot be decrypted with the keys configured. Other users are not affected.
 *
 * @since 0.1.0
 * @category errors
 */
export class TokenUnreadable extends Schema.TaggedError<TokenUnreadable>()("TokenUnreadable", {
  userUlid: UserUlid,
  reason: Schema.String
}) {
  override get message() {
    return `The stored tokens of user ${this.userUlid} cannot be decrypted (${this.reason}): check the encryption keys.`
  }
}

/**
 * What a call to Cal.com fails with.
 *
 * @since 0.1.0
 * @category schemas
 */
export const CallError = Schema.Union(
  CalRateLimited,
  CalUnavailable,
  CalRequestRejected,
  CalProtocolError,
  CalClientMisconfigured
)
export type CallError = typeof CallError.Type

/**
 * What an attempt at a refresh fails with that brought no news of the user: what is written beside the row.
 *
 * @since 0.1.0
 * @category schemas
 */
export const AttemptError = Schema.Union(...CallError.members, TokenUnreadable)
export type AttemptError = typeof AttemptError.Type

/**
 * What reading a user's connection fails with.
 *
 * @since 0.1.0
 * @category models
 */
export type ReadError = TokensNotFound | StorageUnavailable | TokenUnreadable

/**
 * What asking for a valid token fails with.
 *
 * @since 0.1.0
 * @category models
 */
export type EnsureError = ReadError | ReauthorizationRequired | RefreshCoolingDown | CallError

/**
 * What storing a new connection fails with.
 *
 * @since 0.1.0
 * @category models
 */
export type ConnectError = InvalidInput | CalAccountInUse | StorageUnavailable | TokenUnreadable

/**
 * Every failure of this package but those of its doors.
 *
 * @since 0.1.0
 * @category errors
 */
export const TokenError = Schema.Union(
  InvalidInput,
  TokensNotFound,
  NotManagedUser,
  CalAccountInUse,
  ReauthorizationRequired,
  RefreshCoolingDown,
  CalRateLimited,
  CalUnavailable,
  CalRequestRejected,
  CalProtocolError,
  CalClientMisconfigured,
  StorageUnavailable,
  TokenUnreadable
)
export type TokenError = typeof TokenError.Type

/**
 * Whether a value is one of the errors of this package.
 *
 * @since 0.1.0
 * @category predicates
 */
export const isTokenError: (u: unknown) => u is TokenError = Schema.is(TokenError)

/**
 * What every edge answers instead of an error.
 *
 * @since 0.1.0
 * @category models
 */
export interface Failure {
  readonly success: false
  /** For people: what happened and what to do. Contains no token and no secret. */
  readonly error: string
  /**
   * For programs: the tag of a `TokenError`, or one that a door has of its own. Actions: `Forbidden` or `Unauthorized` where
   * `authorize` refused or failed; `StartFailed` (the layers could not be built; the next call tries again), `ShuttingDown`
   * (after `dispose`), `InternalError` (a bug; details are in the log only).
   */
  readonly code: Code
  /** Seconds until the same call may succeed, where that is known. */
  readonly retryAfter?: number
  /** Cal.com's HTTP status, where Cal.com answered. */
  readonly status?: number
  /** `CalRequestRejected`: what the user has not allowed, where Cal.com names it. Ask for consent again with these scopes. */
  readonly missingScopes?: ReadonlyArray<string>
}

/** What an error has to have to leave through an edge. */
interface Leaving {
  readonly _tag: Code
  readonly message: string
  readonly retryAfter?: Duration.Duration | undefined
  readonly status?: number | undefined
  readonly missingScopes?: ReadonlyArray<string> | undefined
}

/**
 * How long to wait before the same call may succeed, where the error knows.
 *
 * @since 0.1.0
 * @category getters
 */
export const retryAfter = (error: Leaving): Option.Option<Duration.Duration> => Option.fromNullable(error.retryAfter)

/**
 * The form in which an error leaves through an edge.
 *
 * @since 0.1.0
 * @category conversions
 */
export const toFailure = ({ _tag, message, missingScopes, retryAfter, status }: Leaving): Failure => ({
  success: false,
  error: message,
  code: _tag,
  ...(retryAfter === undefined ? {} : { retryAfter: toSeconds(retryAfter) }),
  ...(status === undefined ? {} : { status }),
  ...(missingScopes === undefined ? {} : { missingScopes })
})
