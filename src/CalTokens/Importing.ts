/**
 * Connections that another system kept until now, many at once and again and again while that still runs. Each row stands
 * for itself: what is refused of it stands in its place among the results, and the others go on.
 */
import { Array, Effect, Either } from "effect"
import type { CalClient } from "../CalClient.js"
import type { UserUlid } from "../Token.js"
import type { Options } from "../TokenConfig.js"
import { CalAccountInUse, InvalidInput, type StorageUnavailable } from "../TokenError.js"
import * as TokenInput from "../TokenInput.js"
import {
  type ImportRequest,
  ImportResult,
  maxImports,
  type StoredConnection,
  type TokenStorage
} from "../TokenStorage.js"
import * as Account from "./Account.js"
import * as Schedule from "./Schedule.js"

/**
 * A user of the system before, with the pair that it had last.
 *
 * @since 0.1.0
 * @category models
 */
export interface ImportRow {
  /** A ULID or a UUID. */
  readonly userUlid: string
  readonly connection: Account.NewConnection
  readonly tokens: TokenInput.PairInput
}

/**
 * What became of a row. `unchanged`: this pair, or a newer one, is there already. `refreshedHere`: a pair came by another
 * way than an import since, so the user is left alone. `rejected`: nothing was stored; `reason` says why, for people, without
 * tokens. Its user is left out where the row names none.
 *
 * @since 0.1.0
 * @category models
 */
export type ImportedRow =
  | {
      readonly userUlid: UserUlid
      readonly outcome: "imported" | "updated" | "unchanged" | "refreshedHere"
    }
  | { readonly userUlid?: UserUlid; readonly outcome: "rejected"; readonly reason: string }

/**
 * So many rows are taken at once.
 *
 * @since 0.1.0
 * @category constants
 */
export const maxRows = maxImports

/** A row that nothing is done about. */
export const rejected = ({ message }: { readonly message: string }, userUlid?: UserUlid): ImportedRow => ({
  ...(userUlid === undefined ? {} : { userUlid }),
  outcome: "rejected",
  reason: message
})

/**
 * Looks at rows one by one, and does the work for those that are in order. Its results are as many; with what was refused they
 * are in the order of the rows.
 */
export const eachOf = <Row, Good, E = never, R = never>(
  rows: ReadonlyArray<Row>,
  look: (row: Row) => Effect.Effect<Good, ImportedRow>,
  work: (good: ReadonlyArray<Good>) => Effect.Effect<ReadonlyArray<ImportedRow>, E, R>
): Effect.Effect<ReadonlyArray<ImportedRow>, E | InvalidInput, R> =>
  Effect.gen(function* () {
    if (rows.length > maxRows) {
      return yield* new InvalidInput({ field: "rows", expected: `must be at most ${maxRows}` })
    }
    const looks = yield* Effect.forEach(rows, (row) => Effect.either(look(row)))
    const good = looks.flatMap((look) => (Either.isRight(look) ? [look.right] : []))
    const results = good.length === 0 ? [] : yield* work(good)
    const left = results.values()
    return looks.flatMap((look) => (Either.isLeft(look) ? [look.left] : (left.next().value ?? [])))
  })

export const make = (deps: {
  readonly config: Options
  readonly client: typeof CalClient.Service
  readonly storage: typeof TokenStorage.Service
  /** A row was stored. */
  readonly adopt: (row: StoredConnection, kind: "connected" | "updated") => Effect.Effect<unknown>
}): ((
  rows: ReadonlyArray<ImportRow>
) => Effect.Effect<ReadonlyArray<ImportedRow>, InvalidInput | StorageUnavailable>) => {
  const { client, config, storage } = deps

  const requestOf =
    (now: number) =>
    (row: ImportRow): Effect.Effect<ImportRequest, ImportedRow> =>
      Effect.flatMap(
        Effect.mapError(TokenInput.userUlid(row.userUlid), (error) => rejected(error)),
        (userUlid) =>
          Effect.gen(function* () {
            const { calUserId, pair } = yield* TokenInput.pair(row.tokens, now)
            const connection = yield* Account.resolve(client, row.connection, calUserId)
            // Nobody has asked for the user's token here: it is left to whoever keeps it until somebody does.
            return { userUlid, connection, pair, schedule: Schedule.of(config, userUlid, connection, pair, now) }
          }).pipe(Effect.mapError((error) => rejected(error, userUlid)))
      )

  const resultOf = ({ userUlid }: ImportRequest, result: ImportResult): Effect.Effect<ImportedRow> =>
    ImportResult.$match(result, {
      Imported: ({ row }) => Effect.as(deps.adopt(row, "connected"), { userUlid, outcome: "imported" } as const),
      Updated: ({ row }) => Effect.as(deps.adopt(row, "updated"), { userUlid, outcome: "updated" } as const),
      Unchanged: () => Effect.succeed<ImportedRow>({ userUlid, outcome: "unchanged" }),
      RefreshedHere: () => Effect.succeed<ImportedRow>({ userUlid, outcome: "refreshedHere" }),
      AccountInUse: () => Effect.succeed(rejected(new CalAccountInUse({ userUlid }), userUlid)),
      OtherAccount: () => Effect.succeed(rejected({ message: otherAccount(userUlid) }, userUlid))
    })

  const store = (requests: ReadonlyArray<ImportRequest>) =>
    Effect.flatMap(storage.import(requests), (results) =>
      Effect.forEach(Array.zip(requests, results), ([request, result]) => resultOf(request, result))
    )

  return (rows) => Effect.flatMap(client.now, (now) => eachOf(rows, requestOf(now), store))
}

const otherAccount = (userUlid: UserUlid) =>
  `User ${userUlid} is connected to another Cal.com account, or through another client: disconnect them first.`
