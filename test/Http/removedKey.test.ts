/**
 * Somebody who has an encryption key of the service and can write to its database: everything opens for them while the key
 * is in the list, which shows that their tools work, and nothing from when it is not.
 */
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Either, Layer, Redacted, TestClock } from "effect"
import * as KeyRing from "../../src/KeyRing.js"
import * as Sandbox from "../../src/Sandbox.js"
import * as Sessions from "../../src/Sessions.js"
import { hash, unverifiedClaims } from "../../src/Token.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import * as Sealing from "../../src/TokenStorage/Postgres/Sealing.js"
import * as Lookups from "../../src/TokenStorage/Lookups.js"
import { call, keys, layerOn, origin } from "../support/HttpWorld.js"
import { keyOf, layerKeys } from "../support/Keys.js"
import { layerDatabase } from "../support/Postgres.js"
import * as World from "../support/World.js"

const [attacker, victim] = [World.user(1), World.user(2)]

const [leaked, present] = [keyOf("leaked", 1), keyOf("present", 2)]

/** What the attacker has. */
const theirs = KeyRing.make(Either.getOrThrow(KeyRing.parseKeys(Redacted.make(leaked))))

const layer = (ring: string) =>
  layerOn(
    World.node({ memoryMaxAge: Duration.zero }).pipe(
      Layer.provideMerge(Postgres.layer({ clock: "effect" })),
      Layer.provideMerge(layerDatabase()),
      Layer.provide(layerKeys(ring)),
      Layer.provideMerge(Sandbox.layer())
    ),
    { keyRing: Layer.orDie(layerKeys(ring)) }
  )

/** Whose token or account each attack reached, or with what it was refused. */
const attacks = Effect.gen(function* () {
  yield* TestClock.setTime(World.epoch)
  const sql = yield* SqlClient.SqlClient
  const own = yield* World.obtainManaged(attacker)
  const of = yield* World.obtainManaged(victim)
  yield* TestClock.adjust("12 seconds")
  const reached = (request: Parameters<typeof call>[0]) =>
    Effect.map(call(request), ({ json, status }) => {
      if (status !== 200) return String(json["code"])
      const token = json["accessToken"]
      const id =
        typeof token === "string"
          ? unverifiedClaims(Redacted.make(token)).calUserId
          : (json["data"] as { readonly id: number }).id
      return id === of.calUserId ? "the victim's" : "their own"
    })

  const sessions = yield* Effect.provideService(Sessions.make, KeyRing.KeyRing, theirs)
  const { session } = yield* sessions.create(victim)
  const bySession = yield* reached({ path: "/api/cal/me/me", key: Redacted.value(session) })

  // Their own token is said to be one that the victim had until now, and one to have been handed out just now.
  const at = World.epoch + 12_000
  const [text, code, names] = Sealing.lookups(theirs, victim, [
    ...Lookups.granted(of),
    { key: Lookups.keyOf(hash(own.accessToken)), supersededAt: at }
  ])
  const [handedOutAt, handedOutCode] = Sealing.handedOut(theirs, victim, at)
  yield* sql`delete from cal_tokens.access_token_lookup`
  yield* sql`
    update cal_tokens.connection set lookups = ${text}, lookups_code = ${code}, handed_out_at = ${handedOutAt},
      handed_out_code = ${handedOutCode} where user_ulid = ${victim}`
  for (const name of JSON.parse(names) as ReadonlyArray<string>) {
    yield* sql`insert into cal_tokens.access_token_lookup (name, user_ulid) values (${name}, ${victim})`
  }
  const byLookup = yield* reached({
    path: "/api/cal/atoms/refresh",
    headers: { origin, authorization: `Bearer ${Redacted.value(own.accessToken)}` }
  })

  // The victim's row holds the attacker's pair.
  const account = { _tag: "ManagedUser", clientId: Sandbox.demoManaged.clientId, calUserId: of.calUserId } as const
  const [envelope] = yield* Sealing.seal(theirs, victim, account, {
    accessToken: own.accessToken,
    refreshToken: own.refreshToken,
    accessTokenExpiresAt: own.accessTokenExpiresAt
  })
  yield* sql`update cal_tokens.connection set pair = ${envelope} where user_ulid = ${victim}`
  const bySeal = yield* reached({ path: `/api/cal/access-token/${victim}`, key: keys.all })
  return { bySession, byLookup, bySeal }
})

describe("a key that leaked", () => {
  for (const ring of [`${present},${leaked}`, `${leaked},${present}`]) {
    it.effect(`opens what it is for while it is in the list (${ring.startsWith(leaked) ? "first" : "last"})`, () =>
      Effect.map(attacks, (reached) =>
        assert.deepStrictEqual(reached, {
          bySession: "the victim's",
          byLookup: "the victim's",
          bySeal: "their own"
        })
      ).pipe(Effect.provide(layer(ring)))
    )
  }

  for (const [what, ring] of [
    ["is not in it any more", present],
    ["is replaced by another one of its name", `${present},${keyOf("leaked", 3)}`]
  ] as const) {
    it.effect(`opens and proves nothing from when it ${what}`, () =>
      Effect.map(attacks, (reached) =>
        assert.deepStrictEqual(reached, {
          bySession: "Unauthorized",
          byLookup: "Unauthorized",
          // As the process remembers it.
          bySeal: "the victim's"
        })
      ).pipe(Effect.provide(layer(ring)))
    )
  }
})
