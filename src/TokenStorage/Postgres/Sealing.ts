/**
 * Between the domain and what is written: a pair becomes one envelope, and a row's columns become a connection again.
 */
import { Effect, Option, Redacted, Schema } from "effect"
import { Connection, hash, TokenPair, type UserUlid } from "../../Token.js"
import { ReauthorizationCause, TokenUnreadable } from "../../TokenError.js"
import type {
  ConnectionSummary,
  NewSealedAnswer,
  SealedAnswer,
  Status,
  StoredConnection,
  StoredRow
} from "../../TokenStorage.js"
import type { KeyRing } from "../../KeyRing.js"

/** A pair as it is written, in the order of the functions' parameters: sealed, with what is compared or listed beside it. */
export type Sealed = readonly [
  envelope: string,
  refreshHash: string,
  accessHash: string,
  accessTokenExpiresAt: number,
  refreshTokenExpiresAt: number | null
]

/** Of which Cal.com account a row is. */
export type Account = Pick<Columns, "kind" | "client_id" | "cal_user_id" | "scope">

/** What the database answers of a row: counts and instants as numbers. */
export interface Columns {
  readonly user_ulid: UserUlid
  readonly kind: Connection["_tag"]
  readonly client_id: string
  readonly cal_user_id: number | null
  readonly scope: string | null
  /** Null when whoever asked has it. */
  readonly pair: string | null
  readonly fallbacks: ReadonlyArray<{ readonly hash: string; readonly pair: string }>
  readonly version: number
  readonly status: "active" | "reauthorization_required"
  readonly cause: string | null
  readonly since: number | null
  readonly updated_at: number
  readonly access_token_expires_at: number
  readonly refresh_token_expires_at: number | null
}

const Text = Schema.parseJson(TokenPair)
const encode = Schema.encodeSync(Text)
const decode = Schema.decodeOption(Text)
const isCause = Schema.is(ReauthorizationCause)

/** Seals a user's pair. */
export const seal = (keys: KeyRing["Type"], userUlid: UserUlid, pair: TokenPair): Effect.Effect<Sealed> =>
  Effect.map(keys.seal({ userUlid, purpose: "token-pair" }, Redacted.make(encode(pair))), (envelope) => [
    envelope,
    hash(pair.refreshToken),
    hash(pair.accessToken),
    Math.floor(pair.accessTokenExpiresAt),
    pair.refreshTokenExpiresAt === undefined ? null : Math.floor(pair.refreshTokenExpiresAt)
  ])

/** Opens a row. A fallback that cannot be opened is left out: it was only ever a second chance. */
export const open = (keys: KeyRing["Type"], row: Columns): Effect.Effect<StoredRow, TokenUnreadable> =>
  Effect.gen(function* () {
    const pair = yield* openPair(keys, row.user_ulid, row.pair)
    const fallbacks = yield* Effect.forEach(row.fallbacks, (fallback) =>
      openPair(keys, row.user_ulid, fallback.pair).pipe(
        Effect.asSome,
        Effect.catchAll(({ reason }) =>
          Effect.as(
            Effect.logWarning("A fallback token pair cannot be decrypted and is left out").pipe(
              Effect.annotateLogs({ userUlid: row.user_ulid, reason })
            ),
            Option.none<TokenPair>()
          )
        )
      )
    )
    return { ...common(row), pair, fallbacks: fallbacks.flatMap(Option.toArray) }
  })

/** The row around a pair that is at hand; another one is opened. */
export const around = (
  keys: KeyRing["Type"],
  row: Columns,
  own: TokenPair
): Effect.Effect<StoredConnection, TokenUnreadable> =>
  Effect.map(row.pair === null ? Effect.succeed(own) : openPair(keys, row.user_ulid, row.pair), (pair) => ({
    ...common(row),
    pair
  }))

/** What the database answers of a sealed answer. */
export interface SealedColumns {
  readonly spent_hash: string
  readonly at: number
  readonly envelope: string
}

const Answer = Schema.parseJson(
  Schema.Struct({
    operation: Schema.Literal("refresh", "reissue"),
    connection: Connection,
    answer: Schema.Redacted(Schema.Uint8ArrayFromBase64),
    issuedAt: Schema.Number,
    isWhole: Schema.Boolean
  })
)
const encodeAnswer = Schema.encodeSync(Answer)
const decodeAnswer = Schema.decodeOption(Answer)

/** Seals an answer that nobody could read. */
export const sealAnswer = (keys: KeyRing["Type"], userUlid: UserUlid, answer: NewSealedAnswer): Effect.Effect<string> =>
  keys.seal({ userUlid, purpose: "sealed-answer" }, Redacted.make(encodeAnswer(answer)))

/** Opens it again; one that the keys do not open is left for a process that has the key. */
export const openAnswer = (
  keys: KeyRing["Type"],
  userUlid: UserUlid,
  { at, envelope, spent_hash: spentHash }: SealedColumns
): Effect.Effect<Option.Option<SealedAnswer>> =>
  keys.open({ userUlid, purpose: "sealed-answer" }, envelope).pipe(
    Effect.map((text) =>
      Option.map(decodeAnswer(Redacted.value(text)), (answer): SealedAnswer => ({ ...answer, spentHash, at }))
    ),
    Effect.catchAll(() => Effect.succeedNone)
  )

/** What of a row can be shown without opening it. */
export const summary = (row: Columns): ConnectionSummary => ({
  ...common(row),
  accessTokenExpiresAt: row.access_token_expires_at,
  refreshTokenExpiresAt: row.refresh_token_expires_at ?? undefined
})

const openPair = (keys: KeyRing["Type"], userUlid: UserUlid, envelope: string | null) =>
  Effect.flatMap(keys.open({ userUlid, purpose: "token-pair" }, envelope ?? ""), (text) =>
    // A parse error would quote the tokens.
    Effect.mapError(decode(Redacted.value(text)), () => new TokenUnreadable({ userUlid, reason: "not a token pair" }))
  )

const common = (row: Columns) => ({
  userUlid: row.user_ulid,
  connection: connectionOf(row),
  status: statusOf(row),
  version: row.version,
  updatedAt: row.updated_at
})

export const connectionOf = (row: Account): Connection =>
  row.kind === "ManagedUser" && row.cal_user_id !== null
    ? { _tag: "ManagedUser", clientId: row.client_id, calUserId: row.cal_user_id }
    : {
        _tag: "OAuth2",
        clientId: row.client_id,
        ...(row.cal_user_id === null ? {} : { calUserId: row.cal_user_id }),
        ...(row.scope === null ? {} : { scope: row.scope })
      }

const statusOf = (row: Columns): Status =>
  row.status === "active"
    ? { _tag: "Active" }
    : {
        _tag: "ReauthorizationRequired",
        cause: isCause(row.cause) ? row.cause : "revoked",
        since: row.since ?? row.updated_at
      }
