/** Answers of token endpoints with tokens that say what Cal.com's say, and what a reading of them is. */
import { Redacted } from "effect"
import { assert } from "vitest"
import * as TokenAnswer from "../../src/CalClient/TokenAnswer.js"

export type Kind = "managed" | "oauth2"
export type Role = "access" | "refresh"

export const now = Date.UTC(2026, 2, 14, 9, 26, 53)
export const minute = 60_000
export const year = 364 * 24 * 60 * minute
export const seconds = (instant: number) => Math.floor(instant / 1000)

let serial = 0
export const jwt = (claims: object) =>
  ["eyJhbGciOiJIUzI1NiJ9", Buffer.from(JSON.stringify(claims)).toString("base64url"), `sig${++serial}`].join(".")

/** A token with the claims of its contract. */
export const token = (kind: Kind, role: Role, changes: object = {}, issuedAt = now) =>
  kind === "managed"
    ? jwt({
        type: `${role}_token`,
        clientId: "C",
        ownerId: 7,
        expiresAt: issuedAt + (role === "access" ? 59 * minute : year),
        iat: seconds(issuedAt),
        ...changes
      })
    : jwt({
        userId: 7,
        teamId: null,
        scope: ["BOOKING_READ"],
        token_type: role === "access" ? "Access Token" : "Refresh Token",
        clientId: "K",
        iat: seconds(issuedAt),
        exp: seconds(issuedAt) + (role === "access" ? 1800 : 30 * 86_400),
        ...changes
      })

export const before = now - 3_600_000
const pairBefore = (kind: Kind) => ({
  accessToken: Redacted.make(token(kind, "access", {}, before)),
  refreshToken: Redacted.make(token(kind, "refresh", {}, before)),
  accessTokenExpiresAt: before + 59 * minute,
  issuedAt: before,
  refreshTokenExpiresAt: before + year
})
export const stored = { managed: pairBefore("managed"), oauth2: pairBefore("oauth2") }
export const sent = (kind: Kind) => Redacted.value(stored[kind].refreshToken)

export const access = { managed: token("managed", "access"), oauth2: token("oauth2", "access") }
export const refresh = { managed: token("managed", "refresh"), oauth2: token("oauth2", "refresh") }

/** The fields of each contract. */
export const fields = {
  managed: (kind: Kind) => ({
    accessToken: access[kind],
    refreshToken: refresh[kind],
    accessTokenExpiresAt: now + 59 * minute,
    refreshTokenExpiresAt: now + year
  }),
  oauth2: (kind: Kind) => ({
    access_token: access[kind],
    token_type: "bearer",
    refresh_token: refresh[kind],
    expires_in: 1800,
    scope: "BOOKING_READ"
  })
}
export const m = (changes: object = {}) => ({ status: "success", data: { ...fields.managed("managed"), ...changes } })
export const o = (changes: object = {}) => ({ ...fields.oauth2("oauth2"), ...changes })
export const without = (value: object, ...names: ReadonlyArray<string>) =>
  Object.fromEntries(Object.entries(value).filter(([name]) => !names.includes(name)))

export const context = (kind: Kind, changes: Partial<TokenAnswer.Context> = {}): TokenAnswer.Context => ({
  kind,
  clientId: kind === "managed" ? "C" : "K",
  calUserId: 7,
  stored: stored[kind],
  sent: stored[kind].refreshToken,
  issuedAt: now,
  isWhole: true,
  ...changes
})

export const bytes = (body: unknown) => Buffer.from(typeof body === "string" ? body : JSON.stringify(body))

export const read = (kind: Kind, body: unknown, changes?: Partial<TokenAnswer.Context>) =>
  TokenAnswer.read(bytes(body), context(kind, changes))

export const granted = (reading: TokenAnswer.Reading): TokenAnswer.Grant => {
  if (reading._tag === "Granted") return reading.grant
  assert.fail(reading._tag === "Unreadable" ? reading.answer.reason : reading._tag)
}

export const shown = (reading: TokenAnswer.Reading) => {
  const { departures, news, pair, unread } = granted(reading)
  return {
    news,
    access: Redacted.value(pair.accessToken),
    refresh: Redacted.value(pair.refreshToken),
    minutes: (pair.accessTokenExpiresAt - now) / minute,
    departures,
    ...(unread === undefined ? {} : { unread: `${unread.reason} (${unread.drift})` })
  }
}

export const refused = (reading: TokenAnswer.Reading) => {
  if (reading._tag === "Granted") assert.fail(`granted ${JSON.stringify(shown(reading))}`)
  return reading._tag === "BrokenOff" ? "broke off" : `${reading.answer.reason} (${reading.answer.drift})`
}

export const whole = (kind: Kind) => ({ news: "pair" as const, access: access[kind], refresh: refresh[kind] })
