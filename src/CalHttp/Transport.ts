/**
 * One request to Cal.com and what became of it: an answer that was read to its end, one that broke off, or none, and
 * then whether Cal.com can have seen the request. What the HTTP client throws stays here: its errors carry requests.
 */
import { Clock, Data, Effect, Option, Predicate, Redacted, type Stream } from "effect"
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as Headers from "@effect/platform/Headers"
import * as HttpClient from "@effect/platform/HttpClient"
import type * as HttpClientError from "@effect/platform/HttpClientError"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as Decoding from "./Decoding.js"
import * as Reading from "./Reading.js"

/** The head of an answer. */
export interface Head {
  readonly status: number
  readonly headers: Headers.Headers
  /** When it came, by our clock, in milliseconds. */
  readonly receivedAt: number
}

/** An answer of Cal.com. */
export interface Reply extends Head {
  /** What arrived of its body. Redacted because it may hold a pair, and spans are given results. */
  readonly body: Redacted.Redacted<Uint8Array>
  /** Whether that is all of it. */
  readonly isWhole: boolean
}

/**
 * No answer. `impossible`: the request could not even be built. `notConnected`: it failed before anything was sent.
 * `unknown`: Cal.com may have processed it.
 */
export class NoReply extends Data.TaggedError("NoReply")<{
  readonly phase: "impossible" | "notConnected" | "unknown"
  /** For people; made from error codes, never from messages. */
  readonly reason: string
  /** The proxy on the way, if there was one and nothing was sent. */
  readonly through?: Through
}> {}

/** A proxy that was asked for a tunnel. */
export interface Through {
  /** Scheme, host and port: its credentials stay with it. */
  readonly proxy: string
  /** Which option of `Proxies` named it. */
  readonly option: "httpProxy" | "httpsProxy"
}

/** What a client may have beside `execute`: a way to send a request and to read its answer as {@link send} does, at less cost. */
export interface Exchange {
  /** `undefined`: not with a body of this kind. */
  (
    request: HttpClientRequest.HttpClientRequest,
    isEnough?: (head: Head, bytes: Uint8Array) => boolean
  ): Effect.Effect<Reply, NoReply> | undefined
}

/** An answer whose body may still be on its way. What it fails with holds no request. */
export interface Opened extends Reading.Way {
  readonly status: number
  readonly headers: Headers.Headers
  /** All of the body. */
  readonly bytes: Effect.Effect<Uint8Array, Broken>
  readonly stream: Stream.Stream<Uint8Array, Broken>
}

/** A body that cannot be had. */
export type Broken = Pick<HttpClientError.ResponseError, "reason">

export const decodeFailed: Broken = { reason: "Decode" }

/** What a client may have beside `execute`: a way to be answered as {@link open} is, at less cost. */
export interface Opening {
  /** `undefined`: not with a body of this kind. */
  (request: HttpClientRequest.HttpClientRequest): Effect.Effect<Opened, NoReply> | undefined
}

/** Where a client has these. Whatever is put around such a client has them not, and is asked itself. */
export const exchange: unique symbol = Symbol.for("cal-tokens/CalHttp/exchange")
export const opening: unique symbol = Symbol.for("cal-tokens/CalHttp/opening")

interface Ways {
  readonly [exchange]?: Exchange | undefined
  readonly [opening]?: Opening | undefined
}

const waysOf = <E, R>(client: HttpClient.HttpClient.With<E, R> & Ways): Ways => client

/** An error with this property happened before a connection was there, whatever its code. It holds the reason for people. */
export const notConnected: unique symbol = Symbol.for("cal-tokens/CalClient/notConnected")

/** Where such an error came about on the way through a proxy: a {@link Through}. */
export const throughProxy: unique symbol = Symbol.for("cal-tokens/CalHttp/throughProxy")

/** Headers with our secrets, to be masked wherever headers are rendered. */
export const secretHeaders: ReadonlyArray<string> = ["x-cal-secret-key"]

/**
 * An HTTP client fit for secrets: no redirects, no trace headers for a third party, and none of the client's own spans,
 * whose failures would carry the request with its body.
 */
export const harden = <E, R>(client: HttpClient.HttpClient.With<E, R>): HttpClient.HttpClient.With<E, R> =>
  // These do nothing of what is prevented here.
  Object.assign(hardened(client), { [exchange]: waysOf(client)[exchange], [opening]: waysOf(client)[opening] })

const hardened = <E, R>(client: HttpClient.HttpClient.With<E, R>): HttpClient.HttpClient.With<E, R> =>
  client.pipe(
    HttpClient.transformResponse((response) =>
      response.pipe(
        Effect.locallyWith(Headers.currentRedactedNames, (names) => [...names, ...secretHeaders]),
        withoutRedirects
      )
    ),
    HttpClient.withTracerPropagation(false),
    HttpClient.withTracerDisabledWhen(() => true)
  )

/** The fetch client follows redirects unless its `RequestInit` forbids it; the others do not. */
const withoutRedirects = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Effect.serviceOption(FetchHttpClient.RequestInit), (init) =>
    Effect.provideService(effect, FetchHttpClient.RequestInit, {
      ...Option.getOrElse(init, () => ({})),
      redirect: "manual"
    })
  )

/** Sends a request and reads the answer, to its end or until there is enough of it. */
export const send = (
  client: HttpClient.HttpClient,
  request: HttpClientRequest.HttpClientRequest,
  isEnough?: (head: Head, bytes: Uint8Array) => boolean
): Effect.Effect<Reply, NoReply> =>
  waysOf(client)[exchange]?.(request, isEnough) ??
  client.execute(request).pipe(
    Effect.flatMap((response) => read(response, isEnough)),
    noReplies
  )

/** Sends a request, and is answered when the head of the answer is there. */
export const open = (
  client: HttpClient.HttpClient,
  request: HttpClientRequest.HttpClientRequest
): Effect.Effect<Opened, NoReply> =>
  waysOf(client)[opening]?.(request) ?? noReplies(Effect.map(client.execute(request), openedOf))

const openedOf = (response: HttpClientResponse.HttpClientResponse): Opened => ({
  status: response.status,
  headers: response.headers,
  read: (came) => Reading.read(response, undefined, came),
  arrived: () => undefined,
  bytes: Effect.map(response.arrayBuffer, (buffer) => new Uint8Array(buffer)),
  stream: response.stream
})

/** Translates what an HTTP client fails with. A defect below is an unknown outcome too. */
const noReplies = <A, R>(effect: Effect.Effect<A, HttpClientError.HttpClientError, R>): Effect.Effect<A, NoReply, R> =>
  effect.pipe(
    Effect.mapError((error) => (error._tag === "RequestError" ? describe(error) : brokeOff)),
    Effect.catchAllDefect(() => Effect.fail(unexpected))
  )

const read = (
  response: HttpClientResponse.HttpClientResponse,
  isEnough?: (head: Head, bytes: Uint8Array) => boolean
): Effect.Effect<Reply> =>
  Effect.flatMap(Clock.currentTimeMillis, (receivedAt) => {
    const head = { status: response.status, headers: response.headers, receivedAt }
    return Effect.map(Reading.read(response, isEnough && ((bytes) => isEnough(head, bytes))), ({ bytes, end }) => ({
      ...head,
      body: Redacted.make(bytes),
      isWhole: end === "whole"
    }))
  })

/** The body of an answer that came whole, without its encodings. */
export const textOf = ({ body, isWhole }: Reply): Option.Option<Redacted.Redacted> => {
  const bytes = Option.getOrElse(Decoding.text(Redacted.value(body)), () => Redacted.value(body))
  return isWhole ? Option.some(Redacted.make(new TextDecoder().decode(bytes))) : Option.none()
}

export const unexpected = new NoReply({ phase: "unknown", reason: "unexpected failure" })

export const invalid = new NoReply({ phase: "impossible", reason: "the request is invalid" })

export const brokeOff = new NoReply({ phase: "unknown", reason: "the answer broke off" })

/** What became of a request for which the HTTP client gave no answer. */
const describe = (error: HttpClientError.RequestError): NoReply =>
  error.reason === "Transport" ? noReply(error.cause) : invalid

/** The same of what went wrong on the way. */
export const noReply = (error: unknown): NoReply => {
  const causes = chain(error)
  const code = causes.map(codeOf).find(Predicate.isNotUndefined)
  if (code === "UND_ERR_INVALID_ARG" || code === "ERR_INVALID_URL") return invalid
  const through = causes.map(throughOf).find(Predicate.isNotUndefined)
  return new NoReply({
    phase: causes.some(isBeforeSending) ? "notConnected" : "unknown",
    reason: reasonOf(error),
    ...(through === undefined ? {} : { through })
  })
}

/** Why there is no answer, for people. */
export const reasonOf = (error: unknown): string => {
  const causes = chain(error)
  const code = causes.map(codeOf).find(Predicate.isNotUndefined)
  return (
    causes.map(saidOf).find(Predicate.isString) ?? (code === undefined ? "network failure" : (reasons[code] ?? code))
  )
}

const saidOf = (error: unknown): unknown => (Predicate.isRecord(error) ? error[notConnected] : undefined)

const throughOf = (error: unknown): Through | undefined =>
  Predicate.isRecord(error) ? (error[throughProxy] as Through | undefined) : undefined

/** An error and what it was caused by. Of an aggregate (one error per address tried), every part must agree. */
const chain = (error: unknown, depth = 0): ReadonlyArray<unknown> =>
  Predicate.isRecord(error) && depth < 8 ? [error, ...chain(error["cause"], depth + 1)] : []

const codeOf = (error: unknown): string | undefined =>
  Predicate.isRecord(error) && typeof error["code"] === "string" && /^[A-Z][A-Z0-9_/]{2,60}$/.test(error["code"])
    ? error["code"]
    : undefined

const isBeforeSending = (error: unknown): boolean => {
  if (!Predicate.isRecord(error)) return false
  if (error[notConnected] !== undefined) return true
  const parts: unknown = error["errors"]
  if (Array.isArray(parts) && parts.length > 0) return parts.every((part) => chain(part).some(isBeforeSending))
  // `ETIMEDOUT` and the like also happen on a connection that has been used: the system call tells them apart.
  if (error["syscall"] === "connect" || error["syscall"] === "getaddrinfo") return true
  const code = codeOf(error)
  return code !== undefined && beforeSending.has(code)
}

/** Codes of Node, undici and OpenSSL that only occur while connecting. */
const beforeSending: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EAI_NODATA",
  "EAI_NONAME",
  "EAI_FAIL",
  "UND_ERR_CONNECT_TIMEOUT",
  // The certificate was refused by us.
  "ERR_TLS_CERT_ALTNAME_INVALID",
  "CERT_HAS_EXPIRED",
  "CERT_NOT_YET_VALID",
  "CERT_REVOKED",
  "CERT_UNTRUSTED",
  "CERT_REJECTED",
  "CERT_SIGNATURE_FAILURE",
  "CERT_CHAIN_TOO_LONG",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "HOSTNAME_MISMATCH",
  "INVALID_CA",
  "INVALID_PURPOSE",
  // The handshake failed.
  "ERR_TLS_HANDSHAKE_TIMEOUT",
  "ERR_SSL_WRONG_VERSION_NUMBER",
  "ERR_SSL_PACKET_LENGTH_TOO_LONG",
  "ERR_SSL_UNSUPPORTED_PROTOCOL",
  "ERR_SSL_NO_PROTOCOLS_AVAILABLE",
  "ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE",
  "ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE",
  "ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION",
  "ERR_SSL_TLSV1_UNRECOGNIZED_NAME"
])

const reasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "connection reset",
  UND_ERR_SOCKET: "connection closed",
  UND_ERR_CONNECT_TIMEOUT: "connect timeout",
  UND_ERR_HEADERS_TIMEOUT: "no answer",
  UND_ERR_PRX_TLS: "the proxy's certificate is not for its name",
  ETIMEDOUT: "connection timed out",
  ENOTFOUND: "host not found",
  EAI_AGAIN: "name resolution failed",
  EHOSTUNREACH: "host unreachable",
  ENETUNREACH: "network unreachable",
  EPIPE: "connection closed"
}
