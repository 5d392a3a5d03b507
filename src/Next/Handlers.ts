/** What each handler answers, once it is known who asks. */
import { HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Effect, Option, Redacted } from "effect"
import * as Failure from "../Api/Failure.js"
import * as Audit from "../Http/Audit.js"
import { CallerLimits } from "../Http/CallerLimits.js"
import * as Edge from "../Http/Edge.js"
import type * as Me from "../Http/Me.js"
import * as OAuth from "../Http/OAuth.js"
import { Sessions } from "../Sessions.js"
import * as Asker from "./Asker.js"
import * as Connect from "./Connect.js"
import { Doors } from "./Services.js"
import * as Site from "./Site.js"

/** Gives Cal Atoms the user's token for the one that they hold. */
export const atoms = (asker: Asker.Asker) =>
  Effect.gen(function* () {
    yield* Site.own(yield* HttpServerRequest.HttpServerRequest)
    const userUlid = yield* Asker.userOf(asker)
    yield* Effect.catchAll((yield* CallerLimits).session(userUlid), Edge.decline)
    const { renew } = yield* Doors
    const { accessToken } = yield* renew(userUlid)
    return HttpServerResponse.unsafeJson({ accessToken: Redacted.value(accessToken) })
  })

/** Answers stand on the app's own origin, where its cookies are: nothing of Cal.com's may run there as a page. */
const inert = {
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
  "cross-origin-resource-policy": "same-origin"
}

/** `mount`: where it is in the app, with a slash at its end; in front of that may be a path of the framework's own. */
export const me = (asker: Asker.Asker | undefined, mount: string, rules: Me.Rules) =>
  Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    yield* Site.own(request)
    const at = request.url.indexOf(mount)
    if (at < 0 || (request.url.indexOf("?") >= 0 && request.url.indexOf("?") < at)) {
      return yield* Edge.decline(Failure.service("NotFound", `This is not below ${mount}: see \`mePath\`.`))
    }
    const target = request.url.slice(at + mount.length - 1)
    const { withSession, withUser } = (yield* Doors).me
    return yield* asker === undefined
      ? withSession(target)
      : Effect.flatMap(Asker.userOf(asker), (userUlid) => withUser(userUlid, rules, target))
  }).pipe(Effect.map((response) => HttpServerResponse.setHeaders(response, inert)))

/** Ends what the user's pages hold: sessions, and what Atoms may present. */
export const signOut = (asker: Asker.Asker) =>
  Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    yield* Site.own(request)
    const to = Connect.returnTo(request)
    const location = yield* Edge.refuseAll(Effect.transposeMapOption(to, Site.returnUrl))
    if (!Asker.isNobody(asker)) {
      const userUlid = yield* Asker.userOf(asker)
      const sessions = yield* Sessions
      yield* Edge.refuseAll(
        Audit.changing(userUlid, sessions.endAll(userUlid), () => "sessions.ended").pipe(
          // Who is not connected has none.
          Effect.catchTag("TokensNotFound", () => Effect.void)
        )
      )
    }
    return Option.match(location, {
      onNone: () => HttpServerResponse.unsafeJson({ success: true }),
      onSome: (url) => OAuth.goOn(Redacted.make(url))
    })
  })
