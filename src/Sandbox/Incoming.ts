/** From an HTTP request to what the handlers work with: the body parser of Cal.com, and what a request is for. */
import { type HttpServerRequest } from "@effect/platform"
import { Effect, Option } from "effect"
import * as Jwt from "./Jwt.js"
import { type Kind } from "./Kind.js"
import { type Store } from "./Store.js"
import { bearerOf, isRecord, type Body } from "./World.js"

/** Cal.com's edge serves `/api/v2` as `/v2`. */
export const stripApi = (url: string): string => (url.startsWith("/api/v2") ? url.slice(4) : url)

export const pathOf = (url: string): string => {
  const end = url.search(/[?#]/)
  return end < 0 ? url : url.slice(0, end)
}

export const queryOf = (url: string): URLSearchParams => {
  const start = url.indexOf("?")
  return new URLSearchParams(start < 0 ? "" : url.slice(start + 1))
}

export const addressOf = (request: HttpServerRequest.HttpServerRequest): string =>
  Option.getOrElse(request.remoteAddress, () => "")

/** A body that breaks off counts as none. */
export const readBody = (request: HttpServerRequest.HttpServerRequest): Effect.Effect<Body> =>
  request.method === "GET" || request.method === "HEAD" || request.method === "OPTIONS"
    ? Effect.succeed(noBody)
    : Effect.match(Effect.interruptible(request.text), {
        onFailure: () => noBody,
        onSuccess: (text) => parseBody(text, request.headers["content-type"] ?? "")
      })

const noBody: Body = { _tag: "None" }

const parseBody = (text: string, contentType: string): Body => {
  if (text === "") return noBody
  if (contentType.includes("application/x-www-form-urlencoded")) return { _tag: "Form", value: parseForm(text) }
  if (!contentType.includes("json")) return noBody
  try {
    const value: unknown = JSON.parse(text)
    // The parser is strict: only objects and arrays are JSON bodies.
    if (typeof value === "object" && value !== null) return { _tag: "Json", value }
    return { _tag: "Malformed", message: `Unexpected token '${text.trimStart().slice(0, 1)}' in JSON at position 0` }
  } catch (error) {
    return { _tag: "Malformed", message: error instanceof Error ? error.message : "Malformed JSON" }
  }
}

/** A name that comes twice is a list. */
const parseForm = (text: string) => {
  const params = new URLSearchParams(text)
  return Object.fromEntries(
    [...new Set(params.keys())].map((key) => {
      const values = params.getAll(key)
      return [key, values.length === 1 ? (values[0] ?? "") : values]
    })
  )
}

export interface Purpose {
  readonly kind: Kind
  readonly calUserId: number | undefined
  /** The refresh token that is presented, if any. */
  readonly refreshToken: string | undefined
}

/** What a request is for and whom it concerns, as far as it says so itself. Nothing here is verified. */
export const purposeOf = (
  store: Store,
  { headers, method }: Pick<HttpServerRequest.HttpServerRequest, "headers" | "method">,
  path: string,
  body: Body
): Purpose => {
  const [, , resource, , nested, userId, action] = path.split("/")
  const about = (kind: Kind, calUserId?: number, refreshToken?: string): Purpose => ({ kind, calUserId, refreshToken })
  const isLegacy = path === "/api/auth/oauth/token" || path === "/api/auth/oauth/refreshToken"
  if (isLegacy || path === "/v2/auth/oauth2/token") {
    const fields = isLegacy && body._tag !== "Form" ? {} : fieldsOf(body)
    const refreshToken = stringOf(fields.refresh_token) ?? (isLegacy ? bearerOf(headers) : undefined)
    if (fields.grant_type === "refresh_token") return about("oauth2Refresh", ownerOf(refreshToken), refreshToken)
    return fields.grant_type === "authorization_code"
      ? about("oauth2Code", store.codes.get(stringOf(fields.code) ?? "")?.userId)
      : about("oauth2Token")
  }
  if (path === "/auth/oauth2/authorize") return about("authorize")
  switch (resource) {
    case "oauth": {
      if (nested !== "refresh") return about("exchange")
      const refreshToken = stringOf(fieldsOf(body).refreshToken)
      return about("refresh", ownerOf(refreshToken), refreshToken)
    }
    case "oauth-clients": {
      if (userId === undefined) return about(method === "POST" ? "createManaged" : "managedUser")
      return about(action === "force-refresh" ? "forceRefresh" : "managedUser", idOf(userId))
    }
    case "provider":
    case "atoms":
      return about("provider", ownerOf(bearerOf(headers)))
    case "me":
    case "bookings":
    case "calendars":
    case "event-types":
    case "schedules":
      return about("api", ownerOf(bearerOf(headers)))
    case undefined:
    default:
      return about("unknown")
  }
}

const fieldsOf = (body: Body): Readonly<Record<string, unknown>> =>
  (body._tag === "Json" || body._tag === "Form") && isRecord(body.value) ? body.value : {}

const idOf = (text: string) => (/^\d+$/.test(text) ? Number(text) : undefined)

const stringOf = (value: unknown) => (typeof value === "string" ? value : undefined)

const ownerOf = (token: string | undefined): number | undefined => {
  const claims = token === undefined ? undefined : Jwt.decode(token)
  const owner = claims?.userId ?? claims?.ownerId
  return typeof owner === "number" ? owner : undefined
}
