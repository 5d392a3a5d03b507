/**
 * The endpoint of `Api/Atoms`: for pages of allowed origins only, off without any. It knows no API keys; who asks is told
 * by the token they present and, in a program that has sessions of its own, by {@link AtomsSession}.
 */
import { HttpServerRequest } from "@effect/platform"
import { Context, Effect, Option } from "effect"
import * as AtomsApi from "../Api/Atoms.js"
import * as Failure from "../Api/Failure.js"
import { credentials } from "../ApiKeys.js"
import type { UserUlid } from "../Token.js"
import * as TokenInput from "../TokenInput.js"
import { audit } from "./Audit.js"
import * as AtomsTokens from "./AtomsTokens.js"
import * as Edge from "./Edge.js"
import * as Group from "./Group.js"
import * as Origins from "./Origins.js"
import * as Access from "./Access.js"
import { CallerLimits } from "./CallerLimits.js"

/**
 * The session of the program around this service, for one that has its own: `false` refuses a request, a user allows
 * that user's tokens only (of several users of one token, this one), `true` leaves it to the token. It runs before anything is looked up.
 *
 * @since 0.1.0
 * @category references
 */
export class AtomsSession extends Context.Reference<AtomsSession>()("cal-tokens/Http/AtomsSession", {
  defaultValue: (): ((request: HttpServerRequest.HttpServerRequest) => Effect.Effect<boolean | UserUlid>) => () =>
    Effect.succeed(true)
}) {}

/** One answer for all that is not accepted, so that nobody learns which it was. */
const unknown = Failure.service(
  "Unauthorized",
  "This access token is unknown here, or too old: load the page again to get another one."
)

/** Renews what is presented; `allowed` as {@link AtomsSession} has it. */
export const make = Effect.gen(function* () {
  const tokens = yield* AtomsTokens.make
  const refused = (yield* Access.refusing)(Edge.decline(unknown))
  return (allowed: boolean | UserUlid) =>
    Effect.gen(function* () {
      const { headers } = yield* HttpServerRequest.HttpServerRequest
      const presented = yield* Effect.option(TokenInput.token("authorization", credentials(headers["authorization"])))
      if (allowed === false || Option.isNone(presented)) return yield* refused
      const renewed = yield* Edge.refuseAll(tokens.exchange(presented.value, allowed === true ? undefined : allowed))
      if (Option.isNone(renewed)) return yield* refused
      const { accessToken, userUlid } = renewed.value
      yield* audit("token.renewed", userUlid)
      return { accessToken }
    })
})

export const layer = Group.make("atoms", (handlers) =>
  Effect.gen(function* () {
    const origins = yield* Origins.AllowedOrigins
    const session = yield* AtomsSession
    const limits = yield* CallerLimits
    const renew = yield* make

    const refresh = Effect.gen(function* () {
      const request = yield* HttpServerRequest.HttpServerRequest
      if (origins.length === 0) return yield* Effect.fail(yield* Edge.noEndpoint)
      if (!Origins.isAllowed(origins, request)) return yield* Origins.refuse(origins, request)
      yield* Effect.catchAll(limits.atoms, Edge.decline)
      return yield* renew(yield* session(request))
    })

    return handlers.handleRaw("refreshAtoms", () =>
      refresh.pipe(
        Effect.annotateLogs({ operation: "refreshAtoms" }),
        Effect.catchAll((failure) => Effect.succeed(Edge.respond(failure, AtomsApi.envelope)))
      )
    )
  })
)
