/** Request bodies: bounded, and decoded without ever repeating a value. */
import { Buffer } from "node:buffer"
import type { IncomingMessage } from "node:http"
import { HttpServerRequest } from "@effect/platform"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { Effect, Either, Schema, Stream } from "effect"
import { InvalidInput } from "../TokenError.js"
import * as Shape from "../TokenInput/Shape.js"
import * as Peer from "./Peer.js"

/** The largest body that is taken, 1 MiB. */
const maxBytes = 1024 * 1024

/** Of a body that is too large, so much is read and forgotten, so that a client which only listens afterwards hears why. */
const maxDiscarded = 16 * maxBytes

/** The whole body. */
export const bytes: Effect.Effect<Uint8Array, InvalidInput, HttpServerRequest.HttpServerRequest> = Effect.flatMap(
  HttpServerRequest.HttpServerRequest,
  (request) =>
    Peer.webOf(request) === undefined ? read(NodeHttpServerRequest.toIncomingMessage(request)) : readWeb(request)
)

/** A JSON body of this shape. `broadest`: fields whose absence gives the most; null there is no way to say so. */
export const json = <A, I>(
  schema: Schema.Schema<A, I>,
  broadest: ReadonlyArray<keyof I & string> = []
): Effect.Effect<A, InvalidInput, HttpServerRequest.HttpServerRequest> => {
  return decoded(Shape.object(schema, { ...whole, broadest }))
}

/** A JSON body with a list in this field, whose items nobody has looked at yet. */
export const items = (
  field: string
): Effect.Effect<ReadonlyArray<unknown>, InvalidInput, HttpServerRequest.HttpServerRequest> => {
  const decode = Shape.decoder(
    Schema.Struct({ [field]: Schema.Array(Schema.Unknown).annotations({ title: "an array" }) }),
    whole
  )
  return decoded((body) => Either.map(decode(body), (items) => items[field] ?? []))
}

const whole = { whole: "body", expected: "must be a JSON object" }

const decoded = <A>(decode: (body: unknown) => Either.Either<A, InvalidInput>) => {
  const read = Effect.map(bytes, (bytes) => Either.flatMap(parse(bytes), decode))
  return Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
    const contentType = request.headers["content-type"]
    return contentType === undefined || jsonType.test(contentType)
      ? Effect.flatten(read)
      : new InvalidInput({ field: "content-type", expected: "must be application/json" })
  })
}

const jsonType = /^application\/(?:[\w.-]+\+)?json\s*(?:;|$)/i

const utf8 = new TextDecoder("utf-8", { fatal: true })

const parse = (body: Uint8Array): Either.Either<unknown, InvalidInput> =>
  Either.try({
    try: (): unknown => JSON.parse(utf8.decode(body)),
    catch: () => new InvalidInput({ field: "body", expected: "must be JSON" })
  })

const joined = (chunks: ReadonlyArray<Buffer>): Buffer =>
  chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks)

const tooLarge = Effect.failSync(
  () => new InvalidInput({ field: "body", expected: "must be at most 1 MiB large", tooLarge: true })
)

const broken = new InvalidInput({ field: "body", expected: "must arrive whole" })

/** A framework's, which drops of it what nobody reads. */
const readWeb = (request: HttpServerRequest.HttpServerRequest) =>
  Peer.webOf(request)?.body == null
    ? Effect.succeed(new Uint8Array())
    : request.stream.pipe(
        Stream.mapError(() => broken),
        Stream.runFoldEffect({ chunks: new Array<Uint8Array>(), size: 0 }, ({ chunks, size }, chunk) => {
          const total = size + chunk.length
          chunks.push(chunk)
          return total > maxBytes ? tooLarge : Effect.succeed({ chunks, size: total })
        }),
        Effect.map(({ chunks }): Uint8Array => Buffer.concat(chunks))
      )

const read = (source: IncomingMessage) =>
  Effect.async<Uint8Array, InvalidInput>((resume) => {
    let chunks: Array<Buffer> = []
    let size = 0
    const onData = (chunk: Buffer) => {
      size += chunk.length
      if (size <= maxBytes) return chunks.push(chunk)
      chunks = []
      return size > maxDiscarded ? done(tooLarge) : undefined
    }
    const onEnd = () => done(size > maxBytes ? tooLarge : Effect.succeed(joined(chunks)))
    const onError = () => done(Effect.fail(broken))
    const done = (result: Effect.Effect<Uint8Array, InvalidInput>) => {
      source.off("data", onData).off("end", onEnd).off("error", onError)
      resume(result)
    }
    source.on("data", onData).on("end", onEnd).on("error", onError)
  })
