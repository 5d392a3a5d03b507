/**
 * The shapes of Cal.com's answers that hold no tokens (API v2 reference: platform endpoints wrap in `{status, data}`, the
 * OAuth2 token endpoint follows RFC 6749), decoded without ever quoting a value: schema errors contain what they complain
 * of. Answers that grant tokens are read by `TokenAnswer`.
 */
import { Either, Option, ParseResult, Redacted, Schema } from "effect"
import * as Transport from "../CalHttp/Transport.js"

const Profile = Schema.Struct({
  data: Schema.Struct({ id: Schema.Int, username: Schema.String, email: Schema.String })
})

/** Where an answer departs from its schema, as field paths: `data.accessToken is missing`. */
export type Issue = string

/** Decodes a JSON text; the failure names fields, never values. */
export const decodeJson = <A, I>(schema: Schema.Schema<A, I>, text: string): Either.Either<A, Issue> => {
  const json = Either.try((): unknown => JSON.parse(text))
  return Either.isLeft(json) ? Either.left("it is not JSON") : decode(schema, json.right)
}

/** Decodes a value; the failure names fields, never values. */
const decode = <A, I>(schema: Schema.Schema<A, I>, value: unknown): Either.Either<A, Issue> =>
  Either.mapLeft(Schema.decodeUnknownEither(schema)(value), (error) => {
    const issues = ParseResult.ArrayFormatter.formatIssueSync(error.issue).map(({ _tag, path }) => {
      const field = path.length === 0 ? "the body" : path.slice(0, 8).map(segment).join(".")
      return `${field} ${_tag === "Missing" ? "is missing" : "is not as expected"}`
    })
    return [...new Set(issues)].slice(0, 5).join(", ")
  })

/** Keys of a record are Cal.com's, and may be anything. */
const segment = (key: PropertyKey): string => (/^\w{1,40}$/.test(String(key)) ? String(key) : "?")

/** The answer of `/me`. */
export const profile = (text: Option.Option<Redacted.Redacted>): Either.Either<(typeof Profile.Type)["data"], Issue> =>
  Option.match(text, {
    onNone: () => Either.left("it is not JSON"),
    onSome: (body) => Either.map(decodeJson(Profile, Redacted.value(body)), ({ data }) => data)
  })

/** What Cal.com says in an answer that is no success, in either of its two envelopes. */
export type ErrorBody =
  | { readonly _tag: "Platform"; readonly message: string; readonly fields: ReadonlyArray<string> }
  | { readonly _tag: "OAuth2"; readonly error: string; readonly description: string }
  /** Not Cal.com's: a proxy, a wrong host, or nothing. */
  | { readonly _tag: "Foreign" }

const PlatformError = Schema.Struct({
  error: Schema.Struct({ message: Schema.String, details: Schema.optional(Schema.Unknown) })
})
const OAuth2Error = Schema.Struct({
  error: Schema.String,
  error_description: Schema.optionalWith(Schema.String, { default: () => "" })
})
const ErrorBody = Schema.parseJson(Schema.Union(PlatformError, OAuth2Error))

/** Of a validation error only the names of fields and broken rules: `target` and `value` echo what was sent. */
const ValidationDetails = Schema.Struct({
  errors: Schema.Array(
    Schema.Struct({
      property: Schema.String,
      constraints: Schema.optional(Schema.Record({ key: Schema.String, value: Schema.Unknown }))
    })
  )
})

export const errorBody = (text: Option.Option<Redacted.Redacted>): ErrorBody =>
  Option.match(Option.flatMap(Option.map(text, Redacted.value), Schema.decodeUnknownOption(ErrorBody)), {
    onNone: () => ({ _tag: "Foreign" }),
    onSome: ({ error, ...rest }) =>
      typeof error === "string"
        ? { _tag: "OAuth2", error, description: "error_description" in rest ? rest.error_description : "" }
        : { _tag: "Platform", message: error.message, fields: invalidFields(error.details) }
  })

const invalidFields = (details: unknown): ReadonlyArray<string> =>
  Option.match(Schema.decodeUnknownOption(ValidationDetails)(details), {
    onNone: () => [],
    onSome: ({ errors }) =>
      errors
        .slice(0, 10)
        .map(({ constraints, property }) => `${property} (${Object.keys(constraints ?? {}).join(", ")})`)
  })

/** Cal.com's words in one line; what may be secret in them is the caller's to remove. */
export const errorText = (body: ErrorBody): string => {
  switch (body._tag) {
    case "Platform":
      return body.fields.length === 0 ? body.message : `${body.message}: ${body.fields.join("; ")}`
    case "OAuth2":
      return body.description === "" ? body.error : `${body.error}: ${body.description}`
    case "Foreign":
      return "an answer that is not Cal.com's"
  }
}

const alreadyExists = /^User with the provided e-mail already exists\. Existing user ID=(\d{1,15})\b/

/** If a managed user was not created because there is one with that e-mail address: the id of that one. */
export const existingUserId = (reply: Transport.Reply): Option.Option<number> => {
  const error = errorBody(Transport.textOf(reply))
  return reply.status === 409 && error._tag === "Platform"
    ? Option.map(Option.fromNullable(alreadyExists.exec(error.message)), (match) => Number(match[1]))
    : Option.none()
}
