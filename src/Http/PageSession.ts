/**
 * Sessions of the operator's page: a cookie that stands for an API key, without holding it. It says which key, until when,
 * and carries a code under the key ring, so that every process of the fleet knows it, also after a start. The code covers
 * the key's fingerprint, too: when the key is changed, removed or over, so are its sessions. Nothing is stored.
 */
import { randomBytes } from "node:crypto"
import { type HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Clock, Context, Duration, Effect, Either, Layer, Option, Schema } from "effect"
import { LRUCache } from "lru-cache"
import { ApiKeys, type KeyHolder, refusesUser } from "../ApiKeys.js"
import type { Scope } from "../ApiKeys/Scope.js"
import { withoutSlashes } from "../CalHttp/CalPath.js"
import { KeyRing } from "../KeyRing.js"
import * as ClientAddress from "./ClientAddress.js"

type Request = HttpServerRequest.HttpServerRequest
type Response = HttpServerResponse.HttpServerResponse

/** The page sends it with each request. Another site's page cannot without being allowed to first, and nobody allows it. */
export const header = "x-cal-tokens-page"

/** A session that counts. */
export interface Session {
  /** Who has the key, for the one scope that a session has. */
  readonly caller: KeyHolder
  /** Milliseconds since the epoch. */
  readonly expiresAt: number
}

/** What a request has: a session; none that it may use; one that is over or was never made here; or a page that may not ask. */
export type Found = Option.Option<Either.Either<Session, "over" | "elsewhere">>

/** No session lasts longer. */
const longest = Duration.hours(12)

/** A session opens what a key with `manage` does, and never a token, whatever else its key opens. */
const scopes: ReadonlySet<Scope> = new Set<Scope>(["manage"])

/** Makes sessions, and finds the one of a request. */
export interface Sessions {
  /** The session of a request from the page, on whose every other request it counts for nothing. */
  readonly of: (request: Request) => Effect.Effect<Found>
  /** Whether the page itself asks, as far as browsers tell. */
  readonly isOwn: (request: Request) => boolean
  /** Whether its browser has a session that counts, whoever makes it ask. */
  readonly isOpen: (request: Request) => Effect.Effect<boolean>
  /** A session for whoever has this key, in a cookie on an answer. None where the key has just been taken away. */
  readonly begin: (
    request: Request,
    holder: KeyHolder
  ) => Effect.Effect<Option.Option<{ readonly session: Session; readonly onto: (response: Response) => Response }>>
  /** Ends the session of a request here, and takes the cookie away on an answer. */
  readonly end: (request: Request) => Effect.Effect<(response: Response) => Response>
}

/** None: there is no page here, and no cookie counts. */
export class PageSession extends Context.Reference<PageSession>()("cal-tokens/Http/PageSession", {
  defaultValue: (): Option.Option<Sessions> => Option.none()
}) {}

/** So many that were ended are remembered. Whoever ends more has a key. */
const maxEnded = 1000

/** `publicUrl`: where browsers find the service, if that is not where this server has it. */
export const layer = (publicUrl?: string): Layer.Layer<never, never, ApiKeys | KeyRing> =>
  Layer.effect(PageSession, Effect.asSome(make(publicUrl)))

const make = (publicUrl: string | undefined): Effect.Effect<Sessions, never, ApiKeys | KeyRing> =>
  Effect.gen(function* () {
    const keys = yield* ApiKeys
    // The ring may change while the process lives.
    const ring = yield* KeyRing
    const place = yield* placeOf(publicUrl)
    const ended = new LRUCache<string, true>({ max: maxEnded })

    /** What is signed. `fingerprint` is in no cookie. */
    const signed = (claims: Claims, fingerprint: string) => JSON.stringify([...claims, fingerprint])

    const read = (cookie: string): Effect.Effect<Option.Option<Session>> =>
      Effect.gen(function* () {
        const [text, code] = split(cookie)
        const claims = Option.filter(decode(text), (claims) => encode(claims) === text)
        if (Option.isNone(claims) || ended.has(cookie)) return Option.none()
        const [, name, expiresAt] = claims.value
        if (expiresAt <= (yield* Clock.currentTimeMillis)) return Option.none()
        const key = (yield* keys.named(name)).find(({ fingerprint }) =>
          ring.verify("page", signed(claims.value, fingerprint), code)
        )
        return key === undefined || !mayEnter(key.holder)
          ? Option.none()
          : Option.some({ caller: { ...key.holder, scopes }, expiresAt })
      })

    return {
      isOwn: place.isOwn,
      isOpen: (request) =>
        Option.match(cookieOf(request), {
          onNone: () => Effect.succeed(false),
          onSome: (cookie) => Effect.map(read(cookie), Option.isSome)
        }),
      of: (request) =>
        Effect.gen(function* (): Effect.fn.Return<Found> {
          const { authorization, [header]: asked } = request.headers
          const cookie = authorization === undefined && asked === "1" ? cookieOf(request) : Option.none()
          if (Option.isNone(cookie)) return Option.none()
          if (!place.isOwn(request)) return Option.some(Either.left("elsewhere"))
          return Option.some(Either.fromOption(yield* read(cookie.value), () => "over"))
        }),
      begin: (request, holder) =>
        Effect.gen(function* () {
          const now = yield* Clock.currentTimeMillis
          const expiresAt = Math.min(now + Duration.toMillis(longest), holder.expiresAt ?? Infinity)
          const key = (yield* keys.named(holder.name)).find((key) => key.holder === holder)
          return Option.map(Option.fromNullable(key), ({ fingerprint }) => {
            const claims: Claims = [randomBytes(12).toString("base64url"), holder.name, expiresAt]
            const cookie = `${encode(claims)}.${ring.mac("page", signed(claims, fingerprint))}`
            return {
              session: { caller: { ...holder, scopes }, expiresAt },
              onto: cookieOnto(request, place.of(request), cookie, Duration.millis(expiresAt - now))
            }
          })
        }),
      end: (request) =>
        Effect.gen(function* () {
          const cookie = cookieOf(request)
          if (Option.isSome(cookie) && Option.isSome(yield* read(cookie.value))) ended.set(cookie.value, true)
          return cookieOnto(request, place.of(request), "", Duration.zero)
        })
    }
  })

/** Whether a key may have sessions: the page shows all users. */
const mayEnter = (holder: KeyHolder): boolean =>
  holder.scopes.has("manage") && Option.isNone(refusesUser(holder, undefined))

// ---------------------------------------------------------------------------------------------------------------------
// What a cookie says
// ---------------------------------------------------------------------------------------------------------------------

type Claims = readonly [id: string, name: string, expiresAt: number]

const encode = (claims: Claims): string => Buffer.from(JSON.stringify(claims)).toString("base64url")

const decode = (text: string): Option.Option<Claims> =>
  Schema.decodeOption(Schema.parseJson(Schema.Tuple(Schema.String, Schema.String, Schema.Int)))(
    Buffer.from(text, "base64url").toString()
  )

/** Longer is none of ours. */
const maxLength = 4096

const split = (cookie: string): readonly [text: string, code: string] => {
  const [, text = "", code = ""] = (cookie.length <= maxLength && /^([\w-]+)\.([\w-]+)$/.exec(cookie)) || []
  return [text, code]
}

// ---------------------------------------------------------------------------------------------------------------------
// Where it is kept
// ---------------------------------------------------------------------------------------------------------------------

/** Where the page is, as its browser sees it. */
interface Place {
  /** With a slash at its end. */
  readonly path: string
  readonly isSecure: boolean
}

/** Browsers take a name with such a beginning over TLS alone, the first one for this very host and all of its paths. */
const prefixes = ["__Host-", "__Secure-", ""] as const

/** Cookies are a host's, whatever its ports: another service there has another name. */
const nameOf = ({ headers }: Request) => `cal-tokens-page${/:(\d{1,5})$/.exec(headers["host"] ?? "")?.[1] ?? ""}`

const cookieOf = (request: Request): Option.Option<string> => {
  const { cookies } = request
  const name = nameOf(request)
  return Option.fromNullable(
    prefixes.map((prefix) => cookies[`${prefix}${name}`]).find((cookie) => cookie !== undefined)
  )
}

const cookieOnto = (request: Request, { isSecure, path }: Place, cookie: string, maxAge: Duration.Duration) => {
  const name = `${isSecure ? (path === "/" ? "__Host-" : "__Secure-") : ""}${nameOf(request)}`
  const options = { httpOnly: true, maxAge, path, sameSite: "strict", secure: isSecure } as const
  return HttpServerResponse.unsafeSetCookie(name, cookie, options)
}

/** Nothing that ends a cookie's path or begins an attribute. */
const plainPath = /^(?:\/[\w\-.~!$&'()*+,=:@%]+)*$/

/** What lies in front of the service's own paths on its server, whatever stands for the parameters of a prefix. */
const rootOf = ({ originalUrl, url }: Request): string =>
  originalUrl.endsWith(url) ? originalUrl.slice(0, originalUrl.length - url.length) : ""

const placeOf = (publicUrl: string | undefined) =>
  Effect.map(ClientAddress.forwarded, (forwardedOf) => {
    const known = publicUrl !== undefined && URL.canParse(publicUrl) ? new URL(publicUrl) : undefined
    const publicPath = withoutSlashes(known?.pathname ?? publicUrl ?? "")

    /** Hosts that a browser may have asked for this request. */
    const hostsOf = (request: Request) =>
      [request.headers["host"], forwardedOf(request).host].filter((host) => host !== undefined)

    /** Of the origin of a page, if a browser has said one. */
    const saidOf = ({ headers }: Request) => {
      const origin = headers["origin"]
      return origin !== undefined && URL.canParse(origin) ? new URL(origin) : undefined
    }

    return {
      /**
       * Browsers say whether a page asks its own origin, and no script can say it for them. To addresses without TLS, and from
       * older ones, they say the page's origin alone, where it writes.
       */
      isOwn: (request: Request): boolean => {
        const { origin, "sec-fetch-site": site } = request.headers
        if (site !== undefined) return site === "same-origin"
        if (origin === undefined) return true
        const said = saidOf(request)
        return (
          said !== undefined && (said.origin === known?.origin || hostsOf(request).some((host) => isHost(host, said)))
        )
      },
      /** The page's origin, as it came with what it wrote, tells more than any proxy. */
      of: (request: Request): Place => {
        const said = saidOf(request)
        const isPublic =
          known === undefined
            ? publicUrl !== undefined
            : said === undefined
              ? hostsOf(request).includes(known.host)
              : said.origin === known.origin
        const path = isPublic ? publicPath : rootOf(request)
        const { proto } = forwardedOf(request)
        const scheme = said?.protocol ?? (proto === undefined ? known?.protocol : `${proto}:`)
        return { path: plainPath.test(path) ? `${path}/` : "/", isSecure: scheme === "https:" }
      }
    }
  })

/** By either spelling of a host: browsers leave the port out that belongs to the scheme. */
const isHost = (host: string, said: URL): boolean => {
  const asked = `${said.protocol}//${host}`
  return URL.canParse(asked) && new URL(asked).host === said.host
}
