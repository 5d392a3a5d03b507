/** What an import would do, looked up in the service's database without a write: its tables are not even made. */
import { Effect, Redacted, type Scope } from "effect"
import { StartError } from "../../Environment.js"
import type { ImportedRow, ImportRow } from "../../CalTokens.js"
import { hash, UserUlid } from "../../Token.js"
import * as Table from "./Table.js"
import type { Target } from "./Target.js"

interface Found {
  readonly user_ulid: string
  readonly kind: string
  readonly client_id: string
  readonly cal_user_id: string | null
  readonly refresh_hash: string
  readonly is_imported: boolean
}

interface Owner {
  readonly user_ulid: string
  readonly cal_user_id: string
}

/** No such table, or schema: nothing was ever stored. */
const isEmpty = ({ code }: Table.DatabaseRefusal) => code === "42P01" || code === "3F000"

/** `clientId`: of the client that the rows are for. */
export const make = (url: Redacted.Redacted, clientId: string): Effect.Effect<Target, StartError, Scope.Scope> =>
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
          const found = yield* ask<Found>(
            `select user_ulid, kind, client_id, cal_user_id, refresh_hash,
               refresh_hash is not distinct from imported_hash as is_imported
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
          return rows.map((row) => {
            const owner = byAccount.get(row.connection.calUserId ?? Number.NaN)
            return foretold(row, byUser.get(row.userUlid), clientId, owner !== undefined && owner !== row.userUlid)
          })
        })
    }
  })

const foretold = (
  { connection: { _tag, calUserId }, tokens, userUlid }: ImportRow,
  found: Found | undefined,
  clientId: string,
  isInUse: boolean
): ImportedRow => {
  const user = UserUlid.make(userUlid)
  const isOther =
    found !== undefined &&
    (found.kind !== _tag ||
      found.client_id !== clientId ||
      (calUserId !== undefined && found.cal_user_id !== null && Number(found.cal_user_id) !== calUserId))
  if (isOther)
    return { outcome: "rejected", reason: "is connected to another Cal.com account, or through another client" }
  if (found !== undefined) {
    const { refreshToken } = tokens
    const given = hash(Redacted.isRedacted(refreshToken) ? refreshToken : Redacted.make(refreshToken))
    if (found.refresh_hash === given) return { userUlid: user, outcome: "unchanged" }
    if (!found.is_imported) return { userUlid: user, outcome: "refreshedHere" }
  }
  if (isInUse) return { outcome: "rejected", reason: "the Cal.com account is connected to another user" }
  return { userUlid: user, outcome: found === undefined ? "imported" : "updated" }
}
