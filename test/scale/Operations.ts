/**
 * The storage's operations on users of a filled database.
 */
import { assert } from "@effect/vitest"
import { Array, Clock, Effect } from "effect"
import type { UserUlid } from "../../src/Token.js"
import type { TokenError } from "../../src/TokenError.js"
import * as Fixture from "../support/StorageFixture.js"
import { user } from "./Fill.js"

/** What a user's life consists of; each step's answer is the one that went to the end. */
export const everyOperation = (storage: Fixture.Storage, size: number) =>
  Effect.gen(function* () {
    const { userUlid } = user(size / 2 + 2)
    const other = user(size / 2 + 3)
    const account = Fixture.oauth(size + 1)
    yield* storage.connect({ userUlid, connection: account, pair: Fixture.pair("one") })
    yield* storage.find(userUlid)
    yield* storage.claim(Fixture.claimOf(userUlid))
    yield* storage.spend({ userUlid, attemptId: "mine", next: "x", dead: [] })
    yield* storage.commit(Fixture.commitOf(userUlid, account))
    yield* storage.commit(Fixture.commitOf(userUlid, account, { attemptId: "late", pair: Fixture.pair("late") }))
    yield* storage.claim(Fixture.claimOf(userUlid))
    yield* storage.fail({ userUlid, attemptId: "mine", failure: Fixture.notSpent() })
    yield* storage.update(userUlid, Fixture.pair("three"))
    yield* storage.findByAccessToken(Fixture.accessHash("three"))
    yield* storage.connect({ userUlid: other.userUlid, connection: account, pair: Fixture.pair("four"), replace: true })
    yield* Effect.flip(storage.connect({ userUlid, connection: account, pair: Fixture.pair("five") }))
    yield* storage.connect({ userUlid: other.userUlid, connection: Fixture.oauth(), pair: Fixture.pair("six") })
    yield* storage.claim(Fixture.claimOf(other.userUlid))
    yield* storage.commit(Fixture.commitOf(other.userUlid, Fixture.oauth(size + 2), { pair: Fixture.pair("seven") }))
    yield* storage.list({ limit: 50 })
    yield* storage.list({ limit: 50, after: userUlid, status: "ReauthorizationRequired" })
    yield* storage.ping
    assert.isTrue(yield* storage.disconnect(other.userUlid))
  })

export interface Times {
  readonly find: number
  readonly refresh: number
}

/**
 * How long calls take on the median, in ms, for users from all over the table: by turns in each of some databases, so
 * that whatever else the machine does weighs on all of them alike.
 */
export const medians = (
  databases: ReadonlyArray<{ readonly storage: Fixture.Storage; readonly size: number }>
): Effect.Effect<ReadonlyArray<Times>, TokenError> =>
  Effect.map(
    Effect.forEach(Array.range(1, 200), (n) =>
      Effect.forEach(databases, ({ size, storage }) =>
        times(storage, user(((n * 7919) % size) + 1).userUlid, 2 * size + n)
      )
    ),
    (rounds) =>
      databases.map((_, index) => {
        const some = rounds.flatMap((round) => round[index] ?? [])
        return { find: median(some.map((one) => one.find)), refresh: median(some.map((one) => one.refresh)) }
      })
  )

const times = (storage: Fixture.Storage, userUlid: UserUlid, calUserId: number) =>
  Effect.gen(function* () {
    const connection = Fixture.oauth(calUserId)
    yield* storage.connect({ userUlid, connection, pair: Fixture.pair(`${userUlid} 0`) })
    const find = yield* timed(storage.find(userUlid))
    const pair = Fixture.pair(`${userUlid} 1`)
    const seen = Fixture.refreshHash(`${userUlid} 0`)
    const refresh = yield* timed(
      Effect.zipRight(
        storage.claim(Fixture.claimOf(userUlid)),
        storage.commit(Fixture.commitOf(userUlid, connection, { pair, seen }))
      )
    )
    return { find, refresh }
  })

const timed = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const before = yield* Clock.currentTimeNanos
    yield* effect
    return Number((yield* Clock.currentTimeNanos) - before) / 1e6
  })

const median = (values: ReadonlyArray<number>): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
