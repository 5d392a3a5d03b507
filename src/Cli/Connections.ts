/** Connections as the commands for operators tell of them: what doors show, and what was tried lately. No tokens. */
import { Chunk, Clock, Effect, Layer, Option, Stream } from "effect"
import type * as Environment from "../Environment.js"
import * as Logging from "../Environment/Logging.js"
import * as Services from "../Environment/Services.js"
import type { UserUlid } from "../Token.js"
import { type InvalidInput, type StorageUnavailable, TokensNotFound } from "../TokenError.js"
import * as Listing from "../TokenStorage/Listing.js"
import { TokenStorage } from "../TokenStorage.js"
import * as Operating from "./Operating.js"

export type Row = Listing.Page["connections"][number] & Services.Tried

type Rows = Stream.Stream<Row, InvalidInput | StorageUnavailable | TokensNotFound, TokenStorage | Services.Attempts>

/** Of how many is asked at once. */
const limit = 200

export const json = ({ lastError, lastRefreshAt, nextAttemptAt, userUlid, ...row }: Row) =>
  JSON.stringify({
    userUlid,
    ...Listing.withInstants(row, iso),
    lastRefreshAt: orNull(lastRefreshAt),
    lastError: lastError ?? null,
    nextAttemptAt: orNull(nextAttemptAt)
  })

/** What a tampered row says may be no date. */
const iso = (millis: number) => new Date(Math.min(Math.max(millis, -8.64e15), 8.64e15)).toISOString()

const orNull = (millis: number | undefined) => (millis === undefined ? null : iso(millis))

const withTried = (page: Listing.Page["connections"]) =>
  Effect.gen(function* () {
    const tried = yield* Services.Attempts
    const found = page.length === 0 ? new Map<string, Services.Tried>() : yield* tried(page.map((row) => row.userUlid))
    return page.map((row): Row => ({ ...row, ...found.get(row.userUlid) }))
  })

/** Page by page, by the key: a table of millions is told as it is read. */
export const all = (status: Listing.Standing["status"] | undefined): Rows =>
  Stream.paginateChunkEffect(undefined as string | undefined, (cursor) =>
    Effect.gen(function* () {
      const { connections, cursor: next } = yield* Listing.page({ status, cursor, limit }, Clock.currentTimeMillis)
      return [Chunk.unsafeFromArray(yield* withTried(connections)), Option.fromNullable(next)] as const
    })
  )

/** Of somebody whose row no key opens, too. */
export const one = (userUlid: UserUlid): Rows =>
  Effect.gen(function* () {
    const storage = yield* TokenStorage
    // Lists begin after somebody: here, after whoever has all letters but the last one.
    const rows = yield* storage.list({ limit: 32, after: userUlid.slice(0, -1) as UserUlid })
    const row = rows.find((row) => row.userUlid === userUlid)
    if (row === undefined) return yield* new TokensNotFound({ userUlid })
    const now = yield* Clock.currentTimeMillis
    return Stream.fromIterable(
      yield* withTried([{ userUlid, ...Listing.standing(row, row.accessTokenExpiresAt <= now) }])
    )
  }).pipe(Stream.unwrap)

/** With the database of these settings. */
export const provide =
  ({ cal, log }: Environment.ServiceSettings) =>
  <A, E extends { readonly message: string }>(work: Effect.Effect<A, E, TokenStorage | Services.Attempts>) =>
    work.pipe(
      Operating.orStartError,
      Effect.provide(Layer.provide(Services.layerStanding(cal.database), Logging.layer(log)))
    )
