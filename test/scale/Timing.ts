/** How long the storage's calls take on users of filled databases. */
import { Array, Clock, Effect } from "effect"
import type { UserUlid } from "../../src/Token.js"
import type { TokenError } from "../../src/TokenError.js"
import * as Fixture from "../support/StorageFixture.js"
import { user } from "./Fill.js"

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

export const median = (values: ReadonlyArray<number>): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
