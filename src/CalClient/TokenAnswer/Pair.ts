/** The pair that an answer makes, with what was there before where the answer has only one half. */
import { Option, Redacted } from "effect"
import type { TokenPair } from "../../Token.js"
import type { Candidate, Found } from "./Candidates.js"
import { type Context, isSame } from "./Context.js"
import * as Expiry from "./Expiry.js"

const refreshTokenEnd = ({ members }: Found, { issuedAt }: Context): Pick<TokenPair, "refreshTokenExpiresAt"> => {
  const refreshTokenExpiresAt = Expiry.ofRefreshToken(members, issuedAt)
  return refreshTokenExpiresAt === undefined ? {} : { refreshTokenExpiresAt }
}

const accessTokenOf = ({ members }: Found, access: Candidate, { issuedAt }: Context) => ({
  accessToken: Redacted.make(access.text),
  accessTokenExpiresAt: Expiry.ofAccessToken(
    members,
    Option.toArray(access.claims).flatMap(({ expiresAt }) => expiresAt),
    issuedAt
  ),
  issuedAt
})

/** Both tokens are new. */
export const whole = (found: Found, access: Candidate, refresh: Candidate, context: Context): TokenPair => ({
  ...accessTokenOf(found, access, context),
  refreshToken: Redacted.make(refresh.text),
  ...refreshTokenEnd(found, context)
})

/**
 * The stored access token beside a new refresh token. It ends when it ended before, unless no refresh token was sent: a
 * reissue has ended it by now.
 */
export const withStored = (found: Found, refresh: Candidate, stored: TokenPair, context: Context): TokenPair => ({
  accessToken: stored.accessToken,
  accessTokenExpiresAt:
    context.sent === undefined ? Math.min(stored.accessTokenExpiresAt, context.issuedAt) : stored.accessTokenExpiresAt,
  ...(stored.issuedAt === undefined ? {} : { issuedAt: stored.issuedAt }),
  refreshToken: Redacted.make(refresh.text),
  ...refreshTokenEnd(found, context)
})

/** A new access token beside the refresh token that was there before. */
export const withKept = (found: Found, access: Candidate, kept: Redacted.Redacted, context: Context): TokenPair => {
  const { stored } = context
  const end = stored !== undefined && isSame(stored.refreshToken, kept) ? stored.refreshTokenExpiresAt : undefined
  return {
    ...accessTokenOf(found, access, context),
    refreshToken: kept,
    ...(end === undefined ? {} : { refreshTokenExpiresAt: end })
  }
}
