/**
 * The way to Cal.com's consent and back, through the app itself. Of who comes back two things are asked: the session of the
 * user who left, and the browser that left, which has a cookie from then. So a link that somebody else began leads nowhere.
 */
import { HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Duration, Effect, Either, Option, Redacted } from "effect"
import type * as Failure from "../Api/Failure.js"
import * as Authorization from "../ConnectFlow/Authorization.js"
import * as ReturnUrls from "../ConnectFlow/ReturnUrls.js"
import { ConnectFlow } from "../ConnectFlow.js"
import * as Audit from "../Http/Audit.js"
import { CallerLimits } from "../Http/CallerLimits.js"
import * as Edge from "../Http/Edge.js"
import * as OAuth from "../Http/OAuth.js"
import * as OAuthPages from "../Http/OAuthPages.js"
import * as Origins from "../Http/Origins.js"
import { PublicLookups } from "../Http/PublicLookups.js"
import { hash } from "../Token.js"
import * as Asker from "./Asker.js"
import * as Site from "./Site.js"

/** The parameter that tells the app why nobody was connected, by the failure's code. */
const failed = "calError"

const parameters = ({ originalUrl }: HttpServerRequest.HttpServerRequest) =>
  new URLSearchParams(originalUrl.includes("?") ? originalUrl.slice(originalUrl.indexOf("?")) : "")

export const returnTo = (request: HttpServerRequest.HttpServerRequest): Option.Option<string> =>
  Option.fromNullable(parameters(request).get("returnTo"))

const isSecure = Effect.map(Site.Site, ({ origin }) => Option.exists(origin, (it) => it.startsWith("https:")))

/** One for each way that was begun. Browsers let nobody but this very host set one with the prefix. */
const cookieOf = (state: Redacted.Redacted, secure: boolean) =>
  `${secure ? "__Host-" : ""}cal-connect-${hash(state).slice(0, 16)}`

const attributes = (secure: boolean) => ({ httpOnly: true, path: "/", sameSite: "lax", secure }) as const

const origin = Effect.map(Site.Site, ({ origin }) => origin)

/** Whether somebody reads what is answered, and not a program: a plain form was sent, or a link followed. */
const isForPeople = ({ headers }: HttpServerRequest.HttpServerRequest) =>
  headers["sec-fetch-dest"] === "document" || /\btext\/html\b/i.test(headers["accept"] ?? "")

/** Told in the log, whoever reads the answer. */
const refuseElsewhere = (
  request: HttpServerRequest.HttpServerRequest,
  { failure, home, isService }: Site.Elsewhere
) => {
  const refused = Origins.refuse([home], request, undefined, failure)
  return isForPeople(request)
    ? Effect.catchAll(refused, () => Effect.succeed(isService ? OAuthPages.noWayBack : OAuthPages.elsewhere(home)))
    : refused
}

/** Sends a browser to Cal.com. */
export const begin = (asker: Asker.Asker, replace: boolean) =>
  Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    const redirectUrl = yield* Edge.refuseAll(Site.connectable)
    yield* Site.own(request)
    const elsewhere = yield* Site.elsewhere(request, redirectUrl)
    if (Option.isSome(elsewhere)) return yield* refuseElsewhere(request, elsewhere.value)
    if (Asker.isNobody(asker) && isForPeople(request)) return OAuthPages.signIn(yield* origin)
    const userUlid = yield* Asker.userOf(asker)
    yield* Effect.catchAll((yield* CallerLimits).session(userUlid), Edge.decline)
    const flow = yield* ConnectFlow
    const back = Site.returnUrl(Option.getOrElse(returnTo(request), () => "/"))
    const { state, url } = yield* Edge.refuseAll(
      Effect.flatMap(back, (returnTo) => flow.begin(userUlid, { returnTo, replace }))
    )
    const secure = yield* isSecure
    return HttpServerResponse.unsafeSetCookie(
      OAuth.goOn(Redacted.make(url)),
      cookieOf(Redacted.make(state), secure),
      "1",
      { ...attributes(secure), maxAge: Duration.minutes(10) }
    )
  })

const otherBrowser =
  "Somebody came back from Cal.com in a browser that did not leave from here. If it was the same one, the app was open under " +
  "another host than that of the client's redirect URL"

/** Takes a browser back that was at Cal.com, connects the user, and sends it on to where it wanted. */
export const comeBack = (asker: Asker.Asker) =>
  Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    // Nobody is there to go on with it.
    if (request.method === "HEAD") return HttpServerResponse.empty({ status: 200 })
    if (OAuth.isAhead(request.headers)) return HttpServerResponse.empty({ status: 503 })
    const home = yield* origin
    const secure = yield* isSecure
    const cookie = Option.filter(
      Option.map(Authorization.stateOf(parameters(request)), (state) => cookieOf(state, secure)),
      (name) => request.cookies[name] !== undefined
    )
    if (Option.isNone(cookie)) {
      yield* Effect.logWarning(otherBrowser)
      return OAuthPages.stopped("unknownState", home)
    }
    if (Asker.isNobody(asker)) return OAuthPages.signedOut(home)
    const userUlid = yield* Asker.userOf(asker)
    const flow = yield* ConnectFlow
    const { queue } = yield* PublicLookups
    const returned = yield* Edge.refuseAll(queue("comeBack", flow.comeBack(parameters(request))))
    const done = HttpServerResponse.expireCookie(cookie.value, attributes(secure))
    if (returned._tag === "Stop") return done(OAuthPages.stopped(returned.problem, returned.backTo))
    const { completion, returnTo } = ReturnUrls.split(Redacted.value(returned.location))
    // It was used up: the page was loaded again.
    if (Option.isNone(completion)) return done(OAuth.goOn(Redacted.make(returnTo)))
    const connected = yield* Effect.either(
      Edge.refuseAll(
        Audit.connecting(userUlid, (onStored) => flow.confirm(userUlid, Redacted.make(completion.value), onStored))
      )
    )
    return done(
      OAuth.goOn(
        Redacted.make(
          Either.match(connected, {
            onLeft: ({ code }) => ReturnUrls.withParameter(returnTo, failed, code),
            onRight: () => returnTo
          })
        )
      )
    )
  }).pipe(
    Effect.catchAll((failure: Failure.Failure) =>
      Effect.succeed(failure.code === "StorageUnavailable" ? OAuthPages.unavailable : Edge.respond(failure))
    )
  )
