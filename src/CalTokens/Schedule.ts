/**
 * When a pair is refreshed before anybody waits: some time before it counts as expiring soon, a time of its own for each user, so
 * that tokens which expire together are not refreshed together.
 */
import { createHash } from "node:crypto"
import { Duration, Option } from "effect"
import { type Connection, freshUntil, lifetimeMillis, type TokenPair, type UserUlid } from "../Token.js"
import type { Options } from "../TokenConfig.js"
import type { Schedule } from "../TokenStorage.js"

/** Cal.com does not tell how long OAuth2 refresh tokens live: 30 days (API v2, OAuth service). */
const oauth2Life = Duration.toMillis("30 days")

/** In milliseconds; at most half of what is left of the token. */
const pause = 60_000

/** At most this share of a refresh token's life is given up for not letting it expire. */
const keepFraction = 0.25

/** Where in a window a user's turn is, from 0 to 1: the same each time, and anywhere for users whose names are alike. */
const turnOf = (userUlid: UserUlid): number => createHash("sha256").update(userUlid).digest().readUInt32BE(0) / 2 ** 32

/** When a refresh token is over, where anybody knows. `issuedAt` stands in where the pair does not say. */
export const refreshEnds = (
  { _tag: kind }: Connection,
  pair: TokenPair,
  issuedAt = pair.issuedAt
): number | undefined =>
  pair.refreshTokenExpiresAt ?? (kind === "OAuth2" && issuedAt !== undefined ? issuedAt + oauth2Life : undefined)

/** `now`: Cal.com's time, in milliseconds. */
export const of = (
  config: Pick<Options, "aheadSpread" | "keepAliveMargin" | "windows">,
  userUlid: UserUlid,
  connection: Connection,
  pair: TokenPair,
  now: number
): Schedule => {
  const turn = turnOf(userUlid)
  const issuedAt = Math.min(pair.issuedAt ?? now, now)
  const lifetime = Option.getOrElse(lifetimeMillis(pair), () => Math.max(0, pair.accessTokenExpiresAt - now))
  const ends = refreshEnds(connection, pair, issuedAt)
  const spread = config.aheadSpread * lifetime
  const left = Math.max(0, pair.accessTokenExpiresAt - now)
  return {
    aheadAt: Math.floor(
      // Whatever a new pair is worth, it is not replaced at once.
      Math.max(freshUntil(pair, config.windows) - turn * spread, now + Math.min(pause, left / 2))
    ),
    ...(ends === undefined ? {} : { keepAt: keepAt(config, ends, ends - issuedAt, turn) })
  }
}

const keepAt = ({ keepAliveMargin }: Pick<Options, "keepAliveMargin">, end: number, life: number, turn: number) => {
  const margin = Math.min(Duration.toMillis(keepAliveMargin), Math.max(0, life * keepFraction))
  return Math.floor(end - margin * (0.5 + turn / 2))
}
