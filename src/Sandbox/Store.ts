/**
 * Cal.com's database, as far as tokens need one: plain maps that are changed in synchronous steps, and their JSON form.
 */
import { randomBytes } from "node:crypto"
import { Schema } from "effect"

const Id = Schema.Int

export const User = Schema.Struct({
  id: Id,
  email: Schema.String,
  username: Schema.String,
  name: Schema.String,
  bio: Schema.NullOr(Schema.String),
  timeZone: Schema.String,
  weekStart: Schema.String,
  createdAt: Schema.Number,
  timeFormat: Schema.Number,
  defaultScheduleId: Schema.NullOr(Id),
  locale: Schema.String,
  avatarUrl: Schema.NullOr(Schema.String),
  metadata: Schema.Record({ key: Schema.String, value: Schema.Unknown }),
  /** The platform client that created this user; null for people with an account of their own. */
  managedBy: Schema.NullOr(Schema.String)
})
export type User = typeof User.Type

/** A row that stands for a token: managed tokens by themselves, OAuth2 refresh tokens by their `secret` claim. */
export const TokenRow = Schema.Struct({
  token: Schema.String,
  clientId: Schema.String,
  userId: Id,
  expiresAt: Schema.Number,
  createdAt: Schema.Number
})
export type TokenRow = typeof TokenRow.Type

export const Code = Schema.Struct({
  code: Schema.String,
  clientId: Schema.String,
  userId: Id,
  scope: Schema.Array(Schema.String),
  codeChallenge: Schema.NullOr(Schema.String),
  expiresAt: Schema.Number
})
export type Code = typeof Code.Type

export const Booking = Schema.Struct({
  id: Id,
  uid: Schema.String,
  userId: Id,
  eventTypeId: Id,
  start: Schema.Number,
  attendee: Schema.Struct({ name: Schema.String, email: Schema.String, timeZone: Schema.String }),
  createdAt: Schema.Number
})
export type Booking = typeof Booking.Type

/**
 * Everything a simulator needs to continue where another one stopped. Holds tokens and the signing key in clear.
 *
 * @since 0.1.0
 * @category schemas
 */
export const Snapshot = Schema.Struct({
  version: Schema.Literal(1),
  signingKey: Schema.String,
  nextId: Id,
  users: Schema.Array(User),
  accessTokens: Schema.Array(TokenRow),
  refreshTokens: Schema.Array(TokenRow),
  oauth2RefreshTokens: Schema.Array(TokenRow),
  oauth2AccessTokens: Schema.Array(TokenRow),
  oauth2Revoked: Schema.Array(Schema.String),
  codes: Schema.Array(Code),
  bookings: Schema.Array(Booking)
})
export type Snapshot = typeof Snapshot.Type

/** Rows by token, with the tokens of one user at hand. */
export interface Table {
  readonly get: (token: string) => TokenRow | undefined
  readonly set: (row: TokenRow) => void
  readonly remove: (token: string) => boolean
  readonly ofUser: (userId: number) => ReadonlyArray<TokenRow>
  readonly values: () => Iterable<TokenRow>
  readonly expired: (now: number) => ReadonlyArray<TokenRow>
}

export interface Store {
  readonly signingKey: string
  readonly nextId: () => number
  readonly users: Map<number, User>
  readonly userByEmail: (email: string) => User | undefined
  readonly putUser: (user: User) => User
  readonly removeUser: (userId: number) => void
  /** Managed access tokens: an expired row that is still here answers 498, a missing one 401. */
  readonly access: Table
  readonly refresh: Table
  /** OAuth2 refresh tokens. */
  readonly grants: Table
  /** OAuth2 access tokens that were handed out. Cal.com keeps no such list; `expireAccessTokens` needs one. */
  readonly stateless: Table
  /** OAuth2 access tokens that count as expired before their time. */
  readonly revoked: Set<string>
  readonly codes: Map<string, Code>
  readonly bookings: Array<Booking>
  /** Cal.com's Redis: managed access tokens that were accepted once, until they expire. Not part of a snapshot. */
  readonly validated: Map<string, number>
  readonly snapshot: () => Snapshot
}

export const make = (initial: Snapshot | undefined): Store => {
  const signingKey = initial?.signingKey ?? randomBytes(32).toString("base64url")
  let lastId = (initial?.nextId ?? 1000) - 1
  const users = new Map<number, User>()
  const idByEmail = new Map<string, number>()
  const access = makeTable(initial?.accessTokens)
  const refresh = makeTable(initial?.refreshTokens)
  const grants = makeTable(initial?.oauth2RefreshTokens)
  const stateless = makeTable(initial?.oauth2AccessTokens)
  const revoked = new Set(initial?.oauth2Revoked)
  const codes = new Map(initial?.codes.map((code) => [code.code, code]))
  const bookings = [...(initial?.bookings ?? [])]

  const putUser = (user: User) => {
    const before = users.get(user.id)
    if (before !== undefined) idByEmail.delete(before.email.toLowerCase())
    users.set(user.id, user)
    idByEmail.set(user.email.toLowerCase(), user.id)
    return user
  }
  initial?.users.forEach(putUser)

  return {
    signingKey,
    nextId: () => ++lastId,
    users,
    userByEmail: (email) => {
      const id = idByEmail.get(email.toLowerCase())
      return id === undefined ? undefined : users.get(id)
    },
    putUser,
    removeUser: (userId) => {
      const user = users.get(userId)
      if (user !== undefined) idByEmail.delete(user.email.toLowerCase())
      users.delete(userId)
      for (const table of [access, refresh, grants]) removeAll(table, table.ofUser(userId))
      for (const code of codes.values()) if (code.userId === userId) codes.delete(code.code)
    },
    access,
    refresh,
    grants,
    stateless,
    revoked,
    codes,
    bookings,
    validated: new Map(),
    snapshot: () => ({
      version: 1,
      signingKey,
      nextId: lastId + 1,
      users: [...users.values()],
      accessTokens: [...access.values()],
      refreshTokens: [...refresh.values()],
      oauth2RefreshTokens: [...grants.values()],
      oauth2AccessTokens: [...stateless.values()],
      oauth2Revoked: [...revoked],
      codes: [...codes.values()],
      bookings: [...bookings]
    })
  }
}

/** Removes these rows; the array may be a view that was taken before. */
export const removeAll = (table: Table, rows: ReadonlyArray<TokenRow>): void => {
  for (const row of rows) table.remove(row.token)
}

const makeTable = (rows: ReadonlyArray<TokenRow> = []): Table => {
  const byToken = new Map<string, TokenRow>()
  const byUser = new Map<number, Set<string>>()
  // No row expires before this instant, so that most purges need not look at all.
  let earliest = Infinity
  const set = (row: TokenRow) => {
    earliest = Math.min(earliest, row.expiresAt)
    byToken.set(row.token, row)
    const tokens = byUser.get(row.userId)
    if (tokens === undefined) byUser.set(row.userId, new Set([row.token]))
    else tokens.add(row.token)
  }
  rows.forEach(set)
  return {
    get: (token) => byToken.get(token),
    set,
    remove: (token) => {
      const row = byToken.get(token)
      if (row === undefined) return false
      byUser.get(row.userId)?.delete(token)
      return byToken.delete(token)
    },
    ofUser: (userId) => [...(byUser.get(userId) ?? [])].flatMap((token) => byToken.get(token) ?? []),
    values: () => byToken.values(),
    expired: (now) => {
      if (now < earliest) return []
      const rows = [...byToken.values()].filter((row) => row.expiresAt <= now)
      earliest = rows.length === 0 ? Infinity : now
      if (rows.length === 0) for (const row of byToken.values()) earliest = Math.min(earliest, row.expiresAt)
      return rows
    }
  }
}
