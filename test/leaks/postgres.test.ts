/** What PostgreSQL and its driver say of rows and connections tells no token, and no key that seals them. */
import { randomBytes } from "node:crypto"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Redacted } from "effect"
import { UserUlid } from "../../src/Token.js"
import * as KeyRing from "../../src/KeyRing.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import { Purpose, TokenStorage } from "../../src/TokenStorage.js"
import { layerDatabase } from "../support/Postgres.js"
import * as Witness from "../support/Witness.js"

const user = UserUlid.make("01ARZ3NDEKTSV4RRFFQ69G5FAV")
const random = () =>
  `eyJhbGciOiJIUzI1NiJ9.${randomBytes(60).toString("base64url")}.${randomBytes(32).toString("base64url")}`

const makePair = (witness: Witness.Witness) => {
  const [accessToken, refreshToken] = [random(), random()]
  witness.secrets.add("access token", accessToken)
  witness.secrets.add("refresh token", refreshToken)
  return {
    accessToken: Redacted.make(accessToken),
    refreshToken: Redacted.make(refreshToken),
    accessTokenExpiresAt: Date.UTC(2030, 0, 1)
  }
}

const keys = (witness: Witness.Witness, id: string) => {
  const key = randomBytes(32).toString("base64")
  witness.secrets.add(`key ${id}`, key)
  return `${id}:${key}`
}

type Sql = PgClient.PgClient

const kill = (sql: Sql) =>
  sql.unsafe(
    `select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()`
  )

/** Ways to break the database under the storage. */
const breakages: Readonly<Record<string, (sql: Sql) => Effect.Effect<unknown, unknown>>> = {
  "a check that refuses every row": (sql) =>
    sql.unsafe(`alter table cal_tokens.connection add constraint none check (user_ulid = '') not valid`),
  "a trigger that quotes the row": (sql) =>
    sql
      .unsafe(
        `create function quote_row() returns trigger language plpgsql as $$
      begin raise exception 'row % refused', new using detail = new::text, hint = new::text; end $$`
      )
      .pipe(
        Effect.zipRight(
          sql.unsafe(
            `create trigger quote before insert or update on cal_tokens.connection for each row execute function quote_row()`
          )
        )
      ),
  "a missing table": (sql) => sql.unsafe(`alter table cal_tokens.connection rename to elsewhere`),
  "a dropped schema": (sql) => sql.unsafe(`drop schema cal_tokens cascade`),
  "a damaged envelope": (sql) =>
    sql.unsafe(`update cal_tokens.connection set pair = substr(pair, 1, length(pair) - 4) || 'AAAA'`),
  "a row of another user": (sql) =>
    sql.unsafe(`update cal_tokens.connection set user_ulid = '01ARZ3NDEKTSV4RRFFQ69G5FAW'`),
  "a read-only database": (sql) =>
    sql
      .unsafe(
        `do $$ begin execute format('alter database %I set default_transaction_read_only = on', current_database()); end $$`
      )
      .pipe(Effect.zipRight(kill(sql))),
  "killed connections": kill
}

describe("PostgreSQL tells no token", () => {
  for (const [name, breakIt] of Object.entries(breakages)) {
    it.scopedLive(
      `with ${name}`,
      () =>
        Effect.gen(function* () {
          const witness = Witness.make()
          const [first, second] = [makePair(witness), makePair(witness)]
          yield* Effect.gen(function* () {
            const storage = yield* TokenStorage
            const sql = yield* PgClient.PgClient
            const connection = { _tag: "ManagedUser", clientId: "c", calUserId: 7 } as const
            yield* storage.connect({ userUlid: user, connection, pair: first })
            yield* Effect.ignore(breakIt(sql))
            const attemptId = "2b1f0a4e-5d5e-4a55-9f8e-1f1f2f3f4f5f"
            const operations: Readonly<Record<string, Effect.Effect<unknown, unknown>>> = {
              find: storage.find(user),
              findOther: storage.find(UserUlid.make("01ARZ3NDEKTSV4RRFFQ69G5FAW")),
              claim: storage.claim({
                userUlid: user,
                attemptId,
                purpose: Purpose.Refresh({ knownVersion: Number.MAX_SAFE_INTEGER }),
                lease: Duration.seconds(30),
                cooldownWindow: Duration.seconds(30),
                maxAttempts: 3
              }),
              commit: storage.commit({ userUlid: user, attemptId, connection, pair: second, seen: "x", dead: [] }),
              connect: storage.connect({ userUlid: user, connection, pair: second }),
              takeOver: storage.connect({
                userUlid: UserUlid.make("01ARZ3NDEKTSV4RRFFQ69G5FAX"),
                connection,
                pair: second
              }),
              update: storage.update({ userUlid: user, connection, pair: second }),
              list: storage.list({ limit: 10 }),
              disconnect: storage.disconnect(user)
            }
            for (const [operation, effect] of Object.entries(operations)) {
              yield* witness.noteExit(operation, yield* Effect.exit(effect))
            }
          }).pipe(
            Effect.provide(
              Postgres.layer().pipe(
                Layer.provide(KeyRing.layer(Redacted.make(`${keys(witness, "k2")},${keys(witness, "k1")}`))),
                Layer.provideMerge(layerDatabase())
              )
            ),
            Effect.provide(witness.layer)
          )
          yield* witness.assertClean
          assert.isAbove(witness.seen().get("log.json") ?? 0, 0)
        }),
      60_000
    )
  }
})
