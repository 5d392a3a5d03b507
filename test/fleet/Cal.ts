/**
 * Cal.com for a fleet: the sandbox on a socket, some milliseconds away. It runs in the test's own process, so that a test
 * can count what reached it and ask which tokens it would take.
 */
import { randomBytes } from "node:crypto"
import * as Http from "node:http"
import { NodeHttpServer } from "@effect/platform-node"
import { Duration, Effect, Redacted, Ref } from "effect"
import * as Sandbox from "../../src/Sandbox.js"
import { UserUlid } from "../../src/Token.js"
import { portOf } from "./Port.js"

/** A user of the service with the pair that Cal.com granted. */
export interface User {
  readonly userUlid: UserUlid
  readonly kind: "managed" | "oauth2"
  readonly calUserId: number
  readonly accessToken: string
  readonly refreshToken: string
}

/** A request and its answer take so long together. */
export const latency = Duration.millis(200)

const secret = () => randomBytes(24).toString("base64url")

/** An old token is not taken for one that Cal.com's replicas do not know yet. */
const age = Duration.minutes(10)

export const make = Effect.gen(function* () {
  const managed = { clientId: `managed-${secret()}`, clientSecret: Redacted.make(secret()) }
  const oauth2 = {
    clientId: `oauth2-${secret()}`,
    clientSecret: Redacted.make(secret()),
    redirectUris: ["http://127.0.0.1/callback"],
    scopes: ["PROFILE_READ", "BOOKING_READ"]
  }
  const rateLimits = { ...Sandbox.defaultSwitches.rateLimits, enabled: false }
  const sandbox = yield* Sandbox.make({ managed, oauth2, switches: { rateLimits } })
  const half = Effect.sleep(Duration.times(latency, 0.5))
  // Cal.com goes on when its caller dies.
  const app = Effect.uninterruptible(Effect.zipLeft(Effect.zipRight(half, sandbox.app), half))
  const server = Http.createServer(yield* NodeHttpServer.makeHandler(app))
  yield* Effect.addFinalizer(() => Effect.sync(() => void server.close().closeAllConnections()))
  const port = yield* portOf(server)

  const granted = (kind: User["kind"], userUlid: UserUlid) => {
    const email = `${userUlid.toLowerCase()}@fleet.example`
    const person = { email, name: email }
    const grant: Effect.Effect<Sandbox.ManagedGrant | Sandbox.OAuth2Grant> =
      kind === "managed" ? sandbox.grantManaged(person) : sandbox.grantOAuth2(person)
    return Effect.map(grant, ({ accessToken, calUserId, refreshToken }): User => ({
      userUlid,
      kind,
      calUserId,
      accessToken: Redacted.value(accessToken),
      refreshToken: Redacted.value(refreshToken)
    }))
  }

  return {
    ...sandbox,
    /** The settings of the service that belong to this Cal.com. */
    env: {
      CAL_API_URL: `http://127.0.0.1:${port}/v2`,
      CAL_CLIENT_ID: managed.clientId,
      CAL_CLIENT_SECRET: Redacted.value(managed.clientSecret),
      // Nobody goes there.
      CAL_OAUTH_AUTHORIZE_URL: `http://127.0.0.1:${port}/auth/oauth2/authorize`,
      CAL_OAUTH_CLIENT_ID: oauth2.clientId,
      CAL_OAUTH_CLIENT_SECRET: Redacted.value(oauth2.clientSecret)
    },
    /** Somebody new, whose tokens are some minutes old. */
    newUser: (kind: User["kind"]): Effect.Effect<User> =>
      Effect.gen(function* () {
        const skewed = (millis: number) =>
          Ref.update(sandbox.switches, (switches) => ({ ...switches, clockSkewMillis: millis }))
        const userUlid = yield* newUlid
        // Granting takes no time, so nobody else sees this clock.
        yield* skewed(-Duration.toMillis(age))
        return yield* Effect.zipLeft(granted(kind, userUlid), skewed(0))
      }),
    /** The same user with another pair, the only one that Cal.com takes from now on. */
    renewed: ({ calUserId, kind, userUlid }: User): Effect.Effect<User> =>
      Effect.zipRight(sandbox.revokeRefreshTokens(calUserId), granted(kind, userUlid)),
    /** How often a user's refresh token was presented, and how many pairs Cal.com granted for that. */
    refreshes: ({ calUserId }: User) =>
      Effect.map(sandbox.calls, (calls) => {
        const mine = calls.filter((call) => call.calUserId === calUserId)
        const presented = mine.filter(({ kind }) => kind === "refresh" || kind === "oauth2Refresh")
        return {
          presented: presented.length,
          granted: presented.filter((call) => call.issuedRefreshTokenHash !== undefined).length,
          reissued: mine.filter(({ kind }) => kind === "forceRefresh").length
        }
      })
  }
})

export type Cal = Effect.Effect.Success<typeof make>

const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

const newUlid = Effect.sync(() =>
  UserUlid.make(`0${Array.from(randomBytes(25), (byte) => alphabet[byte % 32]).join("")}`)
)
