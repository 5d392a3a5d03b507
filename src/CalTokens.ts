/**
 * The product: a Cal.com access token that is always valid. Any number of callers in any number of processes may ask at
 * once; per expiry there is one refresh, and everybody gets its result.
 */
import { Context, Data, type Duration, type Effect, type Redacted, type Stream } from "effect"
import type { Connection, UserUlid } from "./Token.js"
import type { ReauthorizationCause, TokenError } from "./TokenError.js"
import type { PairInput } from "./TokenInput.js"
import type { StoredConnection } from "./TokenStorage.js"

/** An access token that Cal.com accepts, as far as anybody can know. */
export interface ValidToken {
  readonly accessToken: Redacted.Redacted
  /** Milliseconds since the epoch, in Cal.com's time. */
  readonly expiresAt: number
  /** Grows with every stored pair. */
  readonly version: number
  /** Whether this call was answered by a refresh, its own or one it joined. */
  readonly refreshed: boolean
}

/** A connection as `connect` takes it; the client id defaults to the configured one of that kind. */
export type NewConnection =
  | { readonly _tag: "ManagedUser"; readonly clientId?: string | undefined; readonly calUserId: number }
  | {
      readonly _tag: "OAuth2"
      readonly clientId?: string | undefined
      readonly calUserId?: number | undefined
      readonly scope?: string | undefined
    }

/** What may be told about a connection: no tokens. Instants are milliseconds since the epoch. */
export interface ConnectionInfo {
  readonly userUlid: UserUlid
  readonly connection: Connection
  readonly status: StoredConnection["status"]
  readonly isExpired: boolean
  readonly isExpiringSoon: boolean
  readonly accessTokenExpiresAt: number
  readonly refreshTokenExpiresAt?: number | undefined
  readonly version: number
  readonly updatedAt: number
}

/** A stored change of one user's tokens. No tokens in it. */
export interface TokenChange {
  readonly userUlid: UserUlid
  readonly kind: "connected" | "updated" | "refreshed" | "reissued" | "disconnected" | "reauthorizationRequired"
  /** Milliseconds since the epoch. */
  readonly at: number
  /** The row's version after the change. */
  readonly version?: number | undefined
  /** Why a reconnect is needed. */
  readonly cause?: ReauthorizationCause | undefined
}

/** Cal.com's refusal of an access token. */
export interface Refusal {
  readonly accessToken: Redacted.Redacted
  /** The HTTP status: 498, 401 or 403. */
  readonly status: number
}

/** What to do with a request whose token Cal.com refused. */
export type Advice = Data.TaggedEnum<{
  /** Send the request once more with this token, after the delay. */
  Retry: { readonly token: ValidToken; readonly delay: Duration.Duration }
  /** No refresh can cure it: Cal.com's answer is the caller's. */
  GiveUp: {}
}>
export const Advice = Data.taggedEnum<Advice>()

export interface EnsureOptions {
  /** Refresh regardless of age; joins a running refresh and obeys the cooldown. */
  readonly forceRefresh?: boolean | undefined
}

export interface RefreshOptions extends EnsureOptions {
  /** Managed users: have Cal.com issue a new pair with the client secret. Every older token of the user dies. */
  readonly reissue?: boolean | undefined
}

export class CalTokens extends Context.Tag("cal-tokens/CalTokens")<
  CalTokens,
  {
    /**
     * A valid access token. Fresh: at once. Expiring soon: at once, refreshed behind the caller's back. Due: waits a
     * little for the refresh, then still answers the valid token. Expired: waits for the refresh and fails if that fails.
     */
    readonly ensureValid: (userUlid: UserUlid, options?: EnsureOptions) => Effect.Effect<ValidToken, TokenError>
    /** Refreshes a token that is expiring soon or expired, any token if forced; `refreshed` says whether it did. */
    readonly refresh: (userUlid: UserUlid, options?: RefreshOptions) => Effect.Effect<ValidToken, TokenError>
    /** Cal.com refused this token: compares it with the stored one, refreshes if that can help, and advises. */
    readonly reportRejected: (userUlid: UserUlid, refusal: Refusal) => Effect.Effect<Advice, TokenError>
    /** Stores a new connection. `replace` takes the Cal.com account from another user. */
    readonly connect: (
      userUlid: UserUlid,
      connection: NewConnection,
      pair: PairInput,
      options?: { readonly replace?: boolean | undefined }
    ) => Effect.Effect<ConnectionInfo, TokenError>
    /** Stores a new pair of the same Cal.com account. */
    readonly update: (userUlid: UserUlid, pair: PairInput) => Effect.Effect<ConnectionInfo, TokenError>
    /** Forgets a user; fails with `TokensNotFound` when there is no connection. */
    readonly disconnect: (userUlid: UserUlid) => Effect.Effect<void, TokenError>
    /** What is known about a connection, without tokens. */
    readonly info: (userUlid: UserUlid) => Effect.Effect<ConnectionInfo, TokenError>
    /** Changes made by this process from now on. A slow reader loses the oldest. */
    readonly changes: Stream.Stream<TokenChange>
  }
>() {}
