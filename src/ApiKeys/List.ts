/** A list of API keys as people write it: short, or as JSON. What is wrong is told by its place, never by what is there. */
import { Either, Option, Redacted, Schema } from "effect"
import { UserUlid } from "../Token.js"
import * as Shape from "../TokenInput/Shape.js"
import * as Rules from "./Rules.js"
import { type Limits, Scope } from "./Scope.js"

/** `scopes`: none are said. */
export interface Entry extends Limits {
  readonly name: string
  readonly secret: Redacted.Redacted | { readonly sha256: string }
  readonly scopes?: ReadonlySet<Scope>
}

/** What a scope may be called here: `proxy-read` is `proxy` for `GET` and `HEAD` alone. */
const readOnly = "proxy-read"
const words = [...Scope.literals, readOnly].join(", ")

export const expected =
  `a list "name:secret[:scope+scope],…", each secret of at least 32 letters, digits or -._~+/= (or "sha256:" and the hex of ` +
  `its SHA-256), scopes of ${words}; or JSON, [{"name":…},…]`

type Read<A> = Either.Either<A, string>

export const parse = (text: string): Read<ReadonlyArray<Entry>> =>
  text.startsWith("[")
    ? parseJson(text)
    : Either.all(text.split(",").map((entry, index) => parseShort(entry.trim(), index + 1)))

const entryPattern = /^([A-Za-z0-9_-]{1,64}):(?:sha256:([0-9A-Fa-f]{64})|([A-Za-z0-9._~+/=-]{32,512}))(?::([a-z+-]+))?$/

const parseShort = (entry: string, position: number): Read<Entry> => {
  const [, name, sha256, secret, scopes] = entryPattern.exec(entry) ?? []
  const refuse = (problem: string) => `must be ${expected}; entry ${position} ${problem}`
  return name === undefined
    ? Either.left(refuse("is not"))
    : Either.mapLeft(entryOf({ name, sha256, secret, scopes: scopes?.split("+") }), refuse)
}

const text = (form: string, pattern: RegExp) => Schema.String.pipe(Schema.pattern(pattern, { title: form }))

const list = (what: string) =>
  Schema.optional(Schema.Array(Schema.String.annotations({ title: "text" })).pipe(Schema.minItems(1, { title: what })))

const instant = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d)$/

const Written = Schema.Struct({
  name: text("1 to 64 letters, digits, _ or -", /^[A-Za-z0-9_-]{1,64}$/),
  secret: Schema.optional(text("32 to 512 letters, digits or -._~+/=", /^[A-Za-z0-9._~+/=-]{32,512}$/)),
  sha256: Schema.optional(text("64 hexadecimal digits", /^[0-9A-Fa-f]{64}$/)),
  scopes: list("a list of scopes"),
  users: list("a list of ULIDs or UUIDs"),
  methods: list("a list of methods"),
  paths: list("a list of paths"),
  expiresAt: Schema.optional(
    Schema.String.pipe(
      Schema.filter((text) => instant.test(text) && Number.isFinite(Date.parse(text)), {
        title: "an instant such as 2027-01-31T00:00:00Z"
      })
    )
  )
}).annotations({ parseOptions: { onExcessProperty: "error" } })

const decodeUser = Schema.decodeUnknownOption(UserUlid)

const decode = Shape.decoder(Written, { whole: "", expected: "must be an object" })

const parseJson = (text: string): Read<ReadonlyArray<Entry>> =>
  Either.try({ try: (): unknown => JSON.parse(text), catch: () => "must be JSON, as it begins with [" }).pipe(
    // It begins with a bracket.
    Either.flatMap((json) =>
      Either.all(
        (json as ReadonlyArray<unknown>).map((item, index) =>
          decode(item).pipe(
            // A key may be anything, too.
            Either.mapLeft(({ expected, field }) => `${/^[\w.]{1,20}$/.test(field) ? `${field} ` : ""}${expected}`),
            Either.flatMap(entryOf),
            Either.mapLeft((problem) => `must be a list of API keys: in entry ${index + 1} ${problem}`)
          )
        )
      )
    ),
    Either.filterOrLeft(
      (entries) => entries.length > 0,
      () => "must be a list of at least one API key"
    )
  )

/** Well-formed by itself, each field. */
const entryOf = ({
  expiresAt,
  methods,
  name,
  paths,
  scopes,
  secret,
  sha256,
  users
}: typeof Written.Type): Read<Entry> =>
  Either.gen(function* () {
    const fault = (problem: string) => Either.left(problem)
    if ((secret === undefined) === (sha256 === undefined)) return yield* fault("must have either secret or sha256")
    // Long enough, and still a placeholder.
    if (/^(.)\1*$/.test(secret ?? sha256 ?? "")) return yield* fault("has a secret of one repeated letter")
    const known = (scopes ?? []).map((word): string => (word === readOnly ? "proxy" : word)).filter(Schema.is(Scope))
    if (known.length < (scopes ?? []).length) return yield* fault("has an unknown scope")
    const reads = scopes?.includes(readOnly) === true
    if (reads && (methods !== undefined || scopes.includes("proxy"))) {
      return yield* fault(`has ${readOnly} beside another word on what it may do`)
    }
    const rules = yield* Either.mapLeft(
      Rules.parse({ methods: reads ? ["GET", "HEAD"] : methods, paths }),
      ({ expected, field }) => `${field} ${expected}`
    )
    // Whoever has the token itself asks Cal.com whatever they like.
    if (known.includes("read-token") && (rules.methods ?? rules.paths) !== undefined) {
      return yield* fault("has read-token, which no limit of methods or paths holds back")
    }
    const ids = yield* Either.fromOption(
      Option.all((users ?? []).map((user) => decodeUser(user))),
      () => "users must be ULIDs or UUIDs"
    )
    return {
      name,
      secret: secret === undefined ? { sha256: (sha256 ?? "").toLowerCase() } : Redacted.make(secret),
      ...(scopes === undefined ? {} : { scopes: new Set(known) }),
      ...(users === undefined ? {} : { users: new Set(ids) }),
      ...(rules.methods === undefined ? {} : { methods: rules.methods }),
      ...(rules.paths === undefined ? {} : { paths: rules.paths }),
      ...(expiresAt === undefined ? {} : { expiresAt: Date.parse(expiresAt) })
    }
  })
