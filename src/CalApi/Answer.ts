/**
 * Cal.com's answers as callers see them: bound to the request that the caller made, not to the one that carried the
 * token, and with the token taken out of error answers, which may quote it.
 */
import { Effect, Inspectable, Option, type Redacted, Stream } from "effect"
import {
  type Cookies,
  Headers,
  HttpClientError,
  type HttpClientRequest,
  HttpClientResponse,
  HttpIncomingMessage,
  type UrlParams
} from "@effect/platform"
import * as Decoding from "../CalHttp/Decoding.js"
import * as Reading from "../CalHttp/Reading.js"
import { replaceSecrets } from "../CalHttp/Scrub.js"

/** A response that belongs to the caller's request; so do the errors of reading it. */
class Answer extends Inspectable.Class implements HttpClientResponse.HttpClientResponse {
  readonly [HttpIncomingMessage.TypeId]: HttpIncomingMessage.TypeId = HttpIncomingMessage.TypeId
  readonly [HttpClientResponse.TypeId]: HttpClientResponse.TypeId = HttpClientResponse.TypeId
  readonly #source: HttpClientResponse.HttpClientResponse

  constructor(
    readonly request: HttpClientRequest.HttpClientRequest,
    source: HttpClientResponse.HttpClientResponse
  ) {
    super()
    this.#source = source
  }
  get status(): number {
    return this.#source.status
  }
  get headers(): Headers.Headers {
    return this.#source.headers
  }
  get cookies(): Cookies.Cookies {
    return this.#source.cookies
  }
  get remoteAddress(): Option.Option<string> {
    return this.#source.remoteAddress
  }
  get text(): Effect.Effect<string, HttpClientError.ResponseError> {
    return Effect.mapError(this.#source.text, this.#own)
  }
  get json(): Effect.Effect<unknown, HttpClientError.ResponseError> {
    return Effect.mapError(this.#source.json, this.#own)
  }
  get urlParamsBody(): Effect.Effect<UrlParams.UrlParams, HttpClientError.ResponseError> {
    return Effect.mapError(this.#source.urlParamsBody, this.#own)
  }
  get formData(): Effect.Effect<FormData, HttpClientError.ResponseError> {
    return Effect.mapError(this.#source.formData, this.#own)
  }
  get arrayBuffer(): Effect.Effect<ArrayBuffer, HttpClientError.ResponseError> {
    return Effect.mapError(this.#source.arrayBuffer, this.#own)
  }
  get stream(): Stream.Stream<Uint8Array, HttpClientError.ResponseError> {
    return Stream.mapError(this.#source.stream, this.#own)
  }
  toJSON(): unknown {
    return { _id: "@effect/platform/HttpClientResponse", request: this.request.toJSON(), status: this.status }
  }
  /** The original error holds the request with the token, and its cause may hold anything. */
  readonly #own = ({ reason }: HttpClientError.ResponseError) =>
    new HttpClientError.ResponseError({ request: this.request, response: this, reason })
}

/** The answer, its body still to be read. */
export const bind = (
  request: HttpClientRequest.HttpClientRequest,
  source: HttpClientResponse.HttpClientResponse
): HttpClientResponse.HttpClientResponse => new Answer(request, source)

/** An error answer that was read, and the text of its body. */
export interface ReadAnswer {
  readonly response: HttpClientResponse.HttpClientResponse
  readonly text: string
}

/** They describe the body as it came, which is not the body as it goes on. */
const bodyHeaders = ["content-length", "content-encoding", "transfer-encoding"]

/**
 * The answer with its body read, its encodings undone and every secret in it and in its headers replaced. What came
 * encoded and cannot be decoded leaves without a body: nobody could say what is in it.
 */
export const readWithout = (
  request: HttpClientRequest.HttpClientRequest,
  source: HttpClientResponse.HttpClientResponse,
  secrets: ReadonlyArray<Redacted.Redacted>
): Effect.Effect<ReadAnswer, HttpClientError.ResponseError> =>
  Effect.flatMap(Reading.read(source), ({ bytes, end }) => {
    if (end === "cut") {
      return Effect.fail(
        new HttpClientError.ResponseError({ request, response: bind(request, source), reason: "Decode" })
      )
    }
    // Tokens are ASCII, so they are found in any text that contains it, and no other byte is changed.
    const body = replaceSecrets(Buffer.from(plain(bytes, source.headers)).toString("latin1"), secrets)
    const cleaned = Buffer.from(body, "latin1")
    const headers = Object.entries(Headers.remove(source.headers, bodyHeaders)).map(
      ([name, value]): [string, string] => [name, replaceSecrets(value, secrets)]
    )
    return Effect.succeed({
      response: HttpClientResponse.fromWeb(request, new Response(cleaned, { status: source.status, headers })),
      text: cleaned.toString("utf8")
    })
  })

/** An image, or text in another alphabet, is no more readable than an unknown encoding, but says nothing of one. */
const plain = (bytes: Uint8Array, headers: Headers.Headers): Uint8Array =>
  Option.getOrElse(Decoding.text(bytes), () =>
    /^(identity)?$/i.test(headers["content-encoding"] ?? "") ? bytes : new Uint8Array()
  )
