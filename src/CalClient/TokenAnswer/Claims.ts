/**
 * What a new token says about itself, where it is a JWT. Managed tokens carry `type`, `clientId`, `ownerId` (once
 * refreshed `userId` too), `expiresAt` in milliseconds, `iat` in seconds and no `exp`; OAuth2 tokens carry `token_type`,
 * `clientId`, `userId`, `iat` and `exp` in seconds (Cal.com API v2, tokens repository and OAuth service). Nothing is
 * verified: claims can rule a token out, they prove nothing.
 */
import { Option } from "effect"
import type { JWTPayload } from "jose"
import { decodeJwt } from "jose/jwt/decode"

export type Role = "access" | "refresh"

export interface Claims {
  /** What it says it is; `other` for anything that is no access or refresh token. `undefined`: it does not say. */
  readonly role: Role | "other" | undefined
  readonly clientId: string | undefined
  /** The Cal.com users it names; more than one only when something is wrong. */
  readonly calUserIds: ReadonlyArray<number>
  /** Milliseconds since the epoch. */
  readonly issuedAt: number | undefined
  /** Milliseconds since the epoch. */
  readonly expiresAt: ReadonlyArray<number>
}

/** What a token's claims have to agree with. */
export interface Expected {
  readonly clientId: string
  readonly calUserId: number | undefined
  /** When the token was issued that this one replaces, in milliseconds. */
  readonly notBefore: number | undefined
}

/** Why a token is not the one that was asked for. */
export type Fault = "role" | "client" | "user" | "old"

/** Cal.com's servers may disagree by this much about the time at which they issue tokens. */
const clockDifference = 10_000

/** The claims of a JWT; `None` for a token that is none, or that only looks like one. */
export const read = (token: string): Option.Option<Claims> => {
  // An encrypted one has five parts and no claims to see. What is none is not made to fail, for that takes long.
  if (token.split(".", 4).length !== 3) return Option.none()
  const payload = Option.liftThrowable((jwt: string) => decodeJwt(jwt))(token)
  return Option.map(payload, (claims) => ({
    role: roleOf(claims),
    clientId: [claims["clientId"], claims["client_id"]].find((id) => typeof id === "string"),
    calUserIds: [claims["ownerId"], claims["userId"]].flatMap(calUserId),
    issuedAt: finite(claims.iat, 1000)[0],
    expiresAt: [...finite(claims["expiresAt"], 1), ...finite(claims.exp, 1000)]
  }))
}

/** What speaks against a token that was found under the name of `role`. */
export const faultOf = (claims: Claims, role: Role, expected: Expected): Fault | undefined => {
  const { calUserId, clientId, notBefore } = expected
  if (claims.clientId !== undefined && claims.clientId !== clientId) return "client"
  if (claims.calUserIds.some((id) => id !== (calUserId ?? claims.calUserIds[0]))) return "user"
  if (claims.role !== undefined && claims.role !== role) return "role"
  const isOld =
    notBefore !== undefined && claims.issuedAt !== undefined && claims.issuedAt + clockDifference < notBefore
  return isOld ? "old" : undefined
}

const roleOf = (claims: JWTPayload): Claims["role"] => {
  // An ID token of OpenID Connect may say nothing else about what it is.
  if (["at_hash", "c_hash", "nonce"].some((name) => claims[name] !== undefined)) return "other"
  const said = [claims["type"], claims["token_type"]].filter((type) => type !== undefined && type !== null)
  const roles = said.map(
    (type) => roleNames[typeof type === "string" ? type.replace(/[^a-z]/gi, "").toLowerCase() : ""]
  )
  if (roles.length === 0) return undefined
  return roles.every((role) => role === roles[0]) ? (roles[0] ?? "other") : "other"
}

const roleNames: Readonly<Record<string, Role>> = { accesstoken: "access", refreshtoken: "refresh" }

/** An id as number or as digits: one that names somebody else must not be overlooked for its type. */
export const calUserId = (id: unknown): ReadonlyArray<number> => {
  const value = typeof id === "string" && /^\d{1,15}$/.test(id) ? Number(id) : id
  return typeof value === "number" && Number.isSafeInteger(value) && value > 0 ? [value] : []
}

/** Milliseconds from a claim of that unit. */
const finite = (instant: unknown, unit: number): ReadonlyArray<number> =>
  typeof instant === "number" && Number.isFinite(instant) ? [instant * unit] : []
