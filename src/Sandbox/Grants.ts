/** Somebody at Cal.com, and the tokens that they are given. */
import { Redacted } from "effect"
import { type Profile } from "./Users.js"

/**
 * Somebody at Cal.com: the one with this id, else the one with this email address, else a new one.
 *
 * @since 0.1.0
 * @category models
 */
export interface Person extends Partial<Profile> {
  readonly calUserId?: number | undefined
  /** Whose user; default: the first client of the kind. */
  readonly clientId?: string | undefined
}

interface Grant {
  readonly calUserId: number
  /** The event type that bookings of this person are made of: 30 minutes, its slug is `30min`. */
  readonly eventTypeId: number
  readonly accessToken: Redacted.Redacted
  readonly refreshToken: Redacted.Redacted
  /** Milliseconds since the epoch. */
  readonly accessTokenExpiresAt: number
}

/**
 * The tokens of a managed user, as `CalTokens.connect(user, grant.connection, grant)` takes them.
 *
 * @since 0.1.0
 * @category models
 */
export interface ManagedGrant extends Grant {
  readonly connection: { readonly _tag: "ManagedUser"; readonly clientId: string; readonly calUserId: number }
  /** Milliseconds since the epoch. */
  readonly refreshTokenExpiresAt: number
}

/**
 * The tokens of somebody who consented, as `CalTokens.connect(user, grant.connection, grant)` takes them.
 *
 * @since 0.1.0
 * @category models
 */
export interface OAuth2Grant extends Grant {
  readonly connection: {
    readonly _tag: "OAuth2"
    readonly clientId: string
    readonly calUserId: number
    readonly scope: string
  }
  /** Seconds. */
  readonly expiresIn: number
  /** Space-separated. */
  readonly scope: string
}

/**
 * A pair in plain values, as it goes over the wire: what `PUT /api/cal/connections/{userUlid}` takes.
 *
 * @since 0.1.0
 * @category models
 */
export interface PlainGrant {
  readonly kind: "managed" | "oauth2"
  readonly clientId: string
  readonly calUserId: number
  /** The event type that bookings of this person are made of: 30 minutes, its slug is `30min`. */
  readonly eventTypeId: number
  readonly accessToken: string
  readonly refreshToken: string
  /** Milliseconds since the epoch. */
  readonly accessTokenExpiresAt: number
  /** Of managed users. */
  readonly refreshTokenExpiresAt?: number
  /** OAuth2; space-separated. */
  readonly scope?: string
}

export const toPlain = (grant: ManagedGrant | OAuth2Grant): PlainGrant => ({
  kind: grant.connection._tag === "ManagedUser" ? "managed" : "oauth2",
  clientId: grant.connection.clientId,
  calUserId: grant.calUserId,
  eventTypeId: grant.eventTypeId,
  accessToken: Redacted.value(grant.accessToken),
  refreshToken: Redacted.value(grant.refreshToken),
  accessTokenExpiresAt: grant.accessTokenExpiresAt,
  ...("scope" in grant ? { scope: grant.scope } : { refreshTokenExpiresAt: grant.refreshTokenExpiresAt })
})
