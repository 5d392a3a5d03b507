/**
 * Connections that another system kept until now, many at once and again and again while that still runs. Each row stands
 * for itself: what is refused of it stands in its place among the results, and the others go on.
 */
import { Array, Effect, Either, Option, Predicate, Schema } from "effect"
import type { CalClient } from "../CalClient.js"
import { nameOf } from "../History.js"
import { hash, UserUlid } from "../Token.js"
import type { Options } from "../TokenConfig.js"
import { CalAccountInUse, InvalidInput, type StorageUnavailable } from "../TokenError.js"
import * as TokenInput from "../TokenInput.js"
import {
  type ImportRequest,
  type ImportResult,
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

const decodeUser = Schema.decodeUnknownOption(UserUlid)

/** A row that nothing is done about. Its user is named, if it names one. */
const rejected = (row: unknown, { message }: { readonly message: string }): ImportedRow => {
  const userUlid = Option.getOrUndefined(decodeUser(Predicate.hasProperty(row, "userUlid") ? row.userUlid : undefined))
  return { ...(userUlid === undefined ? {} : { userUlid }), outcome: "rejected", reason: message }
}

/** What the storage says of a row, for whoever gave it. */
export const answerOf = (userUlid: UserUlid, verdict: ImportResult["_tag"]): ImportedRow => {
  switch (verdict) {
    case "Imported":
      return { userUlid, outcome: "imported" }
    case "Updated":
      return { userUlid, outcome: "updated" }
    case "Unchanged":
      return { userUlid, outcome: "unchanged" }
    case "RefreshedHere":
      return { userUlid, outcome: "refreshedHere" }
    case "AccountInUse":
      return { userUlid, outcome: "rejected", reason: new CalAccountInUse({ userUlid }).message }
    case "OtherAccount":
      return { userUlid, outcome: "rejected", reason: otherAccount(userUlid) }
  }
}

const otherAccount = (userUlid: UserUlid) =>
  `User ${userUlid} is connected to another Cal.com account, or through another client: disconnect them first.`

/**
 * Looks at rows one by one, and does the work for those that are in order. Its results are as many; with what was refused they
 * are in the order of the rows. `field` names the list.
 */
export const eachOf = <Row, Good, E = never, R = never>(
  rows: ReadonlyArray<Row>,
  look: (row: Row) => Effect.Effect<Good, { readonly message: string }>,
  work: (good: ReadonlyArray<Good>) => Effect.Effect<ReadonlyArray<ImportedRow>, E, R>,
  field = "rows"
): Effect.Effect<ReadonlyArray<ImportedRow>, E | InvalidInput, R> =>
  Effect.gen(function* () {
    if (rows.length > maxImports) {
      return yield* new InvalidInput({ field, expected: `must be at most ${maxImports} at once` })
    }
    const looks = yield* Effect.forEach(rows, (row) =>
      Effect.either(Effect.mapError(look(row), (error) => rejected(row, error)))
    )
    const good = looks.flatMap((look) => (Either.isRight(look) ? [look.right] : []))
    const results = (good.length === 0 ? [] : yield* work(good)).values()
    return looks.flatMap((look) => (Either.isLeft(look) ? [look.left] : (results.next().value ?? [])))
  })

export const make = (deps: {
  readonly config: Options
  readonly client: typeof CalClient.Service
  readonly storage: typeof TokenStorage.Service
  /** How histories name this process. */
  readonly process: string
  /** A row was stored. */
  readonly adopt: (row: StoredConnection, kind: "connected" | "updated") => Effect.Effect<unknown>
}): ((
  rows: ReadonlyArray<ImportRow>
) => Effect.Effect<ReadonlyArray<ImportedRow>, InvalidInput | StorageUnavailable>) => {
  const { client, config, process, storage } = deps

  const requestOf = (now: number) => (row: ImportRow) =>
    Effect.gen(function* () {
      const userUlid = yield* TokenInput.userUlid(row.userUlid)
      const { calUserId, pair } = yield* TokenInput.pair(row.tokens, now)
      const connection = yield* Account.resolve(client, row.connection, calUserId)
      // Nobody has asked for the user's token here: it is left to whoever keeps it until somebody does.
      const schedule = Schedule.of(config, userUlid, connection, pair, now)
      const token = nameOf(hash(pair.refreshToken))
      return { userUlid, connection, pair, schedule, history: { _tag: "Imported" as const, process, token } }
    })

  const resultOf = ({ userUlid }: ImportRequest, result: ImportResult): Effect.Effect<ImportedRow> => {
    const answer = answerOf(userUlid, result._tag)
    return "row" in result
      ? Effect.as(deps.adopt(result.row, result._tag === "Imported" ? "connected" : "updated"), answer)
      : Effect.succeed(answer)
  }

  const store = (requests: ReadonlyArray<ImportRequest>) =>
    Effect.flatMap(storage.import(requests), (results) =>
      Effect.forEach(Array.zip(requests, results), ([request, result]) => resultOf(request, result))
    )

  return (rows) => Effect.flatMap(client.now, (now) => eachOf(rows, requestOf(now), store))
}
