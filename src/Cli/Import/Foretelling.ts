/**
 * What an import would do, looked up in the service's database without a write: its tables are not even made. Judged as the
 * storage judges it.
 */
import { Effect, Either, Option, type Redacted, type Scope } from "effect"
import { StartError } from "../../Environment.js"
import { answerOf } from "../../CalTokens/Importing.js"
import type { ImportRow } from "../../CalTokens.js"
import { type Connection, UserUlid } from "../../Token.js"
import * as TokenInput from "../../TokenInput.js"
import { importable, judgeImport } from "../../TokenStorage/Rows.js"
import * as Table from "./Table.js"
import type { Target } from "./Target.js"

interface Found {
  readonly user_ulid: string
  readonly kind: Connection["_tag"]
  readonly client_id: string
  /** A `bigint`, as pg reads it, like the instants. */
  readonly cal_user_id: string | null
  readonly refresh_hash: string
  readonly access_token_expires_at: string
  readonly imported_hash: string | null
  readonly imported_issued_at: string | null
}

interface Owner {
  readonly user_ulid: string
  readonly cal_user_id: string
}

/** No such table, or schema: nothing was ever stored. */
const isEmpty = ({ code }: Table.DatabaseRefusal) => code === "42P01" || code === "3F000"

/** `clientId`: of the client that the rows are for; `now`: Cal.com's time in ms. */
export const make = (
  url: Redacted.Redacted,
  clientId: string,
  now: Effect.Effect<number>
): Effect.Effect<Target, StartError, Scope.Scope> =>
  Effect.gen(function* () {
    const unavailable = ({ reason }: Table.DatabaseRefusal) =>
      new StartError({ message: `The token database is unavailable (${reason})` })
    const reading = yield* Effect.mapError(Table.open(url), unavailable)
    const ask = <Row extends object>(text: string, values: ReadonlyArray<unknown>) =>
      reading.query<Row & Record<string, unknown>>(text, values).pipe(
        Effect.map(({ rows }): ReadonlyArray<Row> => rows),
        Effect.catchIf(isEmpty, () => Effect.succeed<ReadonlyArray<Row>>([])),
        Effect.mapError(unavailable)
      )

    return {
      write: (rows) =>
        Effect.gen(function* () {
          const at = yield* now
          const found = yield* ask<Found>(
            `select user_ulid, kind, client_id, cal_user_id, refresh_hash, access_token_expires_at, imported_hash,
               imported_issued_at
             from cal_tokens.connection where user_ulid = any ($1)`,
            [rows.map(({ userUlid }) => userUlid)]
          )
          const owners = yield* ask<Owner>(
            `select user_ulid, cal_user_id from cal_tokens.cal_account
             where kind = $1 and client_id = $2 and cal_user_id = any ($3)`,
            [rows[0]?.connection._tag, clientId, rows.flatMap(({ connection }) => connection.calUserId ?? [])]
          )
          const byUser = new Map(found.map((row) => [row.user_ulid, row]))
          const byAccount = new Map(owners.map((owner) => [Number(owner.cal_user_id), owner.user_ulid]))
          const foretold = ({ connection, tokens, userUlid }: ImportRow) =>
            Effect.map(Effect.either(TokenInput.pair(tokens, at)), (decoded) => {
              if (Either.isLeft(decoded)) return { outcome: "rejected", reason: decoded.left.message } as const
              const given = importable({ connection: { ...connection, clientId }, pair: decoded.right.pair })
              const owner = byAccount.get(connection.calUserId ?? Number.NaN) ?? userUlid
              const known = Option.map(Option.fromNullable(byUser.get(userUlid)), stored)
              return answerOf(UserUlid.make(userUlid), judgeImport(known, given, owner === userUlid))
            })
          return yield* Effect.forEach(rows, foretold)
        })
    }
  })

const stored = (row: Found) => {
  const calUserId = Number(row.cal_user_id)
  const { client_id: clientId, kind } = row
  const connection: Connection =
    kind === "ManagedUser"
      ? { _tag: kind, clientId, calUserId }
      : { _tag: kind, clientId, ...(row.cal_user_id === null ? {} : { calUserId }) }
  return {
    connection,
    refreshHash: row.refresh_hash,
    importedHash: row.imported_hash,
    issuedAt: row.imported_issued_at === null ? undefined : Number(row.imported_issued_at),
    accessTokenExpiresAt: Number(row.access_token_expires_at)
  }
}
