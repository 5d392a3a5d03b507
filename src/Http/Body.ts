/** Request bodies: bounded, and decoded without ever repeating a value. */
import { Buffer } from "node:buffer"
import type { IncomingMessage } from "node:http"
import { HttpServerRequest } from "@effect/platform"
import { NodeHttpServerRequest } from "@effect/platform-node"
import { Effect, Either, type ParseResult, Predicate, Redacted, Schema, SchemaAST } from "effect"
import { InvalidInput } from "../TokenError.js"
import { maxTokenLength } from "../TokenInput.js"

/** The largest body that is taken, 1 MiB. */
const maxBytes = 1024 * 1024

/** Of a body that is too large, so much is read and forgotten, so that a client which only listens afterwards hears why. */
const maxDiscarded = 16 * maxBytes

/** The whole body. */
export const bytes: Effect.Effect<Uint8Array, InvalidInput, HttpServerRequest.HttpServerRequest> = Effect.flatMap(
  HttpServerRequest.HttpServerRequest,
  (request) => read(NodeHttpServerRequest.toIncomingMessage(request))
)

/** A JSON body of this shape. `broadest`: fields whose absence gives the most; null there is no way to say so. */
export const json = <A, I>(
  schema: Schema.Schema<A, I>,
  broadest: ReadonlyArray<keyof I & string> = []
): Effect.Effect<A, InvalidInput, HttpServerRequest.HttpServerRequest> => {
  const decode = decoder(schema)
  const read = Effect.map(bytes, (bytes) =>
    parse(bytes).pipe(
      Either.map((body) => withoutNulls(body, broadest)),
      Either.flatMap(decode),
      Either.flatMap(plain)
    )
  )
  return Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
    const contentType = request.headers["content-type"]
    return contentType === undefined || jsonType.test(contentType)
      ? Effect.flatten(read)
      : new InvalidInput({ field: "content-type", expected: "must be application/json" })
  })
}

const jsonType = /^application\/(?:[\w.-]+\+)?json\s*(?:;|$)/i

/** Fields have bounds of their own; longer than a token, or with what no database and no header takes, is none of them. */
const plain = <A>(value: A): Either.Either<A, InvalidInput> => {
  const field = oddText(value)
  return field === undefined
    ? Either.right(value)
    : Either.left(
        new InvalidInput({ field, expected: `must have at most ${maxTokenLength} characters, and no NUL among them` })
      )
}

/** Where in a value of a known shape such a text is. What is below a field is the caller's to name. */
const oddText = (value: unknown): string | undefined =>
  Predicate.isRecord(value) ? Object.keys(value).find((field) => isOdd(value[field])) : undefined

const isOdd = (value: unknown): boolean => {
  if (typeof value === "string") return value.length > maxTokenLength || value.includes("\0")
  if (Redacted.isRedacted(value)) return isOdd(Redacted.value(value))
  return Predicate.isObject(value) && Object.entries(value).some((entry) => entry.some(isOdd))
}

/** Null is how many languages write a field that is absent. */
const withoutNulls = (value: unknown, but: ReadonlyArray<string>): unknown =>
  Predicate.isRecord(value)
    ? Object.fromEntries(Object.entries(value).filter(([name, field]) => field !== null || but.includes(name)))
    : value

/** A value of this shape, or which field of it is wrong. */
export const decoder = <A, I>(schema: Schema.Schema<A, I>): ((value: unknown) => Either.Either<A, InvalidInput>) => {
  const decode = Schema.decodeUnknownEither(schema)
  return (value) => Either.mapLeft(decode(value), invalid)
}

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
    const onError = () => done(Effect.fail(new InvalidInput({ field: "body", expected: "must arrive whole" })))
    const done = (result: Effect.Effect<Uint8Array, InvalidInput>) => {
      source.off("data", onData).off("end", onEnd).off("error", onError)
      resume(result)
    }
    source.on("data", onData).on("end", onEnd).on("error", onError)
  })

const invalid = (error: ParseResult.ParseError): InvalidInput => {
  const { expected, path } = locate(error.issue, [])
  return path.length === 0
    ? new InvalidInput({ field: "body", expected: "must be a JSON object" })
    : new InvalidInput({ field: path.join("."), expected })
}

/** Where the first issue is and what the schema says there. Only the schema is described, never the value. */
const locate = (
  issue: ParseResult.ParseIssue,
  path: ReadonlyArray<PropertyKey>
): { readonly path: ReadonlyArray<string>; readonly expected: string } => {
  switch (issue._tag) {
    case "Pointer":
      return locate(issue.issue, path.concat(issue.path))
    case "Composite":
      // Of a record even the keys are the caller's.
      return SchemaAST.isUnion(issue.ast) || isRecord(issue.ast)
        ? here(path, issue.ast)
        : locate(firstOf(issue.issues), path)
    case "Refinement":
    case "Transformation":
      return locate(issue.issue, path)
    case "Missing":
      return { path: path.map(String), expected: "is required" }
    case "Unexpected":
      return { path: path.map(String), expected: "is not known" }
    case "Type":
    case "Forbidden":
      return here(path, issue.ast)
  }
}

const isRecord = (ast: SchemaAST.AST) => SchemaAST.isTypeLiteral(ast) && ast.indexSignatures.length > 0

const here = (path: ReadonlyArray<PropertyKey>, ast: SchemaAST.AST) => ({
  path: path.map(String),
  expected: `must be ${String(ast).replace(" | undefined", "")}`
})

const firstOf = (issues: ParseResult.SingleOrNonEmpty<ParseResult.ParseIssue>): ParseResult.ParseIssue =>
  isMany(issues) ? issues[0] : issues

const isMany = <A>(self: ParseResult.SingleOrNonEmpty<A>): self is readonly [A, ...Array<A>] => Array.isArray(self)
