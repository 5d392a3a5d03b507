/**
 * By which access tokens a user is found. Only tokens that Cal.com gave this service are among them: one that was handed
 * in may be of anybody's choice. A refresh adds its own and keeps those before it for a while; whatever else changes a
 * pair ends them all, so that a token that leaked buys nothing any more.
 */
import { Option, Order } from "effect"
import { hash, type TokenPair } from "../Token.js"

/** A token of a user, by 128 bits of its SHA-256. */
export interface Lookup {
  readonly key: string
  /** When a refresh replaced it, in ms since the epoch, in Cal.com's time; `null` for the row's own. */
  readonly supersededAt: number | null
}

/** The row's own token first, if it is one of them, then those before it, newest first. Empty: nothing finds the user. */
export type Lookups = ReadonlyArray<Lookup>

/** A superseded access token names its user for this long, and at most so many of them do. */
export const superseded = { millis: 60 * 60_000, tokens: 5 } as const

/** So many users of one access token are looked at, those whose pairs were stored last. */
export const maxUsers = 10

export const keyOf = (accessHash: string): string => accessHash.slice(0, 32)

const keyOfPair = ({ accessToken }: TokenPair): string => keyOf(hash(accessToken))

/** Those of a pair that Cal.com gave out just now: none before it counts. */
export const granted = (pair: TokenPair): Lookups => [{ key: keyOfPair(pair), supersededAt: null }]

/** Those after a refresh. One that brought no new access token changes none. */
export const refreshed = (
  row: { readonly pair: TokenPair; readonly lookups: Lookups },
  pair: TokenPair,
  at: number
): Lookups => {
  const [own] = granted(pair)
  if (own === undefined || own.key === keyOfPair(row.pair)) return row.lookups
  const before = row.lookups
    .filter(({ key }) => key !== own.key)
    .map(({ key, supersededAt }) => ({ key, supersededAt: supersededAt ?? at }))
  return [own, ...before.filter(isRecent(at)).slice(0, superseded.tokens)]
}

export const isRecent =
  (now: number) =>
  ({ supersededAt }: Lookup): boolean =>
    supersededAt === null || now - supersededAt < superseded.millis

/** What a token with this hash is to a user. */
const find = (lookups: Lookups, accessHash: string): Option.Option<Lookup> =>
  Option.fromNullable(lookups.find(({ key }) => key === keyOf(accessHash)))

/** As text, the same for the same look-ups. */
export const encode = (lookups: Lookups): string => JSON.stringify(lookups.map((each) => [each.key, each.supersededAt]))

const parse = (text: string): Lookups =>
  (JSON.parse(text) as ReadonlyArray<readonly [string, number | null]>).map(([key, supersededAt]): Lookup => ({
    key,
    supersededAt
  }))

/** Of what {@link encode} made. */
export const keysOf = (text: string): ReadonlyArray<string> => parse(text).map(({ key }) => key)

/** What {@link encode} made, if it is about this pair: the row's own token is what the rest hangs on. */
export const decode = (text: string, pair: TokenPair): Lookups => {
  const lookups = parse(text)
  return lookups[0]?.key === keyOfPair(pair) ? lookups : []
}

/**
 * Of the users whom a token finds: who has it now comes first, then who had it last, then whose pair was stored last.
 */
export const latest = <R extends { readonly lookups: Lookups; readonly version: number }>(
  rows: ReadonlyArray<R>,
  accessHash: string
): Option.Option<{ readonly row: R; readonly lookup: Lookup }> =>
  Option.fromNullable(
    [...rows]
      .sort((a, b) => b.version - a.version)
      .slice(0, maxUsers)
      .flatMap((row) => Option.toArray(Option.map(find(row.lookups, accessHash), (lookup) => ({ row, lookup }))))
      .sort((a, b) => Order.number(heldUntil(b.lookup), heldUntil(a.lookup)))[0]
  )

const heldUntil = ({ supersededAt }: Lookup): number => supersededAt ?? Infinity
