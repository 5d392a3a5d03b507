/**
 * Connecting people, and what else a backend does with connections. A module of its own, because most calls never need
 * it: it is loaded, with the services that it asks for, by those that do.
 */
import { type Context, Effect, Option, Predicate, Redacted, Schema } from "effect"
import { person } from "../Api/Person.js"
import { pageSize } from "../Api/Values.js"
import { CalClient, type NewManagedUser } from "../CalClient.js"
import { CalTokens, type ImportedRow, type NewConnection } from "../CalTokens.js"
import { eachOf } from "../CalTokens/Importing.js"
import { type Connected, ConnectFlow } from "../ConnectFlow.js"
import { ManagedUsers } from "../ManagedUsers.js"
import { Sessions, ttl } from "../Sessions.js"
import { iso, type UserUlid } from "../Token.js"
import { InvalidInput, type ReauthorizationCause, type TokenError } from "../TokenError.js"
import * as TokenInput from "../TokenInput.js"
import * as Shape from "../TokenInput/Shape.js"
import { TokenStorage } from "../TokenStorage.js"
import * as Listing from "../TokenStorage/Listing.js"
import { forbidden, Lacking } from "./Failure.js"
import type { Many } from "./Guard.js"

/**
 * The Cal.com account that a pair belongs to. Several clients? `clientId` names the one it was granted to.
 *
 * @since 0.1.0
 * @category models
 */
export type CalAccount =
  | { readonly kind: "managed"; readonly calUserId: number; readonly clientId?: string | undefined }
  | {
      readonly kind: "oauth2"
      /** Where you know it; by default whom the access token names. */
      readonly calUserId?: number | undefined
      readonly scope?: string | undefined
      readonly clientId?: string | undefined
    }

/**
 * A person to create at Cal.com.
 *
 * @since 0.1.0
 * @category models
 */
export interface NewManagedCalUser extends NewManagedUser {
  /** Where several platform clients are configured: whose user it becomes. */
  readonly clientId?: string | undefined
}

/**
 * Who was connected: `calUserId` is the user at Cal.com, or `null` for a token that is not a user's but a team's.
 *
 * @since 0.1.0
 * @category models
 */
export interface CalConnected {
  readonly success: true
  readonly calUserId: number | null
}

/**
 * A managed user of yours.
 *
 * @since 0.1.0
 * @category models
 */
export interface ManagedCalUser {
  readonly success: true
  readonly calUserId: number
}

/**
 * How a person is sent to Cal.com.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConnectUrlOptions {
  /**
   * Where the browser goes after the HTTP service's callback; below one of `CAL_TOKENS_RETURN_URLS`. Leave it out when your
   * app hosts the callback (`CAL_OAUTH_REDIRECT_URL`).
   */
  readonly returnTo?: string | undefined
  /** Take the Cal.com account from another of your users, if it turns out to be connected to one. */
  readonly replace?: boolean | undefined
  /** Where several OAuth2 clients are configured: which one the person is asked to trust. */
  readonly clientId?: string | undefined
}

/**
 * Where to send the browser, and what that URL says, for a page that asks Cal.com itself.
 *
 * @since 0.1.0
 * @category models
 */
export interface CalConnectUrl {
  readonly success: true
  readonly url: string
  /** ISO 8601: until when the browser has to be back. */
  readonly expiresAt: string
  readonly state: string
  readonly redirectUri: string
  readonly scopes: ReadonlyArray<string>
  /** Of PKCE; public clients only. */
  readonly codeChallenge?: string
  readonly codeChallengeMethod?: "S256"
}

/**
 * Which connections are wanted.
 *
 * @since 0.1.0
 * @category models
 */
export interface ListOptions {
  readonly status?: "active" | "reauthorizationRequired" | undefined
  /** That of the page before. */
  readonly cursor?: string | undefined
  /** 1 to 200; by default 50. */
  readonly limit?: number | undefined
}

/**
 * A connection in a list: no tokens. Instants are ISO 8601.
 *
 * @since 0.1.0
 * @category models
 */
export interface ListedCalConnection {
  readonly userUlid: string
  readonly kind: "managed" | "oauth2"
  readonly clientId: string
  readonly status: "active" | "reauthorizationRequired"
  /** Why the user has to reconnect, and since when. */
  readonly cause?: ReauthorizationCause
  readonly since?: string
  /** What probably became of the user, for people; absent where that does not show. */
  readonly hint?: string
  /** The user at Cal.com, where that is known. */
  readonly calUserId: number | null
  /** OAuth2: the scopes that were granted, where that is known. */
  readonly scope?: string
  readonly isExpired: boolean
  readonly accessTokenExpiresAt: string
  readonly refreshTokenExpiresAt: string | null
  /** Grows with every stored pair. */
  readonly version: number
  readonly updatedAt: string
}

/**
 * Connections in the order of their users' ULIDs.
 *
 * @since 0.1.0
 * @category models
 */
export interface CalConnectionsPage {
  readonly success: true
  readonly connections: ReadonlyArray<ListedCalConnection>
  /** Asks for the next page; absent on the last one. */
  readonly cursor?: string
}

/**
 * A user session: a signed key for one user.
 *
 * @since 0.1.0
 * @category models
 */
export interface CalSession {
  readonly success: true
  /** For that user's page, widget or agent: `Authorization: Bearer …` at the HTTP service's `/api/cal/me/…`. */
  readonly session: string
  /** ISO 8601. */
  readonly expiresAt: string
}

/**
 * What became of rows that were to be taken over, in their order.
 *
 * @since 0.1.0
 * @category models
 */
export interface CalConnectionsImported {
  readonly success: true
  readonly results: ReadonlyArray<ImportedRow>
}

/** For whom, and whom to tell that something was stored. */
interface For {
  readonly userUlid: UserUlid
  readonly changed: () => void
}

/** Those that a layer of the application's own may do without. */
const service = <I, S>(tag: Context.Tag<I, S>): Effect.Effect<S, Lacking> =>
  Effect.flatMap(
    Effect.serviceOption(tag),
    Option.match({
      onNone: () => new Lacking({ service: tag.key.replace(/^.*\//, "") }),
      onSome: Effect.succeed
    })
  )

const object = <A, I>(schema: Schema.Schema<A, I>, whole: string, broadest?: ReadonlyArray<keyof I & string>) => {
  const decode = Shape.object(schema, { whole, expected: "must be an object", broadest })
  return (value: unknown): Effect.Effect<A, InvalidInput> => Effect.suspend(() => decode(value))
}

const optional = <A>(value: Schema.Schema<A>) => Schema.optional(value)

const text = Schema.String.annotations({ title: "a text" })
const flag = Schema.Boolean.annotations({ title: "true or false" })
const texts = Schema.Array(Schema.String).annotations({ title: "an array of texts" })

const toAccount = object(
  Schema.Struct({
    kind: Schema.Literal("managed", "oauth2"),
    clientId: optional(text),
    calUserId: optional(Schema.Number),
    scope: optional(text)
  }),
  "account"
)

const toPerson = object(Schema.Struct({ ...person, clientId: optional(text) }), "user")

const toFlow = object(
  Schema.Struct({ returnTo: optional(text), replace: optional(flag), clientId: optional(text) }),
  "options"
)

const toReturned = object(Schema.Struct({ code: text, state: text }), "returned")

const toReplace = object(Schema.Struct({ replace: optional(flag) }), "options")

const pageLength = `a whole number from 1 to ${pageSize.maximum}`

const toQuery = object(
  Schema.Struct({
    status: optional(Schema.Literal("active", "reauthorizationRequired")),
    cursor: optional(text),
    limit: optional(
      Schema.Number.annotations({ title: pageLength }).pipe(
        Schema.filter((limit) => Number.isInteger(limit) && limit >= 1 && limit <= pageSize.maximum, {
          title: pageLength
        })
      )
    )
  }),
  "options"
)

const toSession = object(
  Schema.Struct({
    ttl: optional(Schema.Number.annotations({ title: `a whole number of seconds, 1 to ${ttl.longest}` })),
    methods: optional(texts),
    paths: optional(texts)
  }),
  "options",
  ["methods", "paths"]
)

/** Whether a managed user's id is there is looked at where all connections pass. */
const toConnection = ({ kind, ...account }: { readonly kind: CalAccount["kind"] }) =>
  ({ _tag: kind === "managed" ? "ManagedUser" : "OAuth2", ...account }) as NewConnection

/** A new connection of a user, with a pair that was got elsewhere. */
export const connect = (
  { changed, userUlid }: For,
  input: { readonly account: unknown; readonly tokens: unknown; readonly options: unknown }
): Effect.Effect<CalConnected, TokenError, CalTokens> =>
  Effect.gen(function* () {
    const account = yield* toAccount(input.account)
    const { replace } = yield* toReplace(input.options ?? {})
    const tokens = yield* CalTokens
    const { connection } = yield* tokens.connect(
      userUlid,
      toConnection(account),
      input.tokens as TokenInput.PairInput,
      { replace }
    )
    changed()
    return { success: true, calUserId: connection.calUserId ?? null }
  })

/** Connections of another system, each looked at by itself. */
export const takeOver = (
  { changed, mayAct }: Pick<Many<never>, "changed" | "mayAct">,
  rows: unknown
): Effect.Effect<CalConnectionsImported, TokenError, CalTokens> =>
  Effect.gen(function* () {
    if (!Array.isArray(rows)) return yield* new InvalidInput({ field: "rows", expected: "must be an array" })
    const tokens = yield* CalTokens
    const look = (row: unknown) =>
      Effect.gen(function* () {
        const input = Predicate.isRecord(row) ? row : {}
        const userUlid = yield* TokenInput.userUlid(input["userUlid"])
        if (!mayAct(userUlid)) return yield* Effect.fail({ message: forbidden.error })
        const connection = toConnection(yield* toAccount(input["account"]))
        return { userUlid, connection, tokens: input["tokens"] as TokenInput.PairInput }
      })
    const results = yield* eachOf(rows, look, tokens.importConnections)
    for (const { outcome, userUlid } of results) {
      if (userUlid !== undefined && (outcome === "imported" || outcome === "updated")) changed(userUlid)
    }
    return { success: true, results }
  })

/** At Cal.com and here; may be repeated. */
export const create = (
  { changed, userUlid }: For,
  input: unknown
): Effect.Effect<ManagedCalUser, TokenError | Lacking> =>
  Effect.gen(function* () {
    const { clientId, ...user } = yield* toPerson(input)
    const managedUsers = yield* service(ManagedUsers)
    const onStored = () => Effect.sync(changed)
    const { calUserId } = yield* managedUsers.create(userUlid, user, { clientId, onStored })
    return { success: true, calUserId }
  })

/** Begins a flow. */
export const begin = ({ userUlid }: For, options: unknown): Effect.Effect<CalConnectUrl, TokenError | Lacking> =>
  Effect.gen(function* () {
    const wanted = yield* toFlow(options ?? {})
    const flow = yield* service(ConnectFlow)
    const { codeChallenge, expiresAt, redirectUrl, scopes, state, url } = yield* flow.begin(userUlid, wanted)
    return {
      success: true,
      url,
      expiresAt: iso(expiresAt),
      state,
      redirectUri: redirectUrl,
      scopes,
      ...(codeChallenge === undefined ? {} : { codeChallenge, codeChallengeMethod: "S256" })
    }
  })

const connected = ({ calUserId }: Connected): CalConnected => ({
  success: true,
  calUserId: Option.getOrNull(calUserId)
})

/** Ends a flow whose callback is the application's. */
export const exchange = (
  { changed, userUlid }: For,
  returned: unknown
): Effect.Effect<CalConnected, TokenError | Lacking> =>
  Effect.gen(function* () {
    const { code, state } = yield* toReturned(returned)
    const flow = yield* service(ConnectFlow)
    return connected(
      yield* flow.exchange(userUlid, { code: Redacted.make(code), state: Redacted.make(state) }, () =>
        Effect.sync(changed)
      )
    )
  })

/** Ends one that came back to the HTTP service. */
export const confirm = (
  { changed, userUlid }: For,
  completion: unknown
): Effect.Effect<CalConnected, TokenError | Lacking> =>
  Effect.gen(function* () {
    const flow = yield* service(ConnectFlow)
    // Whether it is a text at all is looked at there.
    const presented = Redacted.make(completion as string)
    return connected(yield* flow.confirm(userUlid, presented, () => Effect.sync(changed)))
  })

/** A page of connections. */
export const list = (options: unknown): Effect.Effect<CalConnectionsPage, TokenError | Lacking> =>
  Effect.gen(function* () {
    const { limit = pageSize.default, ...query } = yield* toQuery(options ?? {})
    const storage = yield* service(TokenStorage)
    const client = yield* service(CalClient)
    const { connections, ...page } = yield* Effect.provideService(
      Listing.page({ ...query, limit }, client.now),
      TokenStorage,
      storage
    )
    return {
      success: true,
      connections: connections.map((one) => ({ ...Listing.withInstants(one, iso), userUlid: one.userUlid })),
      ...page
    }
  })

/** A key for one user, for a browser. */
export const session = ({ userUlid }: For, options: unknown): Effect.Effect<CalSession, TokenError | Lacking> =>
  Effect.gen(function* () {
    const wanted = yield* toSession(options ?? {})
    const sessions = yield* service(Sessions)
    const { expiresAt, session } = yield* sessions.create(userUlid, wanted)
    return { success: true, session: Redacted.value(session), expiresAt: iso(expiresAt) }
  })
