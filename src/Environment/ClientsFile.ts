/**
 * `CAL_TOKENS_CLIENTS_FILE`: any number of Cal.com clients, as JSON. What is wrong is told by its place in the file and the
 * form it should have, never by what is there.
 *
 * ```json
 * {
 *   "managed": [{ "clientId": "…", "clientSecret": "…" }],
 *   "oauth2": [{ "clientId": "…", "clientSecret": ["old", "new"], "redirectUrl": "https://…", "scopes": ["BOOKING_READ"] }]
 * }
 * ```
 */
import { Either, ParseResult, Schema } from "effect"
import * as Form from "./Form.js"

/** Read like a variable. */
const field = <A>({ expected, parse }: Form.Form<A>, textOf = (value: unknown) => value) =>
  Schema.transformOrFail(
    Schema.Unknown,
    Schema.declare((value: unknown): value is A => value !== undefined),
    {
      strict: true,
      decode: (value, _, ast) => {
        const text = textOf(value)
        const read = typeof text === "string" ? parse(text.trim()) : Either.left(`must be ${expected}`)
        return Either.mapLeft(read, (problem) => new ParseResult.Type(ast, value, problem))
      },
      encode: (value, _, ast) => Either.left(new ParseResult.Forbidden(ast, value))
    }
  )

/** A list of texts as one text. */
const joined = (separator: string) => (value: unknown) =>
  Array.isArray(value) && value.length > 0 && value.every((each) => typeof each === "string")
    ? value.join(separator)
    : value

const managed = Schema.Struct({
  clientId: field(Form.identifier),
  clientSecret: field(Form.clientSecret, joined(","))
})

const oauth2 = Schema.Struct({
  clientId: field(Form.identifier),
  clientSecret: Schema.optionalWith(field(Form.clientSecret, joined(",")), { exact: true }),
  redirectUrl: field(Form.browserUrl),
  authorizeUrl: Schema.optionalWith(field(Form.secureUrl), { exact: true }),
  scopes: Schema.optionalWith(field(Form.scopes, joined(" ")), { exact: true })
})

const listOf = <A, I>(client: Schema.Schema<A, I>) =>
  Schema.optionalWith(
    Schema.Array(client.annotations({ message: () => "must be an object" })).annotations({
      message: () => "must be a list"
    }),
    { exact: true }
  )

const Clients = Schema.Struct({ managed: listOf(managed), oauth2: listOf(oauth2) }).annotations({
  message: () => `must be an object with the lists "managed" and "oauth2"`
})

export type Clients = Required<typeof Clients.Type>

const decode = Schema.decodeUnknownEither(Clients, { onExcessProperty: "error" })

export const form: Form.Form<Clients> = {
  expected: `JSON, {"managed":[…],"oauth2":[…]}`,
  parse: (text) =>
    Either.try({ try: (): unknown => JSON.parse(text), catch: () => "what stands must be JSON" }).pipe(
      Either.flatMap((json) => Either.mapLeft(decode(json), problemOf)),
      Either.map(({ managed = [], oauth2 = [] }) => ({ managed, oauth2 })),
      Either.filterOrLeft(
        ({ managed, oauth2 }) => managed.length + oauth2.length > 0,
        () => "at least one client must stand"
      )
    )
}

/** The first one. A key may be anything, too. */
const problemOf = (error: ParseResult.ParseError): string => {
  const [issue] = ParseResult.ArrayFormatter.formatIssueSync(error.issue)
  if (issue === undefined) return "something is wrong"
  const place = placeOf(issue.path)
  if (issue._tag === "Missing") return `${place} is required`
  if (issue._tag === "Unexpected") return `${place} is not known`
  // All of ours begin so; the library's own quote what they complain of.
  return `${place} ${issue.message.startsWith("must ") ? issue.message : "is not as expected"}`
}

/** `oauth2[1].redirectUrl`. */
export const placeOf = (path: ReadonlyArray<PropertyKey>): string =>
  path.length === 0
    ? "all of it"
    : path
        .map((key) => (typeof key === "number" ? `[${key}]` : `.${/^\w{1,40}$/.test(String(key)) ? String(key) : "?"}`))
        .join("")
        .slice(1)
