/**
 * Cal.com's API for whoever has a user session: `/api/cal/me/{path…}?query`. The proxy, with the session in the place of
 * an API key and of a user in the path. API keys are not taken, and a session opens nothing else.
 */
import { HttpApiBuilder, HttpMethod, HttpServerRequest } from "@effect/platform"
import { Effect, Option, Redacted } from "effect"
import * as Failure from "../Api/Failure.js"
import { mePath } from "../Api/Sessions.js"
import { credentials } from "../ApiKeys.js"
import * as Spans from "../Fibers/Spans.js"
import { allows, Sessions } from "../Sessions.js"
import * as Body from "./Body.js"
import * as Access from "./Access.js"
import { annotate } from "./Annotations.js"
import { CallerLimits } from "./CallerLimits.js"
import * as Edge from "./Edge.js"
import * as Origins from "./Origins.js"
import * as Proxy from "./Proxy.js"

/** One answer for all that is not accepted, so that nobody learns which it was. */
const unknown = Failure.service(
  "Unauthorized",
  "This session is unknown here, over, or was ended: have your server make another one."
)

const notAllowed = Failure.service("Forbidden", "This session is not for this method and path.")

export const layer = HttpApiBuilder.Router.use((router) =>
  Effect.gen(function* () {
    const origins = yield* Origins.AllowedOrigins
    const sessions = yield* Sessions
    const limits = yield* CallerLimits
    const proxy = yield* Proxy.make
    const refused = (yield* Access.refusing)(Edge.decline(unknown))

    const route = Effect.gen(function* () {
      yield* Spans.annotate({ operation: "me" })
      const request = yield* HttpServerRequest.HttpServerRequest
      const { headers, method, url } = request
      if (!Origins.isAllowed(origins, request)) return yield* Edge.decline(Origins.wrongOrigin)
      yield* Effect.catchAll(limits.sessions, Edge.decline)
      const read = yield* sessions.read(Redacted.make(credentials(headers["authorization"])))
      if (Option.isNone(read)) return yield* refused
      const session = read.value
      const { userUlid } = session
      yield* annotate({ userUlid })
      yield* Effect.catchAll(limits.session(userUlid), Edge.decline)
      // Of the raw target: what a router decoded could hide a way to another path.
      const target = url.startsWith(mePath) ? url.slice(mePath.length - 1) : ""
      yield* Edge.refuseAll(proxy.judge(target))
      if (!HttpMethod.isHttpMethod(method) || !allows(session, method, target)) return yield* Edge.decline(notAllowed)
      const bytes = yield* Edge.refuseAll(Body.bytes)
      // Last, so that nothing slow comes between this and the token.
      if (!(yield* Edge.refuseAll(sessions.isCurrent(session)))) return yield* refused
      return yield* Edge.refuseAll(proxy.send(userUlid, target, bytes))
    }).pipe(Effect.annotateLogs({ operation: "me" }))

    yield* router.all(
      `${mePath}*`,
      Effect.catchAll(route, (failure) => Effect.succeed(Edge.respond(failure)))
    )
  })
)
