/** The endpoints of `Api/OAuth`. The callback among them speaks to people and not to programs. */
import { type Headers, HttpServerResponse } from "@effect/platform"
import { DateTime, Effect, Option, Redacted } from "effect"
import { Caller } from "../Api/Access.js"
import { refusesUser } from "../ApiKeys.js"
import { type Connected, ConnectFlow, off } from "../ConnectFlow.js"
import * as Audit from "./Audit.js"
import * as Edge from "./Edge.js"
import * as Group from "./Group.js"
import * as OAuthPages from "./OAuthPages.js"
import { PublicLookups } from "./PublicLookups.js"

/** An extra: a program that connects nobody provides none. */
const connectFlow = Effect.map(
  Effect.serviceOption(ConnectFlow),
  Option.getOrElse(() => off)
)

const connected = ({ calUserId }: Connected) => ({ success: true as const, calUserId: Option.getOrNull(calUserId) })

/** It may end the connection of another user, so a key for some users is not for it. */
const mayReplace = (replace = false) =>
  Effect.flatMap(Caller, (caller) => (replace ? Edge.permit(caller, refusesUser(caller, undefined)) : Effect.void))

export const layer = Group.make("oauth", (handlers) =>
  Effect.map(connectFlow, (flow) =>
    handlers
      .handleRaw(
        "authorizeUrl",
        Edge.endpoint("authorizeUrl", (options, userUlid) =>
          Effect.map(
            Effect.zipRight(mayReplace(options.replace), flow.begin(userUlid, options)),
            ({ codeChallenge, expiresAt, redirectUrl, scopes, state, url }) => ({
              success: true as const,
              url,
              expiresAt: DateTime.unsafeMake(expiresAt),
              state,
              redirectUri: redirectUrl,
              scopes,
              ...(codeChallenge === undefined ? {} : { codeChallenge, codeChallengeMethod: "S256" as const })
            })
          )
        )
      )
      .handleRaw(
        "exchangeCode",
        Edge.endpoint("exchangeCode", (returned, userUlid) =>
          Effect.map(
            Audit.connecting(userUlid, (onStored) => flow.exchange(userUlid, returned, onStored)),
            connected
          )
        )
      )
      .handleRaw(
        "confirmCompletion",
        Edge.endpoint("confirmCompletion", ({ completion }, userUlid) =>
          Effect.map(
            Audit.connecting(userUlid, (onStored) => flow.confirm(userUlid, completion, onStored)),
            connected
          )
        )
      )
  )
)

/** Sends the browser on, always with GET. The address left behind holds the code. */
export const goOn = (location: Redacted.Redacted): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.empty({
    status: 303,
    headers: { location: Redacted.value(location), "referrer-policy": "no-referrer" }
  })

/** Browsers, and programs that act for them, say so when they ask for what nobody has opened yet. */
export const isAhead = (headers: Headers.Headers): boolean =>
  ["sec-purpose", "purpose", "x-purpose", "x-moz"].some((name) =>
    /\b(prefetch|prerender|preview)\b/i.test(headers[name] ?? "")
  )

/** Reads the query itself, so that no query is too odd for a page. */
export const layerCallback = Group.make("callback", (handlers) =>
  Effect.zipWith(connectFlow, PublicLookups, (flow, { queue }) =>
    handlers.handleRaw("oauthCallback", ({ request: { headers, method, originalUrl } }) =>
      Effect.gen(function* () {
        // Nobody is there to go on with it.
        if (method === "HEAD") return HttpServerResponse.empty({ status: 200 })
        if (isAhead(headers)) return HttpServerResponse.empty({ status: 503 })
        const query = originalUrl.includes("?") ? originalUrl.slice(originalUrl.indexOf("?")) : ""
        const returned = yield* queue("oauthCallback", flow.comeBack(new URLSearchParams(query)))
        return returned._tag === "GoOn"
          ? goOn(returned.location)
          : OAuthPages.stopped(returned.problem, returned.backTo)
      }).pipe(
        Effect.catchTag("StorageUnavailable", (error) =>
          Effect.as(
            Effect.annotateLogs(Effect.logWarning(error.message), { code: error._tag, status: 503 }),
            OAuthPages.unavailable
          )
        ),
        Effect.annotateLogs({ operation: "oauthCallback" })
      )
    )
  )
)
