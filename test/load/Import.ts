/** Users by the thousand, stored as the service stores whoever connects: by its own function in the database, in batches. */
import { SqlClient } from "@effect/sql"
import { Effect, Redacted } from "effect"
import type { KeyRing } from "../../src/KeyRing.js"
import { type Connection, hash, type TokenPair, type UserUlid } from "../../src/Token.js"
import * as Schedule from "../../src/CalTokens/Schedule.js"
import { defaults } from "../../src/TokenConfig.js"
import * as Lookups from "../../src/TokenStorage/Lookups.js"
import * as Functions from "../../src/TokenStorage/Postgres/Functions.js"
import * as Sealing from "../../src/TokenStorage/Postgres/Sealing.js"
import type { Pair } from "./Truth.js"

export interface Connected {
  readonly userUlid: UserUlid
  readonly connection: Connection
  readonly pair: Pair
  /** When somebody last asked for a token of theirs, and got it. */
  readonly usedAt: number
  /** Whether that is so long ago that nothing is done for them before their refresh token is about to expire. */
  readonly isAway: boolean
}

/** When a pair is refreshed before anybody waits. */
export const scheduleOf = (userUlid: UserUlid, connection: Connection, pair: TokenPair) =>
  Schedule.of(defaults, userUlid, connection, pair, pair.issuedAt ?? 0)

/** As {@link held} has it. */
export const hashOf = ({ refreshToken }: Pair): string => hash(Redacted.make(refreshToken))

const name = "connect_1"

/** All users of a batch with one statement: a call for each of its rows. */
const statement = () => {
  const { parameters } = Functions.definitions.find((each) => each.name === name) ?? { parameters: [] }
  const columns = parameters.map(([name, type]) => `"${name}" ${type}`).join(", ")
  const values = parameters.map(([name]) => `u."${name}"`).join(", ")
  return {
    names: parameters.map(([name]) => name),
    text: `select c.version from jsonb_to_recordset($1::jsonb) as u (${columns}), cal_tokens.${name}(${values}) as c`
  }
}

const columnsOf = (
  keys: KeyRing["Type"],
  { connection, isAway, pair, usedAt, userUlid }: Connected
): Effect.Effect<Readonly<Record<string, unknown>>> => {
  const tokens: TokenPair = {
    accessToken: Redacted.make(pair.accessToken),
    refreshToken: Redacted.make(pair.refreshToken),
    issuedAt: pair.issuedAt,
    accessTokenExpiresAt: pair.accessTokenExpiresAt
  }
  return Effect.map(Sealing.seal(keys, userUlid, connection, tokens), ([envelope, refreshHash, expiresAt]) => {
    const [lookups, code, names] = Sealing.lookups(keys, userUlid, Lookups.granted(tokens))
    const [, handedOutCode] = Sealing.handedOut(keys, userUlid, usedAt)
    const { aheadAt, keepAt = null } = scheduleOf(userUlid, connection, tokens)
    return {
      user: userUlid,
      kind: connection._tag,
      client_id: connection.clientId,
      cal_user_id: connection.calUserId ?? null,
      scope: connection._tag === "OAuth2" ? (connection.scope ?? null) : null,
      pair: envelope,
      refresh_hash: refreshHash,
      access_token_expires_at: expiresAt,
      refresh_token_expires_at: null,
      lookups,
      lookups_code: code,
      names: JSON.parse(names) as unknown,
      handed_out_at: usedAt,
      handed_out_code: handedOutCode,
      replace: false,
      fingerprint: null,
      // Who is away was put off long ago.
      ahead_at: isAway ? keepAt : aheadAt,
      keep_at: keepAt,
      used_at: usedAt,
      history: null,
      now: null
    }
  })
}

export const connect = (
  keys: KeyRing["Type"],
  users: ReadonlyArray<Connected>
): Effect.Effect<void, never, SqlClient.SqlClient> =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const { names, text } = statement()
    const rows = yield* Effect.forEach(users, (user) => columnsOf(keys, user))
    const unknown = names.filter((name) => rows.some((row) => !(name in row)))
    if (unknown.length > 0) return yield* Effect.dieMessage(`${name} takes more than this knows: ${unknown.join(", ")}`)
    const written = yield* Effect.orDie(sql.unsafe(text, [JSON.stringify(rows)]))
    if (written.length !== users.length) return yield* Effect.dieMessage("not everybody was connected")
  })

/** What is stored of everybody, as the storage reads it: hashes of refresh tokens by user. */
export const held = (
  keys: KeyRing["Type"],
  users: ReadonlyArray<UserUlid>
): Effect.Effect<ReadonlyMap<UserUlid, ReadonlySet<string>>, never, SqlClient.SqlClient> =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const all = new Map<UserUlid, ReadonlySet<string>>()
    for (let from = 0; from < users.length; from += 2000) {
      const rows = yield* sql.unsafe<Sealing.Columns>("select f.* from cal_tokens.find_1($1::jsonb) as f", [
        JSON.stringify(users.slice(from, from + 2000))
      ])
      for (const row of rows) {
        // Whoever cannot be read has nothing.
        const pairs = yield* Sealing.open(keys, row).pipe(
          Effect.map(({ fallbacks, pair }) => [pair, ...fallbacks]),
          Effect.orElseSucceed(() => [])
        )
        all.set(row.user_ulid, new Set(pairs.map(({ refreshToken }) => hash(refreshToken))))
      }
    }
    return all
  }).pipe(Effect.orDie)
