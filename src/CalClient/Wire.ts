/**
 * The shapes of Cal.com's answers (API v2 reference: platform endpoints wrap in `{status, data}`, the OAuth2 token
 * endpoint follows RFC 6749), decoded without ever quoting a value: schema errors contain the tokens they complain of.
 */
import { Either, Option, ParseResult, Redacted, Schema } from "effect"
import { horizon, type TokenPair, unverifiedClaims } from "../Token.js"
import { maxTokenLength } from "../TokenInput.js"
import type { Reply } from "../CalHttp/Transport.js"

/** What a token endpoint granted. */
export interface Grant {
  readonly pair: TokenPair
  /** OAuth2 only. */
  readonly scope?: string | undefined
  /** From the token's own claims; it came straight from the token endpoint. */
  readonly calUserId?: number | undefined
}

/** Printable ASCII without spaces, so that it can travel in a header. Refined before it is redacted, for the error's sake. */
const Token = Schema.String.pipe(Schema.pattern(/^[\x21-\x7e]+$/), Schema.maxLength(maxTokenLength))

const ManagedTokens = Schema.Struct({
  accessToken: Token,
  refreshToken: Token,
  /** Milliseconds since the epoch. */
  accessTokenExpiresAt: Schema.Number,
  /** Milliseconds since the epoch; useful, but no reason to lose a pair. */
  refreshTokenExpiresAt: Schema.optional(Schema.Unknown)
})

const ManagedGrant = Schema.Struct({ data: ManagedTokens })
const CreatedUser = Schema.Struct({
  data: Schema.Struct({ ...ManagedTokens.fields, user: Schema.Struct({ id: Schema.Positive.pipe(Schema.int()) }) })
})
const OAuth2Grant = Schema.Struct({
  access_token: Token,
  /** RFC 6749 section 6: absent when the old one stays in use. */
  refresh_token: Schema.optional(Schema.NullOr(Token)),
  /** Seconds from the answer's date. */
  expires_in: Schema.Number,
  scope: Schema.optional(Schema.Unknown)
})

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
export const decode = <A, I>(schema: Schema.Schema<A, I>, value: unknown): Either.Either<A, Issue> =>
  Either.mapLeft(Schema.decodeUnknownEither(schema)(value), (error) => {
    const issues = ParseResult.ArrayFormatter.formatIssueSync(error.issue).map(({ _tag, path }) => {
      const field = path.length === 0 ? "the body" : path.slice(0, 8).map(segment).join(".")
      return `${field} ${_tag === "Missing" ? "is missing" : "is not as expected"}`
    })
    return [...new Set(issues)].slice(0, 5).join(", ")
  })

/** Keys of a record are Cal.com's, and may be anything. */
const segment = (key: PropertyKey): string => (/^\w{1,40}$/.test(String(key)) ? String(key) : "?")

/** When an answer came, in Cal.com's time. */
export interface Instants {
  /** Milliseconds since the epoch: its `Date`, else the time at which it arrived. */
  readonly issuedAt: number
}

const isCredible = (expiry: unknown, now: number): expiry is number =>
  typeof expiry === "number" && Number.isFinite(expiry) && expiry > 0 && Math.abs(expiry - now) <= horizon

const managedPair = (tokens: typeof ManagedTokens.Type, { issuedAt }: Instants): Either.Either<TokenPair, Issue> => {
  const { accessTokenExpiresAt, refreshTokenExpiresAt } = tokens
  return isCredible(accessTokenExpiresAt, issuedAt)
    ? Either.right({
        accessToken: Redacted.make(tokens.accessToken),
        refreshToken: Redacted.make(tokens.refreshToken),
        accessTokenExpiresAt: Math.floor(accessTokenExpiresAt),
        issuedAt,
        ...(isCredible(refreshTokenExpiresAt, issuedAt)
          ? { refreshTokenExpiresAt: Math.floor(refreshTokenExpiresAt) }
          : {})
      })
    : Either.left("data.accessTokenExpiresAt is not an instant within two years of now")
}

const withOwner = (pair: TokenPair): Pick<Grant, "calUserId"> => {
  const { calUserId } = unverifiedClaims(pair.accessToken)
  return calUserId === undefined ? {} : { calUserId }
}

/** The answer of a managed user's refresh or force-refresh. */
export const managedGrant = (text: string, instants: Instants): Either.Either<Grant, Issue> =>
  decodeJson(ManagedGrant, text).pipe(
    Either.flatMap(({ data }) => managedPair(data, instants)),
    Either.map((pair) => ({ pair, ...withOwner(pair) }))
  )

/** The answer to the creation of a managed user. */
export const createdUser = (
  text: string,
  instants: Instants
): Either.Either<{ readonly calUserId: number; readonly pair: TokenPair }, Issue> =>
  Either.flatMap(decodeJson(CreatedUser, text), ({ data }) =>
    Either.map(managedPair(data, instants), (pair) => ({ calUserId: data.user.id, pair }))
  )

/** The answer of the OAuth2 token endpoint. `spent` is the refresh token that stays in use if none is granted. */
export const oauth2Grant = (
  text: string,
  { issuedAt }: Instants,
  spent: Option.Option<Redacted.Redacted>
): Either.Either<Grant, Issue> =>
  Either.flatMap(decodeJson(OAuth2Grant, text), (answer): Either.Either<Grant, Issue> => {
    const refreshToken = Option.orElse(
      Option.map(Option.fromNullable(answer.refresh_token), Redacted.make),
      () => spent
    )
    if (Option.isNone(refreshToken)) return Either.left("refresh_token is missing")
    const accessTokenExpiresAt = Math.floor(issuedAt + answer.expires_in * 1000)
    if (!(answer.expires_in > 0) || !isCredible(accessTokenExpiresAt, issuedAt)) {
      return Either.left("expires_in is not a number of seconds within two years")
    }
    const pair: TokenPair = {
      accessToken: Redacted.make(answer.access_token),
      refreshToken: refreshToken.value,
      accessTokenExpiresAt,
      issuedAt
    }
    return Either.right({
      pair,
      ...(typeof answer.scope === "string" ? { scope: answer.scope } : {}),
      ...withOwner(pair)
    })
  })

/** The answer of `/me`. */
export const profile = (text: string): Either.Either<(typeof Profile.Type)["data"], Issue> =>
  Either.map(decodeJson(Profile, text), ({ data }) => data)

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
export const existingUserId = ({ body, status }: Pick<Reply, "status" | "body">): Option.Option<number> => {
  const error = errorBody(body)
  return status === 409 && error._tag === "Platform"
    ? Option.map(Option.fromNullable(alreadyExists.exec(error.message)), (match) => Number(match[1]))
    : Option.none()
}
