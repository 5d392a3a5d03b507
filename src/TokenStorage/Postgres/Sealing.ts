/**
 * Between the domain and what is written: a pair becomes one envelope, and a row's columns become a connection again.
 */
import { Effect, Option, Redacted, Schema } from "effect"
import { type Connection, hash, TokenPair, type UserUlid } from "../../Token.js"
import { ReauthorizationCause, TokenUnreadable } from "../../TokenError.js"
import type { ConnectionSummary, Status, StoredConnection } from "../../TokenStorage.js"
import type { KeyRing } from "../../KeyRing.js"
import type { Columns, Sealed } from "./Fragments.js"

const Text = Schema.parseJson(TokenPair)
const encode = Schema.encodeSync(Text)
const decode = Schema.decodeOption(Text)
const isCause = Schema.is(ReauthorizationCause)

/** Seals a user's pair. */
export const seal = (keys: KeyRing["Type"], userUlid: UserUlid, pair: TokenPair): Effect.Effect<Sealed> =>
  Effect.map(keys.seal({ userUlid, purpose: "token-pair" }, Redacted.make(encode(pair))), (envelope) => ({
    envelope,
    refreshHash: hash(pair.refreshToken),
    accessHash: hash(pair.accessToken),
    accessTokenExpiresAt: Math.floor(pair.accessTokenExpiresAt),
    refreshTokenExpiresAt: pair.refreshTokenExpiresAt === undefined ? null : Math.floor(pair.refreshTokenExpiresAt)
  }))

/** Opens a row. A fallback that cannot be opened is left out: it was only ever a second chance. */
export const open = (keys: KeyRing["Type"], row: Columns): Effect.Effect<StoredConnection, TokenUnreadable> =>
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

/** What of a row can be shown without opening it. */
export const summary = (row: Columns): ConnectionSummary => ({
  ...common(row),
  accessTokenExpiresAt: row.access_token_expires_at,
  refreshTokenExpiresAt: row.refresh_token_expires_at ?? undefined
})

const openPair = (keys: KeyRing["Type"], userUlid: UserUlid, envelope: string) =>
  Effect.flatMap(keys.open({ userUlid, purpose: "token-pair" }, envelope), (text) =>
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

const connectionOf = (row: Columns): Connection =>
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
