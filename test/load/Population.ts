/** Everybody, at Cal.com and in the database, as in a fleet that has been up for a while and refreshes in good time. */
import type { SqlClient } from "@effect/sql"
import { Effect, Redacted, Schema } from "effect"
import type { KeyRing } from "../../src/KeyRing.js"
import { type Connection, UserUlid } from "../../src/Token.js"
import * as Prng from "../simulation/Prng.js"
import type { Cal } from "./Run.js"
import type { CalClients } from "./cal.js"
import * as Import from "./Import.js"
import { now } from "./Instant.js"
import type { Settings } from "./Result.js"
import type { User } from "./Traffic.js"
import type { Deed, Kind, Pair } from "./Truth.js"

export interface Population {
  readonly users: ReadonlyArray<User>
  readonly deeds: ReadonlyArray<Deed>
  /** Who has a page open, with the token that it was given. */
  readonly pages: ReadonlyArray<readonly [user: User, accessToken: string]>
}

/** How long those were away who are not in use, in ms. */
const away = 20 * 86_400_000

const batch = 1000

/** How old a pair of this user becomes, in ms, before it is refreshed ahead of time. */
const longest = (userUlid: UserUlid, lifetime: number): number => {
  const token = Redacted.make("")
  const pair = { accessToken: token, refreshToken: token, issuedAt: 0, accessTokenExpiresAt: lifetime }
  return Import.scheduleOf(userUlid, { _tag: "OAuth2", clientId: "" }, pair).aheadAt
}

const kindOf = (prng: Prng.Prng): Kind => (prng.chance(0.5) ? "managed" : "oauth2")

export const make = (
  { inUse, lifetime, seed, users: count }: Settings,
  { cal, clients, keys }: { readonly cal: Cal; readonly clients: CalClients; readonly keys: KeyRing["Type"] }
): Effect.Effect<Population, never, SqlClient.SqlClient> =>
  Effect.gen(function* () {
    const prng = Prng.make(seed, "population")
    const people = Array.from({ length: count }, (_, n) => {
      const userUlid = Schema.decodeSync(UserUlid)(`01${n.toString().padStart(24, "0")}`)
      const kind = kindOf(prng)
      const isReturning = n >= count * inUse
      return {
        userUlid,
        kind,
        isReturning,
        hasPage: !isReturning && n % 10 === 7,
        age: isReturning ? away : prng.next() * longest(userUlid, lifetime * 1000)
      }
    })
    const users: Array<User> = []
    const deeds: Array<Deed> = []
    const pages: Array<readonly [User, string]> = []
    for (let from = 0; from < count; from += batch) {
      const some = people.slice(from, from + batch)
      const pairs = yield* cal("grant", some)
      const connected = some.map(({ hasPage, isReturning, kind, userUlid }, index) => {
        const pair = pairs[index] as Pair
        const { accessToken, calUserId } = pair
        const user = { userUlid, kind, calUserId, isReturning }
        users.push(user)
        if (hasPage) pages.push([user, accessToken])
        const connection: Connection =
          kind === "managed"
            ? { _tag: "ManagedUser", clientId: clients.managed.clientId, calUserId }
            : { _tag: "OAuth2", clientId: clients.oauth2.clientId, calUserId, scope: "PROFILE_READ BOOKING_READ" }
        const usedAt = Math.floor(isReturning ? pair.issuedAt : now())
        return { userUlid, connection, pair, usedAt, isAway: isReturning }
      })
      yield* Import.connect(keys, connected)
      const at = now()
      for (const { pair } of connected) {
        deeds.push({ calUserId: pair.calUserId, at, what: "handedIn", hash: Import.hashOf(pair) })
      }
    }
    return { users, deeds, pages }
  })
