/** What a row of another system comes to: a connection, a reason why not, or nothing where a user has none. */
import { Data, Effect, Option, Predicate } from "effect"
import * as Account from "../../CalTokens/Account.js"
import type { ImportRow } from "../../CalTokens.js"
import type { InvalidInput } from "../../TokenError.js"
import * as TokenInput from "../../TokenInput.js"
import type { Columns, Fields, Raw } from "./Source.js"

/** A row that is not imported. Holds no token. */
export interface Rejected {
  readonly place: number
  /** As the source has it, where that can be told. */
  readonly user: string | undefined
  readonly reason: string
}

export type Judged = Data.TaggedEnum<{
  Connection: { readonly place: number; readonly user: string; readonly row: ImportRow }
  Rejected: { readonly rejected: Rejected }
  /** A user who is not connected: many systems keep the columns beside others. */
  None: {}
}>
export const Judged = Data.taggedEnum<Judged>()

export interface Kind {
  readonly kind: "managed" | "oauth2"
  readonly clientId: string | undefined
  readonly columns: Columns
}

/** `now`: Cal.com's time in ms. */
export const judge = (raw: Raw, { clientId, columns, kind }: Kind, now: number): Effect.Effect<Judged> => {
  const { place } = raw
  if (raw._tag === "Unreadable") {
    return Effect.succeed(Judged.Rejected({ rejected: { place, user: undefined, reason: raw.problem } }))
  }
  const it = present(raw.fields)
  if (it.calUser === undefined && it.accessToken === undefined && it.refreshToken === undefined) {
    return Effect.succeed(Judged.None())
  }
  return Effect.gen(function* () {
    const userUlid = yield* TokenInput.userUlid(it.user)
    const accessTokenExpiresAt = instantOf(it.expiry)
    const refreshTokenExpiresAt = instantOf(it.refreshExpiry)
    const calUserId =
      it.calUser === undefined && kind === "oauth2" ? undefined : yield* TokenInput.calUserId(numberOf(it.calUser))
    const tokens = { ...it, accessTokenExpiresAt, refreshTokenExpiresAt }
    const { calUserId: named, pair } = yield* TokenInput.pair(tokens, now)
    yield* Account.sameCalUser(calUserId, named)
    const row: ImportRow = {
      userUlid,
      connection:
        kind === "oauth2"
          ? { _tag: "OAuth2", clientId, calUserId: calUserId ?? Option.getOrUndefined(named) }
          : { _tag: "ManagedUser", clientId, calUserId: yield* TokenInput.calUserId(calUserId) },
      tokens: {
        accessToken: pair.accessToken,
        refreshToken: pair.refreshToken,
        accessTokenExpiresAt: pair.accessTokenExpiresAt,
        refreshTokenExpiresAt: pair.refreshTokenExpiresAt
      }
    }
    return Judged.Connection({ place, user: String(it.user), row })
  }).pipe(
    Effect.catchAll((error) =>
      Effect.succeed(Judged.Rejected({ rejected: { place, user: nameOf(it), reason: `${wordsOf(error, columns)}` } }))
    )
  )
}

/** Without those that are empty, as CSV writes what there is not. */
const present = (fields: Fields): Partial<Fields> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => Predicate.isNotNullable(value) && value !== ""))

/** A token in the wrong column is not told: ids are no longer than a UUID, and tokens are. */
const nameOf = ({ accessToken, refreshToken, user }: Partial<Fields>): string | undefined => {
  const text = typeof user === "number" ? String(user) : user
  return typeof text === "string" && /^[\w.@:+-]{1,36}$/.test(text) && text !== accessToken && text !== refreshToken
    ? text
    : undefined
}

/** In the words of the source. */
const wordsOf = ({ expected, field }: InvalidInput, columns: Columns): string => {
  const names: Readonly<Record<string, string | undefined>> = {
    userUlid: columns.user,
    calUserId: columns.calUser,
    accessToken: columns.accessToken,
    refreshToken: columns.refreshToken,
    accessTokenExpiresAt: columns.expiry,
    refreshTokenExpiresAt: columns.refreshExpiry
  }
  return `${names[field] ?? field} ${expected}`
}

const numberOf = (value: unknown): unknown =>
  typeof value === "string" && /^\d{1,16}$/.test(value.trim()) ? Number(value) : value

/** Seconds since 1970 stay below this for 3,000 years, and milliseconds are above it since 1973. */
const leastMillis = 100_000_000_000

const local = /^(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?) ?(Z|[+-]\d{2}(?::?\d{2})?)?$/i

/**
 * An instant as systems write it: seconds or milliseconds since 1970, ISO 8601, and as PostgreSQL prints it. Without a zone
 * it is UTC. Anything else stays as it is, and is refused as such.
 */
export const instantOf = (value: unknown): unknown => {
  const text = typeof value === "string" ? value.trim() : value
  const number = typeof text === "string" && /^\d{1,16}(\.\d{1,9})?$/.test(text) ? Number(text) : text
  if (typeof number === "number") return number < leastMillis ? number * 1000 : number
  const [, date, time, zone = "Z"] = (typeof text === "string" ? local.exec(text) : null) ?? []
  return date === undefined ? text : `${date}T${time}${/^[+-]\d{2}$/.test(zone) ? `${zone}:00` : zone}`
}
