/**
 * Every statement that the storage issues, for a user of a filled database, and the ones that PostgreSQL itself issues for
 * the foreign keys.
 */
import type { SqlClient } from "@effect/sql"
import { Duration } from "effect"
import type { Connection } from "../../src/Token.js"
import { CalUnavailable } from "../../src/TokenError.js"
import { AttemptFailure } from "../../src/TokenStorage.js"
import * as ChangeLogSql from "../../src/TokenStorage/Postgres/Changes.js"
import * as Statements from "../../src/TokenStorage/Postgres/Statements.js"
import * as Fixture from "../support/StorageFixture.js"
import { newPair, user } from "./Fill.js"
import type { Explained } from "./Plans.js"

/**
 * Which partitions a statement may look into: the one of the user it names (`own`), the one of a user whom only another
 * table's row names, known while it runs (`found`), both of these, all, or none: it is about another table.
 */
export type Reach = "own" | "found" | "two" | "all" | "none"

interface Query {
  readonly statement: Explained
  readonly reach: Reach
}

/** The statements for the user in the middle of `count`, who takes its account from the next one, or a new one. */
export const queries = (sql: SqlClient.SqlClient, count: number): Record<string, Query> => {
  const statements = make(sql)
  const { accessHash, connection, refreshHash, userUlid } = user(count / 2)
  const other = user(count / 2 + 1)
  const pair = newPair("new")
  // What is written is the sealed pair.
  const never = Fixture.pair("never")
  const nameless: Connection = { _tag: "OAuth2", clientId: "oauth", calUserId: 1 }
  const error = new CalUnavailable({ operation: "refresh", reason: "status 503", status: 503 })
  const failed = (failure: AttemptFailure) => statements.fail({ userUlid, attemptId, failure })
  const own = (statement: Explained): Query => ({ statement, reach: "own" })
  const found = (statement: Explained): Query => ({ statement, reach: "found" })
  const all = (statement: Explained): Query => ({ statement, reach: "all" })
  const none = (statement: Explained): Query => ({ statement, reach: "none" })
  const log = ChangeLogSql.statements(sql, sql.literal(instant))
  const webhook = "00000000-0000-4000-8000-000000000000"
  const page = { limit: 50 }
  const inTime = { userUlid, attemptId, connection, seen: refreshHash, dead: [refreshHash], pair: never }
  return {
    find: own(statements.find(userUlid)),
    claim: own(claim(sql, count / 2)),
    spend: own(statements.spend({ userUlid, attemptId, next: "x", dead: [refreshHash] })),
    commit: own(statements.commit(inTime, pair)),
    "commit, late": own(statements.commit({ ...inTime, attemptId: "late", seen: "x" }, pair)),
    "commit that learns": own(statements.commit({ ...inTime, connection: nameless }, pair)),
    "fail NotSpent": own(failed(AttemptFailure.NotSpent({ error, backoff: Duration.seconds(2) }))),
    "fail Unknown": own(
      failed(AttemptFailure.Unknown({ error, backoff: Duration.seconds(2), probeIn: Duration.seconds(5) }))
    ),
    "fail Terminal": own(failed(AttemptFailure.Terminal({ cause: "revoked", dead: [refreshHash] }))),
    connect: own(statements.connect({ userUlid, connection, pair: never }, pair)),
    "connect, refused": own(statements.connect({ userUlid, connection: other.connection, pair: never }, pair)),
    "connect with replace": {
      statement: statements.connect({ userUlid, connection: other.connection, pair: never, replace: true }, pair),
      reach: "two"
    },
    update: own(statements.update(userUlid, pair)),
    disconnect: own(statements.disconnect(userUlid)),
    findByAccessToken: found(statements.findByAccessToken(accessHash)),
    "list, first page": all(statements.list(page)),
    "list, later page": all(statements.list({ ...page, after: userUlid })),
    "list, active": all(statements.list({ ...page, status: "Active", after: userUlid })),
    "list, to reconnect": all(statements.list({ ...page, status: "ReauthorizationRequired" })),
    "list, to reconnect, later page": all(
      statements.list({ ...page, status: "ReauthorizationRequired", after: user(count / 4).userUlid })
    ),
    "log, what is new": none(log.read({ at: 0, epoch: "600", id: "0" }, { position: "0-600-0" }, 100)),
    "log, claim a delivery": none(log.claim({ holder: "me", lease: Duration.seconds(60), limit: 10 })),
    "log, settle a delivery": none(log.settle(webhook)),
    "log, postpone a delivery": none(log.postpone({ id: webhook, holder: "me", delay: Duration.seconds(5) })),
    // As PostgreSQL words them (ri_triggers.c), run once for each row that is written or removed.
    "cascade to lookups": own(`delete from only cal_tokens.access_token_lookup where $1::text = user_ulid`),
    "cascade to accounts": own(`
      delete from only cal_tokens.cal_account
      where $1::text = user_ulid and $2::text = kind and $3::text = client_id and $4::bigint = cal_user_id`),
    "account refers to a row": found(`
      select 1 from cal_tokens.connection x where user_ulid = $1::text and kind = $2::text and client_id = $3::text
        and cal_user_id = $4::bigint for key share of x`),
    "lookup refers to a row": found(
      `select 1 from cal_tokens.connection x where user_ulid = $1::text for key share of x`
    )
  }
}

/** Opens the attempt that `spend`, `commit` and `fail` speak for. */
export const claim = (sql: SqlClient.SqlClient, n: number) =>
  make(sql).claim({
    userUlid: user(n).userUlid,
    attemptId,
    knownVersion: Number.MAX_SAFE_INTEGER,
    lease: Duration.seconds(30),
    cooldownWindow: Duration.seconds(30),
    maxAttempts: 3
  })

const make = (sql: SqlClient.SqlClient) => Statements.make(sql, () => sql.literal(instant))

const instant = "floor(extract(epoch from clock_timestamp()) * 1000)::bigint"

const attemptId = "mine"
