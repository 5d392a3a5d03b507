/**
 * What happened to a user's tokens: who spent which, what Cal.com answered, and what became of that. The storage keeps it
 * beside the user's row, written in the same step as the row itself, so an entry can neither be missing nor invented, and
 * it goes with the row. Tokens are named by the first digits of their SHA-256; there are no secrets in it.
 */
import { Schema } from "effect"

/**
 * So many entries of a user are told of, the last ones.
 *
 * @since 0.1.0
 * @category constants
 */
export const maxEntries = 50

/**
 * How long an entry is kept, in milliseconds.
 *
 * @since 0.1.0
 * @category constants
 */
export const keptFor = 30 * 86_400_000

/**
 * The first digits of a refresh token's SHA-256: enough to tell a user's tokens apart, and nothing to spend.
 *
 * @since 0.1.0
 * @category models
 */
export const TokenName = Schema.String.pipe(Schema.pattern(/^[0-9a-f]{8}$/))

/**
 * The name of a token, from its SHA-256.
 *
 * @since 0.1.0
 * @category conversions
 */
export const nameOf = (hash: string): string => hash.slice(0, 8)

/**
 * A process as histories name it: random, new at each start, and the same in its logs.
 *
 * @since 0.1.0
 * @category models
 */
export const ProcessName = Schema.String.pipe(Schema.pattern(/^[0-9a-z]{1,16}$/))

/**
 * Why Cal.com refused a refresh token. `revoked`: it has forgotten it (`refresh_token_revoked`). `invalid`: it is no token
 * of its own, or its time is over (`invalid_refresh_token`). `unknown`: it does not know it (`Invalid refresh token`, which
 * managed users' tokens meet in any of these cases). `raced`: somebody spent it that very moment.
 *
 * @since 0.1.0
 * @category models
 */
export const Refusal = Schema.Literal("revoked", "invalid", "unknown", "raced")

/**
 * @since 0.1.0
 * @category models
 */
export type Refusal = typeof Refusal.Type

/**
 * One call to a token endpoint. `as`: the row's own token; the same once more, for one that is seconds old; one whose
 * outcome was unknown; a pair that was kept beside the row's; or none, where Cal.com was asked to reissue.
 *
 * @since 0.1.0
 * @category models
 */
export const Step = Schema.Struct({
  as: Schema.Literal("own", "again", "probe", "fallback", "reissue"),
  /** Which token was spent, or which one the row had when it was reissued. */
  token: TokenName,
  answer: Schema.Literal("granted", "rejected", "notSpent", "unknown", "unreadable", "clientWide", "userGone"),
  /** It came after the call was given up. */
  isLate: Schema.optional(Schema.Literal(true)),
  /** The status of Cal.com's answer, where there was one. */
  status: Schema.optional(Schema.Number),
  refusal: Schema.optional(Refusal),
  /** Which error it became, for the answers that are neither a pair nor a refusal. */
  error: Schema.optional(Schema.String.pipe(Schema.pattern(/^[A-Za-z]{1,40}$/))),
  /** The token's own time was over. */
  isExpired: Schema.optional(Schema.Literal(true))
})

/**
 * @since 0.1.0
 * @category models
 */
export type Step = typeof Step.Type

/**
 * What happened.
 *
 * - `Attempt`: a claim with all that it sent. `trigger`: somebody asked, Cal.com refused the access token before its time,
 *   or nobody waited. `end`: as it was meant; the entry says what was written. `wentBack`: the process remembered a newer row
 *   than the storage had.
 * - `Lapsed`: the next claim found that an attempt had never ended.
 * - `Read`: a pair was found in an answer that nobody could read when it came.
 * - `Connected`, `Updated`, `Imported`: a pair came from outside. `isGranted`: Cal.com granted it just then; else somebody
 *   handed it in.
 *
 * @since 0.1.0
 * @category models
 */
export const Event = Schema.Union(
  Schema.TaggedStruct("Attempt", {
    process: ProcessName,
    purpose: Schema.Literal("refresh", "reissue"),
    trigger: Schema.Literal("asked", "refused", "ahead"),
    /** From the claim on, in ms. */
    took: Schema.Number,
    steps: Schema.Array(Step),
    end: Schema.Literal("granted", "notSpent", "unknown", "terminal", "released"),
    /** Of a grant: the refresh token that it brought. */
    brought: Schema.optional(TokenName),
    wentBack: Schema.optional(Schema.Literal(true))
  }),
  Schema.TaggedStruct("Lapsed", {
    process: Schema.optional(ProcessName),
    /** Milliseconds since the epoch, by the storage's clock. */
    startedAt: Schema.Number,
    /** The token that it may have spent. */
    token: Schema.optional(TokenName)
  }),
  Schema.TaggedStruct("Read", { process: ProcessName, token: TokenName, brought: TokenName }),
  Schema.TaggedStruct("Connected", { process: ProcessName, token: TokenName, isGranted: Schema.Boolean }),
  Schema.TaggedStruct("Updated", { process: ProcessName, token: TokenName }),
  Schema.TaggedStruct("Imported", { process: ProcessName, token: TokenName })
)

/**
 * @since 0.1.0
 * @category models
 */
export type Event = typeof Event.Type

/**
 * What the storage made of it. `stored`: the pair is the row's. `kept`: it is kept beside the row's. `recorded`: the failure
 * counts. `spared`: the user was not marked, because of the client's circuit. `sealed`: the answer is kept for a program that
 * can read it. `late`: nothing, for the attempt was no longer its process's. `noted`: the entry alone.
 *
 * @since 0.1.0
 * @category models
 */
export const Written = Schema.Literal("stored", "kept", "recorded", "spared", "sealed", "late", "noted")

/**
 * @since 0.1.0
 * @category models
 */
export type Written = typeof Written.Type

/**
 * An entry of a user's history.
 *
 * @since 0.1.0
 * @category models
 */
export const Entry = Schema.Struct({
  /** Milliseconds since the epoch, by the storage's clock: when it was written. */
  at: Schema.Number,
  written: Written,
  event: Event
})

/**
 * @since 0.1.0
 * @category models
 */
export type Entry = typeof Entry.Type

/**
 * An attempt that is under way, or whose process is gone without a word, if its lease is over.
 *
 * @since 0.1.0
 * @category models
 */
export const OpenAttempt = Schema.Struct({
  process: Schema.optional(ProcessName),
  startedAt: Schema.Number,
  leaseUntil: Schema.Number,
  token: Schema.optional(TokenName)
})

/**
 * @since 0.1.0
 * @category models
 */
export type OpenAttempt = typeof OpenAttempt.Type

/**
 * Why a user has to reconnect, as far as there is evidence; `Explain` says which.
 *
 * @since 0.1.0
 * @category models
 */
export const Cause = Schema.Literal(
  "managedUserGone",
  "storageWentBack",
  "answerLost",
  "answerUnreadable",
  "processDied",
  "deadWhenHandedIn",
  "lostSinceHandedIn",
  "refreshTokenExpired",
  "accountGone",
  "unknownToCal",
  "anotherSystemOrPerson",
  "untold"
)

/**
 * @since 0.1.0
 * @category models
 */
export type Cause = typeof Cause.Type

/**
 * An attempt as a row has it. Its id begins with the name of its process.
 *
 * @since 0.1.0
 * @category conversions
 */
export const openOf = (
  attemptId: string,
  startedAt: number,
  leaseUntil: number,
  journal: string | null
): OpenAttempt => {
  const [, process] = /^([0-9a-z]{1,16})\./.exec(attemptId) ?? []
  return {
    ...(process === undefined ? {} : { process }),
    startedAt,
    leaseUntil,
    ...(journal === null ? {} : { token: nameOf(journal) })
  }
}
