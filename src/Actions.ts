/**
 * The door for code that knows promises and not Effect: server actions, Express handlers, scripts. Every function
 * answers a plain object; none rejects, and a failure is a {@link Failure}. The one exception is stated at
 * `handleCalApiResponse`.
 *
 * ```ts
 * // cal.ts: one instance per process, in a file that browsers cannot call
 * import "server-only"
 * import * as Actions from "cal-tokens/actions"
 * import { revalidating } from "cal-tokens/next"
 * import { revalidatePath } from "next/cache"
 * import { after } from "next/server"
 *
 * declare const currentUser: () => Promise<{ readonly ulid: string } | undefined>
 *
 * export const cal = Actions.make({
 *   authorize: async (userUlid) => (await currentUser())?.ulid === userUlid,
 *   revalidate: revalidating({ after, revalidatePath }),
 *   revalidatePaths: ["/calendar"]
 * })
 * ```
 *
 * ```ts
 * // actions.ts
 * "use server"
 *
 * import { isFailure } from "cal-tokens/actions"
 * import { cal } from "./cal.js"
 *
 * interface Bookings {
 *   readonly data: ReadonlyArray<{ readonly uid: string }>
 * }
 * declare const signedIn: () => Promise<{ readonly ulid: string }>
 *
 * export const myBookings = async () => {
 *   const { ulid } = await signedIn()
 *   const bookings = await cal.makeCalApiRequest<Bookings>("/bookings", "GET", undefined, ulid)
 *   return isFailure(bookings) ? { error: bookings.error } : { bookings: bookings.data }
 * }
 * ```
 *
 * **Never re-export `ensureValidCalToken` from a `"use server"` file**, nor a function that returns its result: whatever
 * such a file exports can be called by any browser, which would be handed the token of any user it names. The same goes
 * for all others, which act as the user who is named, and for `sweepCalTokens`. Export functions of your own that take
 * the user from your session, and set `authorize` as the second lock.
 *
 * Users are named by ULIDs or UUIDs, and in answers by the ULID of the same 128 bits.
 */
import { Clock, Effect, type Layer, Predicate, Redacted } from "effect"
import type { HttpMethod } from "@effect/platform"
import type * as Connections from "./Actions/Connections.js"
import * as Expiry from "./Actions/Expiry.js"
import { type Failure, isFailure, type Lacking } from "./Actions/Failure.js"
import * as Guard from "./Actions/Guard.js"
import type * as Numbers from "./Actions/Numbers.js"
import * as Opening from "./Actions/Opening.js"
import * as Request from "./Actions/Request.js"
import * as Repeat from "./Actions/Repeat.js"
import * as Together from "./Actions/Together.js"
import type { CalApi } from "./CalApi.js"
import { Advice, CalTokens, type ValidToken } from "./CalTokens.js"
import * as RefreshAhead from "./RefreshAhead.js"
import type { SessionOptions } from "./Sessions.js"
import { iso, type UserUlid } from "./Token.js"
import { type TokenError, toSeconds } from "./TokenError.js"
import { maxImports } from "./TokenStorage.js"

export type { Config } from "./Actions/Numbers.js"
export type {
  CalAccount,
  CalConnected,
  CalConnectionsImported,
  CalConnectionsPage,
  CalConnectUrl,
  CalSession,
  ConnectUrlOptions,
  ListedCalConnection,
  ListOptions,
  ManagedCalUser,
  NewManagedCalUser
} from "./Actions/Connections.js"
export { type Failure, isFailure } from "./Actions/Failure.js"
export { ulidFromUuid, uuidFromUlid } from "./Actions/Ids.js"
export type { SessionOptions } from "./Sessions.js"

/**
 * What stands behind the functions, and whom they ask.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * Where tokens are kept and how Cal.com is reached; by default, what the service's environment variables say
   * (`DATABASE_URL`, `CAL_CLIENT_ID`, …; API keys are not needed), and then shared by all instances of the process that
   * find the same variables and have the same `config`. Built at the first call, and again after a failed build. A layer of
   * your own that has `CalTokens` and `CalApi` alone will do for tokens and requests; connections need `CalClient`,
   * `TokenStorage`, `ConnectFlow`, `ManagedUsers` and `Sessions` besides, all of which `cal-tokens/node` has.
   */
  readonly layer?: Layer.Layer<CalTokens | CalApi, unknown> | undefined
  /**
   * Numbers of the refresh rules to change, by their names in `TokenConfig`; durations are milliseconds, or texts such as
   * `"30 seconds"`. They come before those of the environment, and after those that a layer of your own sets itself. Give
   * all instances of a program the same: others share nothing, and the embedded database is open to one of them only. What
   * makes no sense is told in the log by the first call, which answers `StartFailed`.
   */
  readonly config?: Numbers.Config | undefined
  /**
   * With `true`, this process refreshes the tokens of active users before anybody waits, from the first call on. Not for
   * functions that are frozen between requests (serverless): one would spend a refresh token and sleep on Cal.com's
   * answer. There, call `sweepCalTokens` from a cron route. Default `false`.
   */
  readonly refreshAhead?: boolean | undefined
  /**
   * Asked before anything is handed out or changed on behalf of a user: may the present caller act for them? The ULID
   * arrives in upper case. Anything but `true` answers the caller `Forbidden`; a throw or a rejection, `Unauthorized`.
   * Runs in the caller's asynchronous context. Without it, whoever can call a function may act for every user.
   */
  readonly authorize?: ((userUlid: string) => boolean | Promise<boolean>) | undefined
  /**
   * Called after a function during which the user's tokens changed, before it resolves, in the caller's own asynchronous
   * context: Next's `revalidatePath` needs the request store found there. Its promise is waited for, at most 5 s; its
   * failures are logged and change no answer. Changes behind everybody's back (a refresh ahead of expiry) are told to
   * `Revalidation` only.
   */
  readonly revalidate?: ((paths: ReadonlyArray<string>, userUlid: string) => void | Promise<void>) | undefined
  /** What `revalidate` is given: by default `["/"]`. */
  readonly revalidatePaths?: ReadonlyArray<string> | ((userUlid: string) => ReadonlyArray<string>) | undefined
}

/**
 * How a refresh ended.
 *
 * @since 0.1.0
 * @category models
 */
export interface RefreshedToken {
  readonly success: true
  /** Whether a refresh, this call's or one it joined, answered it. */
  readonly refreshed: boolean
  /** ISO 8601. */
  readonly expiresAt: string
  /**
   * Seconds until forcing a refresh makes sense again: so many have just been that the stored token, which is that new, is
   * the answer.
   */
  readonly retryAfter?: number
}

/**
 * A token that is valid.
 *
 * @since 0.1.0
 * @category models
 */
export interface CalToken {
  readonly success: true
  /** In clear: for this process only, never for a browser. */
  readonly accessToken: string
  /** ISO 8601. */
  readonly expiresAt: string
}

/**
 * A pair that was got elsewhere.
 *
 * @since 0.1.0
 * @category models
 */
export interface NewTokens {
  readonly accessToken: string
  readonly refreshToken: string
  /** Milliseconds since the epoch, or ISO 8601 with a zone. */
  readonly accessTokenExpiresAt: number | string
  /** Where Cal.com tells it; milliseconds since the epoch, or ISO 8601 with a zone. */
  readonly refreshTokenExpiresAt?: number | string | undefined
}

/**
 * A user whom another system kept until now, with the pair that it had last.
 *
 * @since 0.1.0
 * @category models
 */
export interface CalConnectionToImport {
  readonly userUlid: string
  readonly account: Connections.CalAccount
  readonly tokens: NewTokens
}

/**
 * What is known about a connection.
 *
 * @since 0.1.0
 * @category models
 */
export interface CalTokenInfo {
  readonly success: true
  readonly isExpired: boolean
  /** Expired, or about to be within the buffer. */
  readonly isExpiringImminent: boolean
  /** ISO 8601. */
  readonly expiresAt: string
  /** The Cal.com user id of a managed user; `null` for OAuth2. */
  readonly managedUserId: number | null
  readonly status: "active" | "reauthorizationRequired"
}

/**
 * What a sweep came to.
 *
 * @since 0.1.0
 * @category models
 */
export interface Swept {
  readonly success: true
  readonly refreshed: number
  /** They serve what they have, and are due again; why is in the log. */
  readonly failed: number
  /** Set where the rest was left for the next sweep: seconds until Cal.com's rate limit has room again. */
  readonly resumeIn?: number
}

/**
 * The functions; each can be taken out of the object.
 *
 * @since 0.1.0
 * @category models
 */
export interface Actions {
  /** Refreshes a token that is expiring soon or expired; any token, if forced. */
  readonly refreshUserCalTokens: (userUlid: string, forceRefresh?: boolean) => Promise<RefreshedToken | Failure>
  /** An access token that is valid, refreshed first if need be. Server-side only: see the warning above. */
  readonly ensureValidCalToken: (userUlid: string, forceRefresh?: boolean) => Promise<CalToken | Failure>
  /** Stores a new pair of the same Cal.com account; the connection must exist. */
  readonly updateCalTokens: (userUlid: string, tokens: NewTokens) => Promise<{ readonly success: true } | Failure>
  /** What is known about a user's connection, without tokens. */
  readonly getCalTokenInfo: (userUlid: string, bufferMinutes?: number) => Promise<CalTokenInfo | Failure>
  /**
   * Sends a request to Cal.com as a user, or as nobody without `userUlid` (`authorize` is not asked then). The endpoint
   * is a path below the Cal.com API's URL, with its query. A refused token is refreshed and the request repeated.
   * Resolves to Cal.com's JSON, unchecked, or `null` where the answer has no body; a refusal of Cal.com is a failure
   * with its `status`.
   */
  readonly makeCalApiRequest: <T = unknown>(
    endpoint: string,
    method?: HttpMethod.HttpMethod,
    body?: unknown,
    userUlid?: string,
    options?: Request.RequestOptions
  ) => Promise<T | Failure>
  /**
   * For requests that you send yourself: give it Cal.com's response and a function that sends the request again with
   * another token. If Cal.com refused the token, the request is repeated with the stored one (unless that is
   * `rejectedToken`, the one you used), and if that is refused too, once more after a refresh. A token that was issued
   * seconds ago is tried again after half a second, because Cal.com may not know it everywhere. Resolves to the last
   * response, or to yours where there was nothing to repair or no token to be had. Rejects only if `retry` does.
   */
  readonly handleCalApiResponse: (
    response: Response,
    retry: (accessToken: string) => Promise<Response>,
    userUlid: string,
    rejectedToken?: string
  ) => Promise<Response>
  /**
   * Judges an expiry by this machine's clock: milliseconds since the epoch, ISO 8601 with a zone, or a `Date`. One that
   * cannot be read, or is absurdly far away, counts as expired.
   */
  readonly isTokenExpiredOrExpiringSoon: (expiresAt: number | string | Date, bufferMinutes?: number) => Expiry.Expiry
  /**
   * Connects a user with a pair that was got elsewhere, as Cal.com gave it; from then on nothing else may refresh it.
   * `replace` takes the Cal.com account from another of your users; without it that is `CalAccountInUse`.
   */
  readonly connectCalUser: (
    userUlid: string,
    account: Connections.CalAccount,
    tokens: NewTokens,
    options?: { readonly replace?: boolean | undefined }
  ) => Promise<Connections.CalConnected | Failure>
  /**
   * Takes over users of another system, up to 500 at once. Each row has its outcome, in the order of the rows; one that is
   * refused (`rejected`, with its `reason`) keeps no other back. May be repeated while that system still runs: users who were
   * refreshed here since are left alone. `authorize` is asked for each user.
   */
  readonly importCalConnections: (
    rows: ReadonlyArray<CalConnectionToImport>
  ) => Promise<Connections.CalConnectionsImported | Failure>
  /** Forgets a user's tokens. Nothing changes at Cal.com. `TokensNotFound` where there is no connection. */
  readonly disconnectCalUser: (userUlid: string) => Promise<{ readonly success: true } | Failure>
  /**
   * Creates a managed user at Cal.com and connects it. May be repeated: a user who is connected already is answered without
   * asking Cal.com, and one whom Cal.com knows by the e-mail address is given new tokens.
   */
  readonly createManagedCalUser: (
    userUlid: string,
    user: Connections.NewManagedCalUser
  ) => Promise<Connections.ManagedCalUser | Failure>
  /** Begins to connect a user by Cal.com's consent: send the browser to `url`. It works once, for ten minutes. */
  readonly calConnectUrl: (
    userUlid: string,
    options?: Connections.ConnectUrlOptions
  ) => Promise<Connections.CalConnectUrl | Failure>
  /**
   * Connects the user who came back to your app's callback, with its query's `code` and `state`. `userUlid` is the user of
   * your own session, never one that the browser names. Works once; after a failure, begin again with a new URL.
   */
  readonly exchangeCalCode: (
    userUlid: string,
    returned: { readonly code: string; readonly state: string }
  ) => Promise<Connections.CalConnected | Failure>
  /** The same for a person who came back through the HTTP service's callback, which appended `completion` to `returnTo`. */
  readonly confirmCalConnection: (userUlid: string, completion: string) => Promise<Connections.CalConnected | Failure>
  /**
   * A page of connections, without tokens. `authorize` is asked for each of them, and those that it refuses are left out: a
   * page may be shorter than `limit`, and the last one is that without a `cursor` (which names a user, too).
   */
  readonly listCalConnections: (options?: Connections.ListOptions) => Promise<Connections.CalConnectionsPage | Failure>
  /**
   * Makes a user session: a signed key with which a page, a widget or an agent uses Cal.com as this user, through the HTTP
   * service (`/api/cal/me/…`) that has the same database and encryption keys.
   */
  readonly createCalSession: (userUlid: string, options?: SessionOptions) => Promise<Connections.CalSession | Failure>
  /**
   * Refreshes what is due by now, and ends: for a cron route where no process lives long. `authorize` is not asked and
   * `revalidate` not called, for it concerns nobody in particular: ask for the scheduler's secret in the route.
   */
  readonly sweepCalTokens: () => Promise<Swept | Failure>
  /** Whether an answer is a failure. */
  readonly isFailure: (value: unknown) => value is Failure
  /**
   * Releases connections and waits for tokens that are not stored yet, unless other instances share them. Later calls of
   * this one answer `ShuttingDown`. A script may end without it: nothing that only waits keeps it from ending, and tokens
   * that are not stored yet are waited for all the same.
   */
  readonly dispose: () => Promise<void>
}

/** Loaded by the first call that needs it. */
const connections = Effect.promise(() => import("./Actions/Connections.js"))

/**
 * One for each process is enough. Nothing is built or connected before the first call.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options = {}): Actions => {
  const guard = Guard.make(Opening.make<CalTokens | CalApi>(options), options)

  const ensure = (userUlid: string, forceRefresh = false) =>
    guard.act("ensureValidCalToken", userUlid, (act) =>
      act.run(Effect.map(validToken(act, "ensureValid", forceRefresh), toCalToken))
    )
  const together = Together.make<CalToken>(ensure)

  const connecting = <A>(
    name: string,
    userUlid: string,
    work: (
      of: typeof Connections,
      act: Guard.Act<CalTokens | CalApi>
    ) => Effect.Effect<A, TokenError | Lacking, CalTokens | CalApi>
  ) => guard.act(name, userUlid, (act) => act.run(Effect.flatMap(connections, (of) => work(of, act))))

  return {
    refreshUserCalTokens: (userUlid, forceRefresh = false) =>
      guard.act("refreshUserCalTokens", userUlid, (act) =>
        act.run(
          Effect.map(validToken(act, "refresh", forceRefresh), (token) => ({
            success: true as const,
            refreshed: token.refreshed,
            expiresAt: iso(token.expiresAt),
            ...(token.retryAfter === undefined ? {} : { retryAfter: toSeconds(token.retryAfter) })
          }))
        )
      ),
    ensureValidCalToken: (userUlid, forceRefresh = false) => {
      const isForced = forceRefresh === true
      const fresh = isForced ? undefined : guard.peek(userUlid)
      if (fresh !== undefined) return Promise.resolve(toCalToken(fresh))
      return guard.isBare && !isForced ? together(userUlid) : ensure(userUlid, isForced)
    },
    updateCalTokens: (userUlid, input) =>
      guard.act("updateCalTokens", userUlid, (act) =>
        act.run(
          Effect.flatMap(CalTokens, (tokens) => tokens.update(act.userUlid, input)).pipe(
            Effect.tap(() => act.changed()),
            Effect.as({ success: true as const })
          )
        )
      ),
    getCalTokenInfo: (userUlid, bufferMinutes = 5) =>
      guard.act("getCalTokenInfo", userUlid, (act) => act.run(info(act.userUlid, bufferMinutes))),
    makeCalApiRequest: <T>(
      endpoint: string,
      method: HttpMethod.HttpMethod = "GET",
      body?: unknown,
      userUlid?: string,
      requestOptions?: Request.RequestOptions
    ) => {
      const send = (userUlid: UserUlid | undefined) =>
        Effect.map(Request.send(userUlid, { endpoint, method, body, options: requestOptions }), (json) => json as T)
      return userUlid === undefined
        ? guard.anonymous("makeCalApiRequest", send(undefined))
        : guard.act("makeCalApiRequest", userUlid, (act) => act.run(send(act.userUlid)))
    },
    handleCalApiResponse: async (response, retry, userUlid, rejectedToken) => {
      if (!(await Repeat.isRefused(response))) return response
      const handled = await guard.act("handleCalApiResponse", userUlid, (act) =>
        Repeat.handle(response, retry, rejectedToken, {
          stored: async () => {
            const token = await act.run(stored(act))
            return isFailure(token) ? undefined : Redacted.value(token.accessToken)
          },
          instead: async (refused) => {
            const token = await act.run(instead(act, refused))
            return token === undefined || isFailure(token) ? undefined : Redacted.value(token.accessToken)
          }
        })
      )
      return isFailure(handled) ? response : handled
    },
    isTokenExpiredOrExpiringSoon: (expiresAt, bufferMinutes = 5) =>
      Effect.runSync(Expiry.judge(expiresAt, bufferMinutes)),
    connectCalUser: (userUlid, account, tokens, options) =>
      connecting("connectCalUser", userUlid, ({ connect }, act) => connect(act, { account, tokens, options })),
    importCalConnections: (rows: unknown) =>
      guard.actForMany("importCalConnections", usersOf(rows), (many) =>
        many.run(Effect.flatMap(connections, ({ takeOver }) => takeOver(many, rows)))
      ),
    disconnectCalUser: (userUlid) =>
      guard.act("disconnectCalUser", userUlid, (act) =>
        act.run(
          Effect.flatMap(CalTokens, (tokens) => tokens.disconnect(act.userUlid)).pipe(
            Effect.tap(() => act.changed()),
            Effect.as({ success: true as const })
          )
        )
      ),
    createManagedCalUser: (userUlid, user) =>
      connecting("createManagedCalUser", userUlid, ({ create }, act) => create(act, user)),
    calConnectUrl: (userUlid, options) =>
      connecting("calConnectUrl", userUlid, ({ begin }, act) => begin(act, options)),
    exchangeCalCode: (userUlid, returned) =>
      connecting("exchangeCalCode", userUlid, ({ exchange }, act) => exchange(act, returned)),
    confirmCalConnection: (userUlid, completion) =>
      connecting("confirmCalConnection", userUlid, ({ confirm }, act) => confirm(act, completion)),
    listCalConnections: async (options) => {
      const name = "listCalConnections"
      const page = await guard.anonymous(
        name,
        Effect.flatMap(connections, ({ list }) => list(options))
      )
      if (isFailure(page)) return page
      const among = await guard.among(name, page.connections)
      return isFailure(among) ? among : { ...page, connections: among }
    },
    createCalSession: (userUlid, options) =>
      connecting("createCalSession", userUlid, ({ session }, act) => session(act, options)),
    sweepCalTokens: () =>
      guard.anonymous(
        "sweepCalTokens",
        Effect.map(RefreshAhead.sweep, ({ failed, refreshed, resumeIn }) => ({
          success: true as const,
          refreshed,
          failed,
          ...(resumeIn === undefined ? {} : { resumeIn: toSeconds(resumeIn) })
        }))
      ),
    isFailure,
    dispose: guard.dispose
  }
}

/** Made once of each: a fresh token is asked for at every request. Whoever gets one may change it, so they get a copy. */
const answers = new WeakMap<ValidToken, CalToken>()

const toCalToken = (token: ValidToken): CalToken => {
  let answer = answers.get(token)
  if (answer === undefined) {
    answer = { success: true, accessToken: Redacted.value(token.accessToken), expiresAt: iso(token.expiresAt) }
    answers.set(token, answer)
  }
  return { ...answer }
}

/** Of more rows than are taken at once, none is. */
const usersOf = (rows: unknown): ReadonlyArray<unknown> =>
  Array.isArray(rows)
    ? rows
        .slice(0, maxImports)
        .map((row: unknown) => (Predicate.hasProperty(row, "userUlid") ? row.userUlid : undefined))
    : []

const changedBy = (act: Guard.Act<never>) => (token: ValidToken) => {
  if (token.refreshed) act.changed()
}

const validToken = (act: Guard.Act<never>, method: "ensureValid" | "refresh", forceRefresh: boolean) =>
  Effect.flatMap(CalTokens, (tokens) => tokens[method](act.userUlid, { forceRefresh: forceRefresh === true })).pipe(
    Effect.tap((token) => changedBy(act)(token))
  )

/** For a request of this process's own. */
const stored = (act: Guard.Act<never>) =>
  Effect.flatMap(CalTokens, (tokens) => tokens.ensureValid(act.userUlid, { handsOut: false })).pipe(
    Effect.tap((token) => changedBy(act)(token))
  )

const info = (userUlid: UserUlid, bufferMinutes: number) =>
  Effect.gen(function* () {
    const buffer = yield* Expiry.buffer(bufferMinutes)
    const tokens = yield* CalTokens
    const { accessTokenExpiresAt, connection, isExpired, status } = yield* tokens.info(userUlid)
    const now = yield* Clock.currentTimeMillis
    const result: CalTokenInfo = {
      success: true,
      isExpired,
      isExpiringImminent: isExpired || accessTokenExpiresAt - now <= buffer,
      expiresAt: iso(accessTokenExpiresAt),
      managedUserId: connection._tag === "ManagedUser" ? connection.calUserId : null,
      status: status._tag === "Active" ? "active" : "reauthorizationRequired"
    }
    return result
  })

/** The token to use instead of a refused one, once the advised delay is over. */
const instead = (act: Guard.Act<CalTokens | CalApi>, refused: Repeat.Refused) =>
  Effect.gen(function* () {
    const tokens = yield* CalTokens
    const advice = yield* tokens.reportRejected(act.userUlid, {
      accessToken: Redacted.make(refused.accessToken),
      status: refused.status,
      isSecond: refused.isSecond
    })
    if (Advice.$is("GiveUp")(advice)) return undefined
    changedBy(act)(advice.token)
    yield* Effect.sleep(advice.delay)
    return advice.token
  })
