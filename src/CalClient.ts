/**
 * The Cal.com HTTP client for token endpoints. It speaks Cal.com's two dialects (platform and OAuth2) and says of every
 * failed call what matters to a single-use refresh token: was it spent, was it refused, or can nobody know.
 */
import { Context, Data, type Duration, type Effect, type Option, type Redacted } from "effect"
import type { Headers } from "@effect/platform"
import type { Connection, ManagedUser, TokenPair } from "./Token.js"
import type { TokenError } from "./TokenError.js"

/** A platform client: it owns managed users and authenticates with its secret. */
export interface ManagedClient {
  readonly clientId: string
  readonly clientSecret: Redacted.Redacted
}

/** An OAuth2 client. Without a secret it is a public one, which uses PKCE. */
export interface OAuth2Client {
  readonly clientId: string
  readonly clientSecret?: Redacted.Redacted | undefined
  readonly redirectUrl?: string | undefined
}

export interface Options {
  /** Base of Cal.com's API, with its version: `https://api.cal.com/v2`. */
  readonly apiUrl: string
  readonly managed?: ManagedClient | undefined
  readonly oauth2?: OAuth2Client | undefined
}

/** What a token endpoint granted. */
export interface Grant {
  readonly pair: TokenPair
  /** OAuth2 only. */
  readonly scope?: string | undefined
  /** From the token's own claims; it came straight from the token endpoint. */
  readonly calUserId?: number | undefined
}

/**
 * Why a call to a token endpoint brought no pair.
 *
 * - `NotSpent`: Cal.com did not process it (429, or the connection was never made).
 * - `Rejected`: Cal.com refuses this refresh token.
 * - `UserGone`: the managed user does not exist at Cal.com any more (reissue only).
 * - `ClientWide`: Cal.com refuses the client; the user has nothing to do with it.
 * - `Unknown`: the token may have been spent (5xx, reset, timeout, an answer that does not decode).
 */
export type CallFailure = Data.TaggedEnum<{
  NotSpent: { readonly error: TokenError }
  Rejected: { readonly error: TokenError }
  UserGone: { readonly error: TokenError }
  ClientWide: { readonly error: TokenError }
  Unknown: { readonly error: TokenError }
}>
export const CallFailure = Data.taggedEnum<CallFailure>()

/** How much of Cal.com's rate limit a client has left, from the last answer to one of its token calls. */
export interface RateLimit {
  readonly limit: number
  readonly remaining: number
  /** Until the window ends, or the block, when `remaining` is 0. */
  readonly resetIn: Duration.Duration
}

export interface NewManagedUser {
  readonly email: string
  readonly name: string
  readonly timeZone?: string | undefined
  readonly timeFormat?: 12 | 24 | undefined
  readonly weekStart?: string | undefined
  readonly locale?: string | undefined
  readonly avatarUrl?: string | undefined
  readonly bio?: string | undefined
  readonly metadata?: Readonly<Record<string, string>> | undefined
}

export class CalClient extends Context.Tag("cal-tokens/CalClient")<
  CalClient,
  {
    /** Base of Cal.com's API, without a trailing slash. */
    readonly apiUrl: string
    readonly managedClientId: Option.Option<string>
    readonly oauth2ClientId: Option.Option<string>
    /** Cal.com's time in milliseconds: our clock, corrected by the `Date` header of its answers. */
    readonly now: Effect.Effect<number>
    /** Learns Cal.com's time from the headers of any of its answers. */
    readonly observeDate: (headers: Headers.Headers) => Effect.Effect<void>
    /** What is left of Cal.com's rate limit for a client, while its window lasts. */
    readonly rateLimit: (clientId: string) => Effect.Effect<Option.Option<RateLimit>>
    /** Spends a refresh token. */
    readonly refresh: (connection: Connection, refreshToken: Redacted.Redacted) => Effect.Effect<Grant, CallFailure>
    /** Cal.com's force-refresh: deletes every token of a managed user and grants a new pair. */
    readonly reissue: (connection: ManagedUser) => Effect.Effect<Grant, CallFailure>
    /** Exchanges an authorization code (OAuth2). */
    readonly exchange: (input: {
      readonly code: Redacted.Redacted
      readonly codeVerifier?: Redacted.Redacted | undefined
    }) => Effect.Effect<Grant, TokenError>
    /** Creates a managed user; an existing one with that e-mail address answers its id instead of a pair. */
    readonly createManagedUser: (
      user: NewManagedUser
    ) => Effect.Effect<
      | { readonly _tag: "Created"; readonly calUserId: number; readonly pair: TokenPair }
      | { readonly _tag: "Exists"; readonly calUserId: number },
      TokenError
    >
    /** The profile behind an access token. */
    readonly me: (
      accessToken: Redacted.Redacted
    ) => Effect.Effect<{ readonly id: number; readonly username: string; readonly email: string }, TokenError>
  }
>() {}
