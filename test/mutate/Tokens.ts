/** Tokens as Cal.com makes them, and what the two sides have before an answer comes. */
import type { Prng } from "../simulation/Prng.js"

export type Kind = "managed" | "oauth2"
export type Role = "access" | "refresh"

/** Every answer of a run is of this second. */
export const now = Date.UTC(2026, 10, 26, 12, 0, 0)

const minute = 60_000
const day = 24 * 60 * minute

export const clientIds = { managed: "platform-client", oauth2: "oauth2-client" } as const

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

/** So many characters of base64url. */
export const letters = (prng: Prng, length: number): string =>
  Array.from({ length }, () => alphabet.charAt(prng.int(0, alphabet.length - 1))).join("")

const base64 = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url")

export const jwt = (prng: Prng, claims: object): string =>
  `${base64({ alg: "HS256", typ: "JWT" })}.${base64(claims)}.${letters(prng, 43)}`

const lifetimes = {
  managed: { access: 59 * minute, refresh: 364 * day },
  oauth2: { access: 30 * minute, refresh: 30 * day }
} as const

/** When a token with its contract's claims ends. */
export const endOf = (kind: Kind, role: Role, issuedAt: number): number => issuedAt + lifetimes[kind][role]

/** A token with its contract's claims, and with changes to them. */
export const token = (
  prng: Prng,
  kind: Kind,
  role: Role,
  owner: { readonly userId: number; readonly issuedAt: number },
  changes: object = {}
): string => {
  const clientId = clientIds[kind]
  const iat = Math.floor(owner.issuedAt / 1000)
  const end = endOf(kind, role, owner.issuedAt)
  return jwt(
    prng,
    kind === "managed"
      ? {
          type: `${role}_token`,
          clientId,
          ownerId: owner.userId,
          expiresAt: end,
          jti: letters(prng, 8),
          iat,
          ...changes
        }
      : {
          userId: owner.userId,
          teamId: null,
          scope: ["BOOKING_READ"],
          token_type: role === "access" ? "Access Token" : "Refresh Token",
          clientId,
          secret: letters(prng, 8),
          iat,
          exp: Math.floor(end / 1000),
          ...changes
        }
  )
}

export interface Pair {
  readonly access: string
  readonly refresh: string
}

export interface Before {
  readonly kind: Kind
  readonly operation: "refresh" | "reissue"
  readonly userId: number
  /** An OAuth2 connection may not say whose it is. */
  readonly isNameless: boolean
  readonly issuedAt: number
  /** The pair of the row. */
  readonly stored: Pair
  readonly fallback: string
  /** The row's refresh token, or the fallback; none for a reissue. */
  readonly sent: string | undefined
}

export const draw = (prng: Prng): Before => {
  const kind = prng.pick(["managed", "oauth2"] as const)
  const operation = kind === "managed" && prng.chance(0.2) ? "reissue" : "refresh"
  const userId = prng.int(1, 1_000_000)
  const issuedAt = now - prng.int(60, 20 * 86_400) * 1000
  const owner = { userId, issuedAt }
  const stored = { access: token(prng, kind, "access", owner), refresh: token(prng, kind, "refresh", owner) }
  const fallback = token(prng, kind, "refresh", { userId, issuedAt: issuedAt - prng.int(0, 86_400) * 1000 })
  return {
    kind,
    operation,
    userId,
    isNameless: kind === "oauth2" && prng.chance(0.3),
    issuedAt,
    stored,
    fallback,
    sent: operation === "reissue" ? undefined : prng.chance(0.1) ? fallback : stored.refresh
  }
}
