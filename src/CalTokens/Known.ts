/**
 * What is known of a user's row. Of one that is stored, the refresh token is not kept: it is of use only to who has a claim,
 * and comes with that. Of one that is stored nowhere else, everything is.
 */
import { type Access, hash, isSameAccessToken, type TokenPair } from "../Token.js"
import type { StoredConnection } from "../TokenStorage.js"

export interface Known extends Omit<StoredConnection, "pair"> {
  readonly pair: TokenPair | KnownPair
}

interface KnownPair extends Access {
  /** Tells the pair from another one. */
  readonly refreshTokenHash: string
}

/** An object of its own: rows come with much that is for claims. */
export const withoutRefreshToken = ({ handedOutAt, pair, ...row }: Known): Known => ({
  userUlid: row.userUlid,
  connection: row.connection,
  pair: {
    accessToken: pair.accessToken,
    accessTokenExpiresAt: pair.accessTokenExpiresAt,
    ...(pair.issuedAt === undefined ? {} : { issuedAt: pair.issuedAt }),
    ...(pair.refreshTokenExpiresAt === undefined ? {} : { refreshTokenExpiresAt: pair.refreshTokenExpiresAt }),
    refreshTokenHash: hashOf(pair)
  },
  status: row.status,
  version: row.version,
  sessionsAfter: row.sessionsAfter,
  updatedAt: row.updatedAt,
  ...(handedOutAt === undefined ? {} : { handedOutAt })
})

const hashOf = (pair: Known["pair"]): string =>
  "refreshToken" in pair ? hash(pair.refreshToken) : pair.refreshTokenHash

/** The same as that of two whole pairs. */
export const isSamePair = (one: Known["pair"], other: Known["pair"]): boolean =>
  hashOf(one) === hashOf(other) && isSameAccessToken(one, other)
