/** Which pages may ask, where pages ask at all: the Atoms endpoint, and the proxy for user sessions. */
import { type Headers, type HttpApp, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Context, Effect } from "effect"
import * as Atoms from "../Api/Atoms.js"
import * as Failure from "../Api/Failure.js"
import { mePath } from "../Api/Sessions.js"
import { scrub } from "../CalHttp/Scrub.js"
import { methods } from "../Sessions.js"
import * as Edge from "./Edge.js"

/**
 * Origins of the pages that may ask, such as `https://app.example.com`. None: no page may.
 *
 * @since 0.1.0
 * @category references
 */
export class AllowedOrigins extends Context.Reference<AllowedOrigins>()("cal-tokens/Http/AllowedOrigins", {
  defaultValue: (): ReadonlyArray<string> => []
}) {}

const wrongOrigin = Failure.service("Forbidden", "This page's origin is not allowed here.")

/**
 * Browsers name the origin of whatever page asks another one. A page of this very origin they leave unnamed, and say so
 * elsewhere; programs that are no browsers have no use for being kept out by a header.
 */
export const isAllowed = (
  origins: ReadonlyArray<string>,
  { headers }: HttpServerRequest.HttpServerRequest
): boolean => {
  const { origin } = headers
  return origin === undefined
    ? ["same-origin", "none", undefined].includes(headers["sec-fetch-site"])
    : origins.includes(origin)
}

/** Who asked, and who may, is for the log alone. `none` is said where there is nobody who may. */
export const refuse = (
  origins: ReadonlyArray<string>,
  { headers }: HttpServerRequest.HttpServerRequest,
  none = "none",
  failure = wrongOrigin
) =>
  Effect.annotateLogs(Edge.decline(failure), {
    origin: shown(headers),
    expected: origins.length === 0 ? none : origins.join(", ")
  })

/** Whoever is no browser writes what they like there, secrets too: only an origin as browsers write it goes into the log. */
const shown = ({ origin, "sec-fetch-site": site }: Headers.Headers): string => {
  if (origin === undefined) return site === "cross-site" || site === "same-site" ? site : "none"
  return URL.canParse(origin) && new URL(origin).origin === origin ? scrub(origin) : "no origin"
}

/** What pages may send to a path and read of its answers, besides what every page may. */
interface Rules {
  readonly methods: string
  readonly requestHeaders: string
  readonly responseHeaders: string
  /** What failures have there besides. */
  readonly envelope: object
}

const atoms: Rules = {
  methods: "GET",
  requestHeaders: "authorization, content-type",
  responseHeaders: "Retry-After, X-Request-Id",
  envelope: Atoms.envelope
}

const me: Rules = {
  methods: methods.join(", "),
  requestHeaders:
    "accept-language, authorization, cal-api-version, content-type, if-match, if-modified-since, if-none-match, if-range, if-unmodified-since, range, x-request-id",
  responseHeaders:
    "Accept-Ranges, Content-Disposition, Content-Range, ETag, Location, Retry-After, WWW-Authenticate, X-Request-Id",
  envelope: {}
}

const rulesOf = (path: string): Rules | undefined =>
  path === Atoms.path ? atoms : path.startsWith(mePath) ? me : undefined

/** Around everything that is answered: lets pages of the allowed origins read the answers meant for them, failures too. */
export const cors = <E, R>(app: HttpApp.Default<E, R>): Effect.Effect<HttpApp.Default<E, R>> =>
  Effect.map(AllowedOrigins, (origins) =>
    origins.length === 0
      ? app
      : Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
          const rules = rulesOf(Edge.pathOf(request))
          if (rules === undefined) return app
          const { origin } = request.headers
          const allowed = origin !== undefined && origins.includes(origin)
          const headers = {
            vary: "Origin",
            ...(allowed
              ? {
                  "access-control-allow-origin": origin,
                  "access-control-expose-headers": rules.responseHeaders
                }
              : {})
          }
          if (request.method !== "OPTIONS") {
            return Effect.map(app, (response) => HttpServerResponse.setHeaders(response, headers))
          }
          return Effect.succeed(
            allowed
              ? HttpServerResponse.empty({
                  status: 204,
                  headers: {
                    ...headers,
                    "access-control-allow-methods": rules.methods,
                    "access-control-allow-headers": rules.requestHeaders,
                    // Browsers cut it to what they allow themselves.
                    "access-control-max-age": "86400"
                  }
                })
              : HttpServerResponse.setHeaders(Edge.respond(wrongOrigin, rules.envelope), headers)
          )
        })
  )
