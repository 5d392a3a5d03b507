/**
 * When a granted access token ends. The contracts say it in two ways (`expires_in` in seconds, `accessTokenExpiresAt` in
 * milliseconds), and once Cal.com shipped an answer that said nothing (calcom/cal.diy#24840). A pair is worth more than
 * its expiry: the earliest of everything credible counts, and without any the token is taken to live for a short while.
 */
import { Duration, Option } from "effect"
import { horizon } from "../../Token.js"
import { parseInstant } from "../../TokenInput.js"
import type { Json, Member } from "./Json.js"
import * as Names from "./Names.js"

/** The life of an access token about which nothing is known: long enough to be of use, too short to do harm. */
const assumedLifetime = Duration.toMillis(Duration.minutes(5))

/** Ahead of the answer, and not absurdly far. A token that is fresh from Cal.com has not expired. */
const isCredible = (instant: number, issuedAt: number): boolean => instant > issuedAt && instant <= issuedAt + horizon

/**
 * A value as an instant, in milliseconds. Its name says what it should be; its size says what it is, for seconds from
 * now, seconds since the epoch and milliseconds since the epoch are never credible at once.
 */
const instantOf = (value: Json, isRelative: boolean, issuedAt: number): Option.Option<number> => {
  const number = typeof value === "string" && /^\d+(\.\d+)?$/.test(value) ? Number(value) : value
  const instants =
    typeof number === "number"
      ? isRelative
        ? [issuedAt + number * 1000, number, number * 1000]
        : [number, number * 1000, issuedAt + number * 1000]
      : Option.toArray(parseInstant(number))
  return Option.map(Option.fromNullable(instants.find((instant) => isCredible(instant, issuedAt))), Math.floor)
}

const fields = (
  members: ReadonlyArray<Member>,
  relative: ReadonlySet<string>,
  absolute: ReadonlySet<string>,
  issuedAt: number
): ReadonlyArray<number> =>
  members.flatMap(([name, value]) => {
    const plain = Names.plain(name)
    return relative.has(plain) || absolute.has(plain)
      ? Option.toArray(instantOf(value, relative.has(plain), issuedAt))
      : []
  })

/** The access token's end, by the fields of the answer and the claims of the token. */
export const ofAccessToken = (
  members: ReadonlyArray<Member>,
  claimed: ReadonlyArray<number>,
  issuedAt: number
): number => {
  const said = fields(members, Names.expiresIn, Names.expiresAt, issuedAt)
  const credible = [...said, ...claimed.filter((instant) => isCredible(instant, issuedAt)).map(Math.floor)]
  return credible.length === 0 ? issuedAt + assumedLifetime : Math.min(...credible)
}

/** The refresh token's end, if the answer says it; it is for show, and nothing is refused for it. */
export const ofRefreshToken = (members: ReadonlyArray<Member>, issuedAt: number): number | undefined =>
  fields(members, Names.refreshExpiresIn, Names.refreshExpiresAt, issuedAt)[0]

/** Whether the answer says its access token's end as its contract has it. */
export const isAsContracted = (
  members: ReadonlyArray<Member>,
  kind: "managed" | "oauth2",
  issuedAt: number
): boolean => {
  const value = members.find(([name]) => name === Names.contracts[kind].expiry)?.[1]
  return typeof value === "number" && isCredible(kind === "managed" ? value : issuedAt + value * 1000, issuedAt)
}
