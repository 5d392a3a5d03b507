/**
 * Connecting people to their Cal.com accounts through OAuth 2.0: where to send the browser, what to do when it is back,
 * and the exchange of the code for tokens.
 *
 * There are two ways back. An app that hosts the callback itself hands code and state over ({@link ConnectFlow}`.exchange`).
 * Or the callback is this service's: it keeps the code, sends the browser on to the app with a one-time completion, and
 * connects nobody until the app says, from its own session, whose completion that is. The browser that comes back need
 * not be the one of the user who started: a link to the consent page can be sent to anybody, who would otherwise connect
 * their calendar to somebody else's account.
 */
import { Context, Data, Effect, Either, Layer, Match, Option, Redacted, type Scope } from "effect"
import { CalClient } from "./CalClient.js"
import { CalTokens, type OnStored } from "./CalTokens.js"
import * as Untold from "./CalTokens/Untold.js"
import * as Owned from "./Fibers/Owned.js"
import * as Outcome from "./CalClient/Outcome.js"
import * as Tried from "./CalHttp/Tried.js"
import * as Authorization from "./ConnectFlow/Authorization.js"
import { type Flow, FlowStorage } from "./FlowStorage.js"
import * as ReturnUrls from "./ConnectFlow/ReturnUrls.js"
import { hash, type UserUlid } from "./Token.js"
import { TokenConfig } from "./TokenConfig.js"
import {
  CalClientMisconfigured,
  type CallError,
  CalRateLimited,
  CalUnavailable,
  type ConnectError,
  InvalidInput,
  noClient,
  type ReauthorizationRequired,
  StorageUnavailable
} from "./TokenError.js"
import * as TokenInput from "./TokenInput.js"

/**
 * The OAuth2 clients are those of `CalClient`. Without one that has a redirect URL, every flow fails with a word about that.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** Where browsers may be sent back to: an URL allows its origin, and its path with everything below. */
  readonly returnUrls?: ReadonlyArray<string> | undefined
}

/**
 * What is decided before a person leaves for Cal.com.
 *
 * @since 0.1.0
 * @category models
 */
export interface BeginOptions {
  /** Which OAuth2 client the person is asked to trust; absent: the usual one, or the only one. */
  readonly clientId?: string | undefined
  /** Where the browser goes after our callback. Absent: the app hosts the callback itself. */
  readonly returnTo?: string | undefined
  /** Take the Cal.com account from another user, if it turns out to be connected to one. */
  readonly replace?: boolean | undefined
}

/**
 * A flow that has begun: where to send the browser, and what that URL says, for a page that asks Cal.com itself.
 *
 * @since 0.1.0
 * @category models
 */
export interface Begun {
  readonly url: string
  /** When the browser has to be back, in ms since the epoch. */
  readonly expiresAt: number
  readonly state: string
  readonly redirectUrl: string
  readonly scopes: ReadonlyArray<string>
  /** Of PKCE, with S256; public clients only. */
  readonly codeChallenge?: string | undefined
}

/**
 * A person who is back from Cal.com.
 *
 * @since 0.1.0
 * @category models
 */
export type Return = Data.TaggedEnum<{
  /** Send the browser there; the URL holds the completion, unless that was used up. */
  GoOn: { readonly location: Redacted.Redacted }
  /** There is nothing to go on with, and the person has to be told. */
  Stop: {
    readonly problem: Problem
    /** Where the flow was to lead, for a link, where a valid state tells it and it is allowed. */
    readonly backTo: Option.Option<string>
  }
}>
export const Return = Data.taggedEnum<Return>()

/**
 * Why nobody was connected.
 *
 * @since 0.1.0
 * @category models
 */
export type Problem =
  | Authorization.NoCode
  /** Nobody is expected with this state, or not with this code: it was used, has expired, or never was. */
  | "unknownState"
  /** The flow was begun for a callback of the app's own. */
  | "notOurs"
  /** Where the flow leads is not, or no longer, among the URLs that are allowed. */
  | "notAllowed"

/**
 * What `begin` may fail with.
 *
 * @since 0.1.0
 * @category models
 */
export type BeginError = InvalidInput | CalClientMisconfigured | StorageUnavailable

/**
 * The new tokens are tried out where an account was taken over; then it may turn out that the person has to connect once more.
 *
 * @since 0.1.0
 * @category models
 */
export type ExchangeError = ConnectError | CallError | ReauthorizationRequired

/**
 * Which Cal.com account was connected; `None` when its token does not say (a team's).
 *
 * @since 0.1.0
 * @category models
 */
export interface Connected {
  readonly calUserId: Option.Option<number>
}

/**
 * Connects people by Cal.com's consent (OAuth2, with PKCE for public clients).
 *
 * @since 0.1.0
 * @category tags
 */
export class ConnectFlow extends Context.Tag("cal-tokens/ConnectFlow")<
  ConnectFlow,
  {
    /**
     * Begins a flow. Fails with `CalClientMisconfigured` when no OAuth2 client is configured, and with `InvalidInput` when
     * it is not clear which one is meant.
     */
    readonly begin: (userUlid: UserUlid, options?: BeginOptions) => Effect.Effect<Begun, BeginError>
    /**
     * Exchanges a code that came back to the app's own callback. The state works once, for its own user; whatever this
     * answers, the next try begins with a new URL. What the user was connected to before stays until the new tokens are
     * stored, which `onStored` is told of, whatever this answers then. It goes on without its caller.
     */
    readonly exchange: (
      userUlid: UserUlid,
      returned: { readonly code: Redacted.Redacted; readonly state: Redacted.Redacted },
      onStored?: OnStored
    ) => Effect.Effect<Connected, ExchangeError>
    /**
     * Takes what a browser brings to our callback. Connects nobody. It may come again with the same state and code, as
     * browsers do: until the completion is used up there is a new one each time, which replaces the one before.
     */
    readonly comeBack: (parameters: URLSearchParams) => Effect.Effect<Return, StorageUnavailable>
    /** Connects the user whose completion this is, under the same rules as `exchange`. */
    readonly confirm: (
      userUlid: UserUlid,
      completion: Redacted.Redacted,
      onStored?: OnStored
    ) => Effect.Effect<Connected, ExchangeError>
  }
>() {}

/**
 * Without a layer.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options
): Effect.Effect<Context.Tag.Service<ConnectFlow>, never, CalClient | CalTokens | FlowStorage | Scope.Scope> =>
  Effect.gen(function* () {
    const client = yield* CalClient
    const clients = client.clients.oauth2
    const tokens = yield* CalTokens
    const storage = yield* FlowStorage
    const { shutdownWait } = yield* TokenConfig
    const { returnUrls = [] } = options
    const owned = yield* Owned.make({ shutdownWait, onAbandoned: reportAbandoned })

    /** Once a state is used up nobody's leaving may cut what follows. */
    const toTheEnd = <A, E>(userUlid: UserUlid, work: Effect.Effect<A, E>) =>
      Effect.suspend(() => Effect.flatten(owned.runToEnd(work, userUlid).await))

    const chosen = (clientId: string | undefined) =>
      Effect.flatMap(clients.choose(clientId), (found) => {
        const chosen = Option.getOrUndefined(found)
        return chosen?.redirectUrl === undefined
          ? notConfigured()
          : Effect.succeed({ ...chosen, redirectUrl: chosen.redirectUrl })
      })

    /** Fails before a state is used up in vain. */
    const isOn = [...clients.all.values()].some(({ redirectUrl }) => redirectUrl !== undefined)
    const on = Effect.suspend(() => (isOn ? Effect.void : notConfigured()))

    const connect = (userUlid: UserUlid, { replace, ...flow }: Flow, code: Redacted.Redacted, onStored?: OnStored) =>
      Effect.gen(function* () {
        const { clientId, codeVerifier } = flow
        if (!clients.all.has(clientId)) return yield* Effect.fail(Outcome.notConfigured(clientId).error)
        const obtain = Effect.map(client.exchange({ clientId, code, codeVerifier }), (grant) => ({
          connection: { _tag: "OAuth2", clientId, calUserId: grant.calUserId, scope: grant.scope } as const,
          pair: grant.pair
        }))
        const { connection } = yield* tokens.connectWith(userUlid, obtain, { replace, onStored })
        if (replace) yield* tryOut(userUlid)
        return { calUserId: Option.fromNullable(connection.calUserId) }
      }).pipe(Effect.mapError(startAgain))

    /**
     * Cal.com ends all refresh tokens of an account with each rotation, and whoever had the account until now may have
     * been refreshed after the exchange. Then the person connects once more, and better now than at the next expiry.
     */
    const tryOut = (userUlid: UserUlid) =>
      Effect.catchAll(tokens.refresh(userUlid, { forceRefresh: true }), (error) =>
        error._tag === "ReauthorizationRequired" ? Effect.fail(error) : Untold.log(userUlid, error)
      )

    /** Looks for what a secret finds, unless it was never one of ours. */
    const ifSigned = <A, E>(secret: Redacted.Redacted, look: (hash: string) => Effect.Effect<Option.Option<A>, E>) =>
      Effect.flatMap(storage.isSigned(secret), (isSigned) => (isSigned ? look(hash(secret)) : Effect.succeedNone))

    /** A secret that turned up with another user is used up too: whoever it was made for did not bring it. */
    const ownedBy =
      (field: "state" | "completion", userUlid: UserUlid) =>
      <F extends Flow>(found: Option.Option<F>): Effect.Effect<F, InvalidInput> => {
        const flow = Option.getOrUndefined(found)
        if (flow?.userUlid === userUlid) return Effect.succeed(flow)
        const refusal = new InvalidInput({
          field,
          expected: "is not this user's, or was used, or has expired: start again with a new authorize URL"
        })
        return flow === undefined
          ? Effect.fail(refusal)
          : Effect.logWarning(`A ${field} was presented for another user than it was made for`).pipe(
              Effect.annotateLogs({ userUlid, madeFor: flow.userUlid }),
              Effect.zipRight(Effect.fail(refusal))
            )
      }

    /** A page with a way back to the app, where that is known and allowed. */
    const stop = (problem: Problem, returnTo: Option.Option<string>) => Return.Stop({ problem, backTo: returnTo })

    const unknown = stop("unknownState", Option.none())

    const goOn = (location: string) => Return.GoOn({ location: Redacted.make(location) })

    /** Other requests of the same browser may come between a look and a write: then it looks again. */
    const comeBack = (
      parameters: URLSearchParams,
      state: Redacted.Redacted,
      looks = 5
    ): Effect.Effect<Return, StorageUnavailable> =>
      Effect.gen(function* () {
        const stateHash = hash(state)
        const flow = Option.getOrUndefined(yield* storage.find(stateHash))
        const asked = flow && clients.all.get(flow.clientId)
        if (flow === undefined || asked === undefined) return unknown
        const { authorizeUrl = Authorization.defaultAuthorizeUrl, clientId } = asked
        // What is allowed may have changed since the flow began.
        const returnTo = yield* Effect.option(ReturnUrls.check(returnUrls, flow.returnTo ?? ""))
        const returned = Either.filterOrLeft(
          Authorization.codeOf(parameters, { authorizeUrl, clientId, state }),
          () => flow.returnTo !== undefined,
          () => "notOurs" as const
        )
        // The first code that came counts, and nothing takes it away.
        const isAnother = flow.codeHash !== Option.getOrUndefined(Option.map(Either.getRight(returned), hash))
        if (flow.codeHash !== undefined && isAnother) return stop("unknownState", returnTo)
        if (Either.isLeft(returned)) {
          // However it ended, this flow is over.
          yield* storage.take(stateHash)
          yield* Effect.logInfo("Somebody came back from Cal.com without a connection").pipe(
            Effect.annotateLogs({ userUlid: flow.userUlid, problem: returned.left })
          )
          return stop(returned.left, returnTo)
        }
        if (Option.isNone(returnTo)) {
          yield* Effect.logWarning("Somebody came back from Cal.com to a return URL that is not allowed any more").pipe(
            Effect.annotateLogs({ userUlid: flow.userUlid })
          )
          return stop("notAllowed", returnTo)
        }
        // The app has its answer, and tells its user better than a page of ours could.
        if (flow.isOver) return goOn(returnTo.value)
        const completion = yield* storage.sign(yield* Authorization.random)
        if (yield* storage.keep({ stateHash, flow, code: returned.right, completionHash: hash(completion) })) {
          return goOn(ReturnUrls.complete(returnTo.value, Redacted.value(completion)))
        }
        return looks > 1 ? yield* comeBack(parameters, state, looks - 1) : unknown
      })

    return ConnectFlow.of({
      begin: Effect.fn("ConnectFlow.begin")(function* (userUlid, { replace = false, returnTo, ...named } = {}) {
        const asked = yield* chosen(named.clientId)
        const { authorizeUrl = Authorization.defaultAuthorizeUrl, clientId, redirectUrl, scopes = [] } = asked
        const allowed = returnTo === undefined ? undefined : yield* ReturnUrls.check(returnUrls, returnTo)
        const state = yield* storage.sign(yield* Authorization.random)
        const codeVerifier = asked.isPublic ? yield* Authorization.codeVerifier : undefined
        const codeChallenge = codeVerifier && (yield* Authorization.codeChallenge(codeVerifier))
        const url = Authorization.url(authorizeUrl, { clientId, redirectUrl, scopes, state, codeChallenge })
        const expiresAt = yield* storage.begin(hash(state), {
          userUlid,
          clientId,
          returnTo: allowed,
          replace,
          codeVerifier
        })
        return { url, expiresAt, state: Redacted.value(state), redirectUrl, scopes, codeChallenge }
      }),

      exchange: Effect.fn("ConnectFlow.exchange")(function* (userUlid, returned, onStored) {
        yield* on
        const code = yield* TokenInput.token("code", returned.code)
        const state = yield* TokenInput.token("state", returned.state)
        const work = ifSigned(state, storage.take).pipe(
          Effect.flatMap(ownedBy("state", userUlid)),
          Effect.flatMap((flow) => connect(userUlid, flow, code, onStored))
        )
        return yield* toTheEnd(userUlid, work)
      }),

      comeBack: Effect.fn("ConnectFlow.comeBack")(function* (parameters) {
        const state = Authorization.stateOf(parameters)
        return Option.isSome(state) && (yield* storage.isSigned(state.value))
          ? yield* comeBack(parameters, state.value)
          : unknown
      }),

      confirm: Effect.fn("ConnectFlow.confirm")(function* (userUlid, presented, onStored) {
        yield* on
        const completion = yield* TokenInput.token("completion", presented)
        const work = ifSigned(completion, storage.complete).pipe(
          Effect.flatMap(ownedBy("completion", userUlid)),
          Effect.flatMap((flow) => connect(userUlid, flow, flow.code, onStored))
        )
        return yield* toTheEnd(userUlid, work)
      })
    })
  })

/**
 * Flows are kept in `FlowStorage`, so any process may finish what another one began.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<ConnectFlow, never, CalClient | CalTokens | FlowStorage> =>
  Layer.scoped(ConnectFlow, make(options))

const notConfigured = () =>
  Effect.fail(
    new CalClientMisconfigured({
      clientId: noClient,
      reason: "connecting through OAuth2 is not configured: it needs an OAuth2 client with a redirect URL"
    })
  )

/**
 * What a program has that connects nobody: every flow fails with a word about that.
 *
 * @since 0.1.0
 * @category constructors
 */
export const off: Context.Tag.Service<ConnectFlow> = {
  begin: () => notConfigured(),
  exchange: () => notConfigured(),
  comeBack: () => Effect.succeed(Return.Stop({ problem: "unknownState", backTo: Option.none() })),
  confirm: () => notConfigured()
}

/** The state is used up, and often the code: to ask once more with the same ones is in vain. */
const startAgain = (error: ExchangeError): ExchangeError => {
  const say = (words: string) => `${words}; the state is used up, so start again with a new authorize URL`
  return Match.value(error).pipe(
    Match.withReturnType<ExchangeError>(),
    Match.tag("CalUnavailable", (it) =>
      Tried.carry(it, new CalUnavailable({ operation: it.operation, reason: say(it.reason), status: it.status }))
    ),
    Match.tag(
      "StorageUnavailable",
      ({ operation, reason }) => new StorageUnavailable({ operation, reason: say(reason) })
    ),
    Match.tag(
      "CalRateLimited",
      ({ operation, retryAfter }) => new CalRateLimited({ operation: say(operation), retryAfter })
    ),
    Match.tag("CalRequestRejected", (rejected) =>
      rejected.reason.startsWith("invalid_grant: code_invalid_or_expired")
        ? new InvalidInput({
            field: "code",
            expected: "was used, has expired or is no code of this client: start again with a new authorize URL"
          })
        : rejected
    ),
    Match.orElse((other) => other)
  )
}

const reportAbandoned = (users: ReadonlyArray<UserUlid>) =>
  Effect.logWarning("Stopped before these users were connected; they start again").pipe(Effect.annotateLogs({ users }))
