/**
 * Whether Cal.com knows imported users as the accounts that were imported, asked with what is stored of some of them. Nothing
 * is refreshed for it, and nobody counts as active: a second system may still keep these tokens.
 */
import { Duration, Effect, Option, Random } from "effect"
import { CalClient } from "../../CalClient.js"
import { StartError } from "../../Environment.js"
import type { UserUlid } from "../../Token.js"
import { TokenStorage } from "../../TokenStorage.js"

export interface Sample {
  readonly offer: (users: ReadonlyArray<UserUlid>) => Effect.Effect<void>
  readonly users: Effect.Effect<ReadonlyArray<UserUlid>>
}

/** Some of whoever is offered, each with the same chance. */
export const sample = (size: number): Sample => {
  const users: Array<UserUlid> = []
  let offered = 0
  return {
    offer: (more) =>
      Effect.forEach(
        more,
        (user) =>
          Effect.map(Random.nextIntBetween(0, ++offered), (place) => {
            if (users.length < size) users.push(user)
            else if (place < size) users[place] = user
          }),
        { discard: true }
      ),
    users: Effect.sync(() => users)
  }
}

export interface Verified {
  readonly asked: number
  readonly right: number
  /** Their access tokens have expired, or will in a moment. */
  readonly expired: number
  /** Why not, by user. */
  readonly wrong: ReadonlyArray<string>
}

/** A token that expires on the way tells nothing. */
const least = Duration.toMillis(Duration.seconds(30))

export const verify = (users: ReadonlyArray<UserUlid>): Effect.Effect<Verified, StartError, CalClient | TokenStorage> =>
  Effect.gen(function* () {
    const client = yield* CalClient
    const storage = yield* TokenStorage

    const look = (userUlid: UserUlid): Effect.Effect<"right" | "expired" | { readonly wrong: string }, StartError> =>
      Effect.gen(function* () {
        const found = yield* Effect.either(storage.find(userUlid))
        if (found._tag === "Left") {
          if (found.left._tag === "StorageUnavailable") return yield* new StartError({ message: found.left.message })
          return { wrong: found.left.message }
        }
        if (Option.isNone(found.right)) return { wrong: `User ${userUlid} was disconnected meanwhile.` }
        const { connection, pair } = found.right.value
        if (pair.accessTokenExpiresAt <= (yield* client.now) + least) return "expired"
        const me = yield* Effect.either(client.me(pair.accessToken))
        if (me._tag === "Left") return { wrong: `User ${userUlid}: ${me.left.message}` }
        return connection.calUserId === undefined || connection.calUserId === me.right.id
          ? "right"
          : {
              wrong: `User ${userUlid} was imported as Cal.com user ${connection.calUserId}, and is ${me.right.id} there.`
            }
      })

    const results = yield* Effect.forEach(users, look, { concurrency: 4 })
    const expired = results.filter((result) => result === "expired").length
    return {
      asked: results.length - expired,
      right: results.filter((result) => result === "right").length,
      expired,
      wrong: results.flatMap((result) => (typeof result === "string" ? [] : [result.wrong]))
    }
  })
