/**
 * The storage over the same transitions as `TokenStorage/Memory`, with some of them replaced: what broken variants run
 * on. It leaves out what no variant needs, the index of accounts and the lookup by access token.
 */
import { Effect, Option, Stream } from "effect"
import type { UserUlid } from "../../src/Token.js"
import { ClaimResult, CommitResult, FailResult, type TokenStorage } from "../../src/TokenStorage.js"
import * as ChangeLog from "../../src/TokenStorage/ChangeLog.js"
import * as Rows from "../../src/TokenStorage/Rows.js"

export interface Transitions {
  readonly claim: typeof Rows.claim
  readonly spend: typeof Rows.spend
  readonly commit: typeof Rows.commit
  readonly fail: typeof Rows.fail
  readonly connect: typeof Rows.connect
}

export const make = (replaced: Partial<Transitions> = {}): TokenStorage["Type"] => {
  const { claim, commit, connect, fail, spend }: Transitions = {
    claim: Rows.claim,
    spend: Rows.spend,
    commit: Rows.commit,
    fail: Rows.fail,
    connect: Rows.connect,
    ...replaced
  }
  const rows = new Map<UserUlid, Rows.Row>()
  let version = 0
  const at = <A>(use: (now: number) => A) =>
    Effect.clockWith((clock) => Effect.sync(() => use(clock.unsafeCurrentTimeMillis())))
  const change = <A>(userUlid: UserUlid, missing: A, f: (row: Rows.Row, now: number) => readonly [A, Rows.Row]) =>
    at((now) => {
      const row = rows.get(userUlid)
      if (row === undefined) return missing
      const [result, next] = f(row, now)
      rows.set(userUlid, next)
      version = Math.max(version, next.version)
      return result
    })
  const store = (row: Rows.Row) => {
    version = row.version
    rows.set(row.userUlid, row)
    return Rows.toStored(row)
  }
  return {
    find: (userUlid) => Effect.sync(() => Option.map(Option.fromNullable(rows.get(userUlid)), Rows.toStored)),
    claim: (request) => change(request.userUlid, ClaimResult.NotFound(), (row, now) => claim(row, request, now)),
    spend: (request) => change(request.userUlid, Option.none(), (row) => spend(row, request)),
    commit: (request) =>
      change(request.userUlid, CommitResult.Discarded(), (row, now) =>
        commit(row, request, now, version + 1, () => true)
      ),
    fail: (request) =>
      change(request.userUlid, FailResult.NotRecorded({ row: Option.none(), attemptIsMine: false }), (row, now) =>
        fail(row, request, now)
      ),
    connect: (request) =>
      at((now) => store(connect(Option.fromNullable(rows.get(request.userUlid)), request, now, version + 1))),
    update: (userUlid, pair) =>
      at((now) =>
        Option.map(Option.fromNullable(rows.get(userUlid)), (row) =>
          store(connect(Option.some(row), { userUlid, connection: row.connection, pair }, now, version + 1))
        )
      ),
    disconnect: (userUlid) => Effect.sync(() => rows.delete(userUlid)),
    findByAccessToken: () => Effect.succeedNone,
    list: () => Effect.succeed([]),
    ping: Effect.void,
    notices: Stream.empty,
    log: ChangeLog.none
  }
}
