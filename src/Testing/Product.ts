/** The product over memory, against the simulator, in one layer; and people who are connected in it in one line. */
import { Effect, Layer } from "effect"
import * as CalApi from "../CalApi.js"
import * as CalClient from "../CalClient.js"
import * as CalTokens from "../CalTokens.js"
import * as ConnectFlow from "../ConnectFlow.js"
import * as FlowStorage from "../FlowStorage.js"
import * as KeyRing from "../KeyRing.js"
import * as ManagedUsers from "../ManagedUsers.js"
import * as Sandbox from "../Sandbox.js"
import * as Sessions from "../Sessions.js"
import * as TokenConfig from "../TokenConfig.js"
import * as TokenInput from "../TokenInput.js"
import * as TokenStorage from "../TokenStorage/Public.js"

/**
 * What differs from a Cal.com and a service as they are by default.
 *
 * @since 0.1.0
 * @category models
 */
export interface TestOptions extends Sandbox.Options {
  /** Numbers of the refresh rules to change. */
  readonly config?: Partial<TokenConfig.Options> | undefined
  /** Where the connect flow may send browsers back to. */
  readonly returnUrls?: ReadonlyArray<string> | undefined
}

/**
 * Everything that a program asks for, and the simulator's handle. Of several clients of a kind the first
 * is the one that is meant where none is named. Two of these layers share nothing: one for each test.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest = ({ config = {}, returnUrls, ...options }: TestOptions = {}) => {
  const [managed, ...otherManaged] = listOf<Sandbox.ManagedClient>(options.managed ?? Sandbox.demoManaged).map(
    ({ clientId, clientSecret }) => ({ clientId, clientSecret: secretOf(clientSecret) })
  )
  const [oauth2, ...otherOAuth2] = listOf<Sandbox.OAuth2Client>(options.oauth2 ?? Sandbox.demoOAuth2).map(
    ({ clientId, clientSecret, redirectUris, scopes }) => ({
      clientId,
      clientSecret: clientSecret === undefined ? undefined : secretOf(clientSecret),
      redirectUrl: redirectUris[0],
      scopes
    })
  )
  const others = { managed: otherManaged, oauth2: otherOAuth2 }
  return Layer.mergeAll(CalApi.layer, ConnectFlow.layer({ returnUrls }), ManagedUsers.layer, Sessions.layer).pipe(
    Layer.provideMerge(CalTokens.layer),
    Layer.provideMerge(CalClient.layer({ apiUrl: "https://sandbox.invalid/v2", managed, oauth2, others })),
    Layer.provide(Sandbox.layerHttpClient),
    Layer.provideMerge(
      Layer.mergeAll(
        Sandbox.layer(options),
        TokenStorage.layerMemory,
        FlowStorage.layerMemory,
        KeyRing.layerEphemeral,
        TokenConfig.layer(config)
      )
    )
  )
}

/**
 * Connects a user of the program as a managed user, new at Cal.com unless `person` says whom. Answers what Cal.com gave:
 * `calUserId` is how the simulator's handle knows them, `eventTypeId` what can be booked with them. Fails as `connect` does.
 *
 * @since 0.1.0
 * @category testing
 */
export const connectManaged = (userUlid: string, person?: Sandbox.Person) =>
  Effect.flatMap(Sandbox.Sandbox, (sandbox) => Effect.tap(sandbox.grantManaged(person), connecting(userUlid)))

/**
 * The same for somebody who consented to the OAuth2 client.
 *
 * @since 0.1.0
 * @category testing
 */
export const connectOAuth2 = (userUlid: string, person?: Sandbox.Person & { readonly scope?: string | undefined }) =>
  Effect.flatMap(Sandbox.Sandbox, (sandbox) => Effect.tap(sandbox.grantOAuth2(person), connecting(userUlid)))

const connecting = (userUlid: string) => (grant: Sandbox.ManagedGrant | Sandbox.OAuth2Grant) =>
  Effect.gen(function* () {
    const tokens = yield* CalTokens.CalTokens
    yield* tokens.connect(yield* TokenInput.userUlid(userUlid), grant.connection, grant)
  })

/** One, or several. */
export const listOf = <A extends object>(some: A | ReadonlyArray<A>): ReadonlyArray<A> => (isList(some) ? some : [some])

const isList = <A extends object>(some: A | ReadonlyArray<A>): some is ReadonlyArray<A> => Array.isArray(some)

/** Two at most are alive at Cal.com. */
const secretOf = (secret: Sandbox.ManagedClient["clientSecret"]): CalClient.ClientSecret => {
  const [one, other] = listOf(secret)
  if (one === undefined) throw new Error("A client has no secret")
  return other === undefined ? one : [one, other]
}
