/**
 * What a test may turn while the simulator runs. The defaults are Cal.com as its sources and its own e2e specs describe
 * it; the other values are the readings that its sources leave open, and the mishaps of a real deployment.
 */
import { type Duration, type Redacted } from "effect"

export interface RateLimits {
  /** Off: no counting and no `X-RateLimit-*` headers. Default on. */
  readonly enabled: boolean
  /** Requests per window, by what identifies the caller. Defaults 500, 500, 120. */
  readonly accessToken: number
  readonly client: number
  readonly ip: number
  /** Default 60 seconds. */
  readonly window: Duration.DurationInput
  /** How long a bucket answers 429 once it overflowed. Default 60 seconds. */
  readonly block: Duration.DurationInput
}

/**
 * What can be turned while the simulator runs.
 *
 * @since 0.1.0
 * @category models
 */
export interface Switches {
  /**
   * `L` (default): Cal.com's own line, where an OAuth2 refresh token is single use and answers carry `scope`.
   * `D`: the community fork, where the old refresh token stays usable, answers have no `scope`, and no scope is enforced.
   */
  readonly line: "L" | "D"
  /** How far Cal.com's clock is ahead of Effect's, in milliseconds; negative when it is behind. Default 0. */
  readonly clockSkewMillis: number
  /**
   * A managed refresh token past its year. The code that reads it looks at no expiry, the documentation says to
   * force-refresh. Default `false`: refused as the documentation says.
   */
  readonly expiredRefreshTokenAccepted: boolean
  /**
   * Time between "the refresh token is good" and its rotation, on both refresh endpoints. Two requests inside one window
   * race, as they can at Cal.com, where these are separate steps. Default 0: each refresh is one step.
   */
  readonly raceWindow: Duration.DurationInput
  /** The loser of a managed race: 404 of the database layer (default), or the plain 400 `Invalid refresh token`. */
  readonly managedRaceLoser: "notFound" | "invalid"
  /**
   * The loser of an OAuth2 race: its rotation succeeds too and deletes the winner's token (default), or its token is
   * found to be revoked.
   */
  readonly oauth2RaceLoser: "succeeds" | "revoked"
  /**
   * A dead token on bookings and single event types: 403 of the permission guard, which runs first there (default), or
   * the 401 of the authentication guard.
   */
  readonly deadTokenOnGuardedRoutes: "forbidden" | "unauthorized"
  /** How long a read replica does not know a managed access token that was just issued. Default 0. */
  readonly replicaLag: Duration.DurationInput
  /** The same for a refresh token, on both refresh endpoints. Default 0. */
  readonly refreshReplicaLag: Duration.DurationInput
  /** Every secret of the platform client is refused, as after a rotation that this caller missed. Default `false`. */
  readonly managedSecretRejected: boolean
  /** The same for OAuth2 client secrets. Default `false`. */
  readonly oauth2SecretRejected: boolean
  /** Client secrets that were revoked: refused at once, while every token lives on. Default: none. */
  readonly revokedSecrets: ReadonlyArray<Redacted.Redacted>
  /** Approval of the OAuth2 clients; editing a client can send it back to `PENDING`. Default `APPROVED`. */
  readonly oauth2ClientStatus: "APPROVED" | "PENDING" | "REJECTED"
  readonly rateLimits: RateLimits
}

/**
 * Cal.com as its sources describe it.
 *
 * @since 0.1.0
 * @category constants
 */
export const defaults: Switches = {
  line: "L",
  clockSkewMillis: 0,
  expiredRefreshTokenAccepted: false,
  raceWindow: 0,
  managedRaceLoser: "notFound",
  oauth2RaceLoser: "succeeds",
  deadTokenOnGuardedRoutes: "forbidden",
  replicaLag: 0,
  refreshReplicaLag: 0,
  managedSecretRejected: false,
  oauth2SecretRejected: false,
  revokedSecrets: [],
  oauth2ClientStatus: "APPROVED",
  rateLimits: { enabled: true, accessToken: 500, client: 500, ip: 120, window: "60 seconds", block: "60 seconds" }
}
