/**
 * Cal.com's answers as callers see them: bound to the request that the caller made, not to the one that carried the
 * token, and with the token taken out of error answers, which may quote it.
 */
import { Effect, Inspectable, Option, Redacted, Stream } from "effect"
import * as Cookies from "@effect/platform/Cookies"
import * as Headers from "@effect/platform/Headers"
import * as HttpClientError from "@effect/platform/HttpClientError"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as HttpIncomingMessage from "@effect/platform/HttpIncomingMessage"
import * as UrlParams from "@effect/platform/UrlParams"
import { reveals } from "../CalHttp/Disclosure.js"
import * as Decoding from "../CalHttp/Decoding.js"
import * as Reading from "../CalHttp/Reading.js"
import { replaceSecrets, scrubJson } from "../CalHttp/Scrub.js"
import * as Transport from "../CalHttp/Transport.js"
import { CalProtocolError, toFailure } from "../TokenError.js"

/** A response that belongs to the caller's request; so do the errors of reading it. */
class Answer extends Inspectable.Class implements HttpClientResponse.HttpClientResponse {
  readonly [HttpIncomingMessage.TypeId]: HttpIncomingMessage.TypeId = HttpIncomingMessage.TypeId
  readonly [HttpClientResponse.TypeId]: HttpClientResponse.TypeId = HttpClientResponse.TypeId
  readonly cookies = Cookies.empty
  readonly remoteAddress = Option.none<string>()
  readonly #source: Transport.Opened

  constructor(
    readonly request: HttpClientRequest.HttpClientRequest,
    source: Transport.Opened,
    readonly headers: Headers.Headers
  ) {
    super()
    this.#source = source
  }
  get status(): number {
    return this.#source.status
  }
  get text(): Effect.Effect<string, HttpClientError.ResponseError> {
    return Effect.map(this.#bytes, (bytes) => new TextDecoder().decode(bytes))
  }
  get json(): Effect.Effect<unknown, HttpClientError.ResponseError> {
    return this.#parse((text): unknown => (text === "" ? null : JSON.parse(text)))
  }
  get urlParamsBody(): Effect.Effect<UrlParams.UrlParams, HttpClientError.ResponseError> {
    return this.#parse((text) => UrlParams.fromInput(new URLSearchParams(text)))
  }
  get formData(): Effect.Effect<FormData, HttpClientError.ResponseError> {
    const { headers } = this
    return Effect.flatMap(this.#bytes, (bytes) =>
      Effect.tryPromise({
        try: () => new Response(Buffer.from(bytes), { headers }).formData(),
        catch: () => this.#error(Transport.decodeFailed)
      })
    )
  }
  get arrayBuffer(): Effect.Effect<ArrayBuffer, HttpClientError.ResponseError> {
    return Effect.map(this.#bytes, (bytes) => new Uint8Array(bytes).buffer)
  }
  get stream(): Stream.Stream<Uint8Array, HttpClientError.ResponseError> {
    return Stream.mapError(this.#source.stream, this.#error)
  }
  get [Reading.reading](): Reading.Way {
    return this.#source
  }
  toJSON(): unknown {
    return { _id: "@effect/platform/HttpClientResponse", request: this.request.toJSON(), status: this.status }
  }
  get #bytes() {
    return Effect.mapError(this.#source.bytes, this.#error)
  }
  #parse<A>(parse: (text: string) => A) {
    return Effect.flatMap(this.text, (text) =>
      Effect.try({ try: () => parse(text), catch: () => this.#error(Transport.decodeFailed) })
    )
  }
  /** The original error holds the request with the token, and its cause may hold anything. */
  readonly #error = ({ reason }: Transport.Broken) =>
    new HttpClientError.ResponseError({ request: this.request, response: this, reason })
}

/** The answer, its body still to be read. */
export const bind = (
  request: HttpClientRequest.HttpClientRequest,
  source: Transport.Opened,
  secrets: ReadonlyArray<Redacted.Redacted>
): HttpClientResponse.HttpClientResponse => new Answer(request, source, cleanHeaders(source.headers, secrets, 1))

/** An answer that was read, and the text of its body as Cal.com wrote it: for the judge of refusals, and nobody else. */
export interface ReadAnswer {
  readonly response: HttpClientResponse.HttpClientResponse
  readonly text: Redacted.Redacted
}

/** Cookies are credentials of their own, and none of whoever asks through this service. */
const cookieHeaders = ["set-cookie", "set-cookie2"]

/** They describe the body as it came, which is not the body as it goes on. */
const bodyHeaders = [
  "content-length",
  "content-encoding",
  "transfer-encoding",
  "content-md5",
  "content-digest",
  "repr-digest",
  "digest",
  "etag",
  "trailer"
]

/** The headers without secrets. `times`: see {@link reveals}. */
const cleanHeaders = (
  source: Headers.Headers,
  secrets: ReadonlyArray<Redacted.Redacted>,
  times?: number
): Headers.Headers => {
  const headers = Headers.remove(source, cookieHeaders)
  const isClean = (entries: ReadonlyArray<readonly [string, string]>) =>
    !reveals(entries.map((entry) => entry.join(" ")).join("\n"), secrets, times)
  const entries = Object.entries(headers)
  if (isClean(entries)) return headers
  const cleaned = entries.map(([name, value]) => [name, replaceSecrets(value, secrets)] as const)
  return Headers.fromInput(Object.fromEntries(cleaned.filter((entry) => isClean([entry]))))
}

/**
 * The answer with its body read, as UTF-8, and every secret in it and in its headers replaced. What cannot be read as text,
 * is longer than anybody reads, or shows a secret in some other form leaves without its words: nobody could say what is in
 * them. `isGrant`: an answer that may hold a token by its purpose; then whatever looks like one is replaced.
 */
export const readWithout = (
  request: HttpClientRequest.HttpClientRequest,
  source: Transport.Opened,
  secrets: ReadonlyArray<Redacted.Redacted>,
  isGrant = false
): Effect.Effect<ReadAnswer, HttpClientError.ResponseError> =>
  Effect.flatMap(source.read(), ({ bytes, end }) => {
    const headers = cleanHeaders(source.headers, secrets)
    if (end === "cut") {
      const response = new Answer(request, source, headers)
      return Effect.fail(new HttpClientError.ResponseError({ request, response, reason: "Decode" }))
    }
    const read = end === "whole" ? Decoding.readable(bytes, source.headers) : Option.none()
    const body = bytes.length === 0 ? Option.some("") : Option.flatMap(read, (read) => clean(read, secrets, isGrant))
    // A status above those of HTTP says that the server failed (RFC 9110, 15), and a 205 has no body: neither can be made.
    const isOdd = source.status > 599 || (Option.isNone(body) && source.status < 300)
    const status = isOdd ? 502 : source.status
    const type = mediaType.exec(headers["content-type"] ?? "")?.[0] ?? "text/plain"
    return Effect.succeed({
      response: HttpClientResponse.fromWeb(
        request,
        new Response(
          Option.match(body, {
            onNone: () => withheld,
            onSome: (text) => (text === "" || status === 205 ? null : text)
          }),
          {
            status,
            headers: {
              ...Headers.remove(headers, bodyHeaders),
              "content-type": `${Option.isNone(body) ? "application/json" : type}; charset=utf-8`
            }
          }
        )
      ),
      text: Redacted.make(Option.match(read, { onNone: () => "", onSome: ({ text }) => text }))
    })
  })

const mediaType = /^[\w.+-]+\/[\w.+-]+/

const clean = (
  { others, text }: Decoding.Readable,
  secrets: ReadonlyArray<Redacted.Redacted>,
  isGrant: boolean
): Option.Option<string> =>
  Option.filter(
    Option.map(isGrant ? scrubJson(text) : Option.some(text), (text) => replaceSecrets(text, secrets)),
    (cleaned) =>
      !reveals(cleaned, secrets) && !others.some((bytes) => reveals(Buffer.from(bytes).toString("latin1"), secrets))
  )

/** Instead of a body that nobody may see. */
const withheld = JSON.stringify(
  toFailure(
    new CalProtocolError({ operation: "this request", issue: "it is no text, or may hold a token, and is withheld" })
  )
)
