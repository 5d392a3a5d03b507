/**
 * The storage port in memory: the transitions of `Rows.ts` over plain maps. Each call is one synchronous step, so it is
 * as atomic as a database statement. Good for tests and for a single process that may forget everything at its end.
 */
import { Effect, Layer, Option, Stream } from "effect"
import { type Connection, hash, type UserUlid } from "../Token.js"
import { CalAccountInUse } from "../TokenError.js"
import { ClaimResult, CommitResult, FailResult, supersededLookup, TokenStorage } from "../TokenStorage.js"
import type { ChangeKind } from "./ChangeLog.js"
import * as ChangeLogMemory from "./ChangeLogMemory.js"
import * as Rows from "./Rows.js"

/** Whose an access token is or was. */
interface Lookup {
  /** The version its pair was stored under: it orders a user's tokens. */
  readonly version: number
  readonly supersededAt: number | null
}

/** The transitions of a row, some of which tests replace. */
export type Transitions = Pick<typeof Rows, "claim" | "spend" | "commit" | "fail" | "connect">

export const make = (replaced: Partial<Transitions> = {}): TokenStorage["Type"] => {
  const { claim, commit, connect, fail, spend }: Transitions = { ...Rows, ...replaced }
  const rows = new Map<UserUlid, Rows.Row>()
  const accounts = new Map<string, UserUlid>()
  /** By user, then by the access token's hash. */
  const lookups = new Map<UserUlid, Map<string, Lookup>>()
  const owners = new Map<string, UserUlid>()
  let lastVersion = 0
  const log = ChangeLogMemory.make()

  const step = <A, E = never>(f: (now: number) => Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.clockWith((clock) => f(clock.unsafeCurrentTimeMillis()))

  const isFreeFor = (userUlid: UserUlid) => (connection: Connection) => {
    const owner = accounts.get(accountKey(connection))
    return owner === undefined || owner === userUlid
  }

  const setAccount = (row: Rows.Row, before: Rows.Row | undefined) => {
    if (before !== undefined) accounts.delete(accountKey(before.connection))
    if (row.connection.calUserId !== undefined) accounts.set(accountKey(row.connection), row.userUlid)
  }

  const setLookup = (row: Rows.Row, keepsOld: boolean, now: number) => {
    const old = keepsOld ? [...(lookups.get(row.userUlid) ?? [])] : []
    const superseded = old
      .filter(([key]) => owners.get(key) === row.userUlid)
      .map(([key, lookup]) => [key, { ...lookup, supersededAt: lookup.supersededAt ?? now }] as const)
      .filter(([, lookup]) => isRecent(lookup.supersededAt, now))
    const current = hash(row.pair.accessToken)
    for (const key of lookups.get(row.userUlid)?.keys() ?? []) {
      if (owners.get(key) === row.userUlid) owners.delete(key)
    }
    const kept = new Map<string, Lookup>([
      [current, { version: row.version, supersededAt: null }],
      ...superseded
        .filter(([key]) => key !== current)
        .sort(([, a], [, b]) => b.version - a.version)
        .slice(0, supersededLookup.tokens)
    ])
    lookups.set(row.userUlid, kept)
    for (const key of kept.keys()) owners.set(key, row.userUlid)
  }

  const remove = (userUlid: UserUlid, now: number): boolean => {
    const row = rows.get(userUlid)
    if (row === undefined) return false
    log.removed(row, now)
    accounts.delete(accountKey(row.connection))
    for (const key of lookups.get(userUlid)?.keys() ?? []) if (owners.get(key) === userUlid) owners.delete(key)
    lookups.delete(userUlid)
    return rows.delete(userUlid)
  }

  /** Makes a pair the row's. `keepsOld`: the tokens it displaces still name the user for a while. */
  const store = (row: Rows.Row, kind: ChangeKind, keepsOld: boolean, now: number) => {
    const before = rows.get(row.userUlid)
    log.written(before, row, now, kind)
    lastVersion = row.version
    rows.set(row.userUlid, row)
    setAccount(row, before)
    setLookup(row, keepsOld, now)
    return Rows.toConnection(row)
  }

  /** Runs a transition that keeps the pair. */
  const change = <A>(userUlid: UserUlid, missing: A, f: (row: Rows.Row, now: number) => readonly [A, Rows.Row]) =>
    step((now) => {
      const row = rows.get(userUlid)
      if (row === undefined) return Effect.succeed(missing)
      const [result, next] = f(row, now)
      rows.set(userUlid, next)
      log.written(row, next, now)
      return Effect.succeed(result)
    })

  return {
    find: (userUlid) => Effect.sync(() => Option.map(Option.fromNullable(rows.get(userUlid)), Rows.toStored)),
    claim: (request) => change(request.userUlid, ClaimResult.NotFound(), (row, now) => claim(row, request, now)),
    spend: (request) => change(request.userUlid, Option.none(), (row) => spend(row, request)),
    fail: (request) =>
      change(request.userUlid, FailResult.NotRecorded({ row: Option.none(), attemptIsMine: false }), (row, now) =>
        fail(row, request, now)
      ),
    commit: (request) =>
      step((now) => {
        const row = rows.get(request.userUlid)
        if (row === undefined) return Effect.succeed(CommitResult.Discarded())
        const [result, next] = commit(row, request, now, lastVersion + 1, isFreeFor(row.userUlid))
        if (CommitResult.$is("Stored")(result))
          store(next, request.reissued === true ? "reissued" : "refreshed", true, now)
        else {
          rows.set(row.userUlid, next)
          log.written(row, next, now)
        }
        return Effect.succeed(result)
      }),
    connect: (request) =>
      step((now) => {
        const { connection, userUlid } = request
        if (!isFreeFor(userUlid)(connection)) {
          if (request.replace !== true) return Effect.fail(new CalAccountInUse({ userUlid }))
          for (const owner of Option.toArray(Option.fromNullable(accounts.get(accountKey(connection)))))
            remove(owner, now)
        }
        const before = Option.fromNullable(rows.get(userUlid))
        const keepsOld = Option.exists(before, Rows.keepsAccount(connection))
        return Effect.succeed(store(connect(before, request, now, lastVersion + 1), "connected", keepsOld, now))
      }),
    update: (userUlid, pair) =>
      step((now) => {
        const before = rows.get(userUlid)
        if (before === undefined) return Effect.succeed(Option.none())
        const request = { userUlid, connection: before.connection, pair }
        const next = connect(Option.some(before), request, now, lastVersion + 1)
        return Effect.succeed(Option.some(store(next, "updated", Rows.keepsAccount(before.connection)(before), now)))
      }),
    disconnect: (userUlid) => step((now) => Effect.succeed(remove(userUlid, now))),
    findByAccessToken: (key) =>
      step((now) => {
        const userUlid = owners.get(key)
        const lookup = userUlid === undefined ? undefined : lookups.get(userUlid)?.get(key)
        return Effect.succeed(
          userUlid === undefined || lookup === undefined || !isRecent(lookup.supersededAt, now)
            ? Option.none()
            : Option.some({ userUlid, supersededAt: Option.fromNullable(lookup.supersededAt) })
        )
      }),
    list: ({ after, limit, status }) =>
      Effect.sync(() =>
        [...rows.values()]
          .filter((row) => status === undefined || row.status._tag === status)
          .filter((row) => after === undefined || row.userUlid > after)
          .sort((a, b) => (a.userUlid < b.userUlid ? -1 : 1))
          .slice(0, Math.max(0, limit))
          .map(Rows.toSummary)
      ),
    ping: Effect.void,
    notices: Stream.empty,
    log: log.service
  }
}

/** Keeps tokens in this process's memory, with the semantics of the database, until the layer is released. */
export const layerMemory: Layer.Layer<TokenStorage> = Layer.sync(TokenStorage, () => make())

/** Names a Cal.com account; of a nameless one, nothing is stored under its key. */
const accountKey = ({ _tag, calUserId, clientId }: Connection): string => JSON.stringify([_tag, clientId, calUserId])

const isRecent = (supersededAt: number | null, now: number): boolean =>
  supersededAt === null || supersededAt + supersededLookup.minutes * 60_000 > now
