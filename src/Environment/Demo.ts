/**
 * The demo: three users of the sandbox, connected, and kept valid in the background so that refreshes can be watched.
 * Only for the sandbox; nothing here touches a real Cal.com client.
 */
import { Duration, Effect, Layer, Redacted, Schedule } from "effect"
import { callbackPath } from "../Api/OAuth.js"
import { Scope } from "../ApiKeys/Scope.js"
import type * as CalClient from "../CalClient.js"
import { CalTokens } from "../CalTokens.js"
import * as Sandbox from "../Sandbox.js"
import { UserUlid } from "../Token.js"
import type { TokenError } from "../TokenError.js"

/** Short, so that one does not have to wait for an expiry. */
export const accessTokenLifetime = Duration.seconds(120)

/** Where the sandbox is mounted. */
export const sandboxPath = "/_sandbox"

const keepInterval = Duration.seconds(20)

export interface DemoUser {
  readonly userUlid: UserUlid
  readonly name: string
  readonly kind: "managed" | "oauth2"
  /** How long the first token of this user lasts. */
  readonly lasts?: Duration.Duration | undefined
}

export const ada: DemoUser = { userUlid: UserUlid.make("01JDEM0000000000000000ADA0"), name: "Ada", kind: "managed" }
export const ben: DemoUser = {
  userUlid: UserUlid.make("01JDEM0000000000000000BEN0"),
  name: "Ben",
  kind: "managed",
  lasts: Duration.seconds(1)
}
export const cem: DemoUser = { userUlid: UserUlid.make("01JDEM0000000000000000CEM0"), name: "Cem", kind: "oauth2" }

export const users: ReadonlyArray<DemoUser> = [ada, ben, cem]

/** How Cal.com knows somebody. */
export const emailOf = (name: string): string => `${name.toLowerCase()}@demo.example`

/**
 * Known to everybody, so that it is the same at each start: only where nobody but this machine reaches the demo. It may do
 * all that there is.
 */
export const wellKnownKey = Redacted.make("demo-key-that-everybody-knows-of-simulated-users")

export const scopes: ReadonlySet<Scope> = new Set(Scope.literals)

/** The OAuth2 client of a service that is reached at this URL. */
const oauth2Client = (url: string) => ({ ...Sandbox.demoOAuth2, redirectUris: [`${url}${callbackPath}`] as const })

/** The clients of this service that the sandbox knows. */
export const clientOptions = (url: string) => {
  const { clientId, clientSecret, redirectUris } = oauth2Client(url)
  return {
    apiUrl: "https://sandbox.invalid/v2",
    managed: { clientId: Sandbox.demoManaged.clientId, clientSecret: Sandbox.demoManaged.clientSecret },
    oauth2: {
      clientId,
      clientSecret,
      redirectUrl: redirectUris[0],
      // The sandbox's own page, beside the service.
      authorizeUrl: `${url}${sandboxPath}/auth/oauth2/authorize`,
      scopes: Sandbox.demoOAuth2.scopes
    }
  } satisfies CalClient.Options
}

/** The same clients as the sandbox sees them. */
export const sandboxOptions = (url: string): Sandbox.Options => ({ accessTokenLifetime, oauth2: oauth2Client(url) })

/** What a new person, or one who consents again, brings along. */
const grant = ({ kind, lasts, name }: DemoUser) =>
  Effect.gen(function* () {
    const sandbox = yield* Sandbox.Sandbox
    const person = { name, email: emailOf(name) }
    const pair = yield* kind === "managed" ? sandbox.grantManaged(person) : sandbox.grantOAuth2(person)
    const { connection } = pair
    if (lasts === undefined) return { connection, pair }
    yield* sandbox.expireAccessTokens(connection.calUserId)
    const accessTokenExpiresAt = (yield* sandbox.now) + Duration.toMillis(lasts)
    return { connection, pair: { ...pair, accessTokenExpiresAt } }
  })

export const connect = (user: DemoUser) =>
  Effect.gen(function* () {
    const tokens = yield* CalTokens
    const sandbox = yield* Sandbox.Sandbox
    const obtain = Effect.provideService(grant(user), Sandbox.Sandbox, sandbox)
    yield* tokens.connectWith(user.userUlid, obtain, { replace: true })
  })

/** Whether an earlier demo left this user in a state that only a new consent cures. */
const isLost = (error: TokenError) => error._tag === "ReauthorizationRequired" || error._tag === "TokenUnreadable"

const seed = (user: DemoUser) =>
  Effect.gen(function* () {
    const tokens = yield* CalTokens
    const sandbox = yield* Sandbox.Sandbox
    const { connection, status } = yield* tokens.info(user.userUlid)
    const { users } = yield* sandbox.snapshot
    const known = users.some(({ id }) => id === connection.calUserId)
    if (!known || status._tag === "ReauthorizationRequired") yield* connect(user)
  }).pipe(
    Effect.catchTags({
      TokensNotFound: () => connect(user),
      TokenUnreadable: () => connect({ ...user, lasts: undefined })
    })
  )

/** Ensures a user's token; until that worked once, a lost user consents again. */
const keep = (user: DemoUser) => {
  let worked = false
  return Effect.gen(function* () {
    const tokens = yield* CalTokens
    yield* tokens.ensureValid(user.userUlid, { handsOut: false })
    worked = true
  }).pipe(
    Effect.catchAll((error) =>
      worked || !isLost(error)
        ? Effect.void // CalTokens has logged it.
        : Effect.zipRight(
            Effect.logInfo(
              `Demo: ${user.name} lost the connection when an earlier start broke off, and consents again`
            ),
            connect(user)
          )
    ),
    Effect.ignore
  )
}

/** Connects the users that are not connected yet. */
export const layerSeed: Layer.Layer<never, TokenError, CalTokens | Sandbox.Sandbox> = Layer.effectDiscard(
  Effect.forEach(users, seed, { discard: true })
)

/** Keeps them valid, the first time a moment after the start. */
export const layerKeep: Layer.Layer<never, never, CalTokens | Sandbox.Sandbox> = Layer.scopedDiscard(
  Effect.gen(function* () {
    yield* Effect.sleep(Duration.seconds(2))
    yield* Effect.logInfo(
      `Demo: tokens live ${Duration.toSeconds(accessTokenLifetime)} s here, so every ` +
        `${Duration.toSeconds(keepInterval)} s this process asks for those of ${users.map(({ name }) => name).join(", ")}`
    )
    const keepAll = Effect.all(users.map(keep), { discard: true })
    yield* Effect.repeat(keepAll, Schedule.spaced(keepInterval))
  }).pipe(Effect.forkScoped)
)
