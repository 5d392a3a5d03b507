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
import { allows, type Session, Sessions } from "../Sessions.js"
import type { UserUlid } from "../Token.js"
import type { StorageUnavailable, TokenUnreadable } from "../TokenError.js"
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

/** How a request goes on: `target` is the path below Cal.com's API as it was written, with its query. */
export const make = Effect.gen(function* () {
  const sessions = yield* Sessions
  const limits = yield* CallerLimits
  const proxy = yield* Proxy.make
  const refused = (yield* Access.refusing)(Edge.decline(unknown))

  /** `isCurrent` is asked last, so that nothing slow comes between it and the token. */
  const send = <E extends StorageUnavailable | TokenUnreadable>(
    session: Session,
    target: string,
    isCurrent: Effect.Effect<boolean, E>
  ) =>
    Effect.gen(function* () {
      const { method } = yield* HttpServerRequest.HttpServerRequest
      const { userUlid } = session
      yield* annotate({ userUlid })
      yield* Effect.catchAll(limits.session(userUlid), Edge.decline)
      yield* Edge.refuseAll(proxy.judge(target))
      if (!HttpMethod.isHttpMethod(method) || !allows(session, method, target)) return yield* Edge.decline(notAllowed)
      const bytes = yield* Edge.refuseAll(Body.bytes)
      if (!(yield* Edge.refuseAll(isCurrent))) return yield* refused
      return yield* Edge.refuseAll(proxy.send(userUlid, target, bytes))
    })

  return {
    /** For whoever presents a session. */
    withSession: (target: string) =>
      Effect.gen(function* () {
        const { headers } = yield* HttpServerRequest.HttpServerRequest
        yield* Effect.catchAll(limits.sessions, Edge.decline)
        const read = yield* sessions.read(Redacted.make(credentials(headers["authorization"])))
        if (Option.isNone(read)) return yield* refused
        return yield* send(read.value, target, sessions.isCurrent(read.value))
      }),
    /** For a user whom the program around has recognised, within these rules. */
    withUser: (userUlid: UserUlid, rules: Rules, target: string) =>
      send({ ...rules, userUlid, after: 0 }, target, Effect.succeed(true))
  }
})

/** What of Cal.com's API is open. */
export type Rules = Pick<Session, "methods" | "paths">

export const layer = HttpApiBuilder.Router.use((router) =>
  Effect.gen(function* () {
    const origins = yield* Origins.AllowedOrigins
    const { withSession } = yield* make

    const route = Effect.gen(function* () {
      yield* Spans.annotate({ operation: "me" })
      const request = yield* HttpServerRequest.HttpServerRequest
      const { url } = request
      if (!Origins.isAllowed(origins, request)) return yield* Origins.refuse(origins, request)
      // Of the raw target: what a router decoded could hide a way to another path.
      return yield* withSession(url.startsWith(mePath) ? url.slice(mePath.length - 1) : "")
    }).pipe(Effect.annotateLogs({ operation: "me" }))

    yield* router.all(
      `${mePath}*`,
      Effect.catchAll(route, (failure) => Effect.succeed(Edge.respond(failure)))
    )
  })
)
