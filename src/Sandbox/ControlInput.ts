/** What `/_control` is told, as JSON. What is wrong with it is told in words, by its place. */
import { Duration, Either, Option, ParseResult, Predicate, Schema, Struct } from "effect"
import { Fault, problemOf, type Queued } from "./Faults.js"
import { Kind } from "./Kind.js"
import { names } from "./OddAnswers.js"
import { type Switches } from "./Switches.js"
import { isEmail, isTimeZone } from "./Validation.js"

/** Read, or what is wrong. */
export type Read<A> = Either.Either<A, string>

const must = (expected: string) => ({ message: () => ({ message: `must be ${expected}`, override: true }) })

const oneOf = (values: ReadonlyArray<string>) => must(`one of ${values.join(", ")}`)

const text = Schema.String.annotations(must("text"))
const flag = Schema.Boolean.annotations(must("true or false"))
const id = Schema.Int.annotations(must("a whole number"))
const count = Schema.NonNegativeInt.annotations(must("a whole number from 0"))

const read = <A, I>(schema: Schema.Schema<A, I>): ((input: unknown) => Read<A>) => {
  const decode = Schema.decodeUnknownEither(schema, { onExcessProperty: "error" })
  return (input) => Either.mapLeft(decode(input), problem)
}

/** The first one is enough to begin with. */
const problem = ({ issue }: ParseResult.ParseError): string => {
  const [first] = ParseResult.ArrayFormatter.formatIssueSync(issue)
  if (first === undefined) return "Something is wrong"
  if (first.path.length === 0) return "The body must be an object"
  const place = first.path.map(String).join(".")
  if (first._tag === "Missing") return `${place} is required`
  return first._tag === "Unexpected" ? `${place} is not known here` : `${place} ${first.message}`
}

/** Milliseconds, or words. */
const pause = Schema.transformOrFail(Schema.Unknown, Schema.Number, {
  strict: true,
  decode: (input, _, ast) =>
    Either.fromOption(
      Option.filter(Duration.decodeUnknown(input), (duration) => Duration.isFinite(duration)),
      () => new ParseResult.Type(ast, input, 'must be milliseconds, or a duration such as "5 seconds"')
    ).pipe(Either.map(Duration.toMillis)),
  encode: ParseResult.succeed
})

const optional = <A, I>(schema: Schema.Schema<A, I>) => Schema.optionalWith(schema, { exact: true })

// ---------------------------------------------------------------------------------------------------------------------
// Faults
// ---------------------------------------------------------------------------------------------------------------------

const script = {
  kind: optional(Kind.annotations(oneOf(Kind.literals))),
  calUserId: optional(id),
  method: optional(Schema.String.pipe(Schema.pattern(/^[A-Z]{1,16}$/)).annotations(must("a method such as POST"))),
  pathPrefix: optional(
    Schema.String.pipe(Schema.pattern(/^\/v2\//)).annotations(must("the beginning of a path, such as /v2/bookings"))
  ),
  /** How many requests it strikes, or all until it is switched off. Default 1. */
  times: optional(
    Schema.transform(
      Schema.Union(Schema.Int.pipe(Schema.positive()), Schema.Literal("always")).annotations(
        must('a whole number from 1, or "always"')
      ),
      Schema.Number,
      {
        strict: true,
        decode: (times) => (times === "always" ? Infinity : times),
        encode: (times) => (times === Infinity ? ("always" as const) : times)
      }
    )
  ),
  /** It ends by itself after this time. */
  for: optional(pause)
}

const pauses = { before: optional(pause), after: optional(pause) }

const committed = optional(flag)

const odd = {
  ...script,
  answer: Schema.Literal(...names).annotations(oneOf(names)),
  at: optional(count),
  committed
}

const oddFault = ({ answer, ...script }: Schema.Struct.Type<typeof odd>): Read<Fault> => {
  const problem = problemOf(answer, script)
  return problem === undefined ? Either.right(Fault.odd(answer, script)) : Either.left(problem)
}

/** A name and a value of HTTP: others would break the answer that they are to stand in. */
const headers = Schema.Record({
  key: Schema.String.pipe(Schema.pattern(/^[\w!#$%&'*+.^`|~-]+$/)),
  value: Schema.String.pipe(Schema.pattern(/^[\x20-\x7e]*$/))
}).annotations(must('an object of headers, {"retry-after": "5"}'))

interface Injectable {
  /** For people. */
  readonly what: string
  /** What it takes beside what all take. */
  readonly takes: ReadonlyArray<string>
  readonly read: (input: unknown) => Read<Fault>
}

const injectable = <Fields extends Schema.Struct.Fields>(
  what: string,
  fields: Fields,
  make: (fields: Schema.Struct.Type<typeof script & typeof pauses & Fields>) => Fault | Read<Fault>
): Injectable => {
  const schema: Schema.Schema<Schema.Struct.Type<typeof script & typeof pauses & Fields>, unknown> = Schema.Struct({
    ...script,
    ...pauses,
    ...fields
  }) as never
  const decode = read(schema)
  return {
    what,
    takes: Object.keys(fields),
    read: (input) =>
      Either.flatMap(decode(input), (fields) => {
        const made = make(fields)
        return Either.isEither(made) ? made : Either.right(made)
      })
  }
}

/** By their names in code. */
export const faults: Readonly<Record<string, Injectable>> = {
  refuseConnection: injectable(
    "Nobody listens: the request never leaves the caller. Over a socket the nearest thing is a reset.",
    {},
    Fault.refuseConnection
  ),
  dropBefore: injectable("The connection breaks, and nothing took effect.", {}, Fault.dropBefore),
  dropAfter: injectable("The request took effect, and its answer is lost.", {}, Fault.dropAfter),
  delay: injectable(
    "Only the waits: before the request takes effect, or after that and before the answer leaves.",
    {},
    ({ after, before, ...script }): Read<Fault> =>
      before === undefined && after === undefined
        ? Either.left('before or after is required, such as "5 seconds"')
        : Either.right(Fault.delayBefore(before ?? 0, { ...script, ...(after === undefined ? {} : { after }) }))
  ),
  status: injectable(
    "This status instead of Cal.com's answer. committed: the request took effect all the same.",
    {
      status: Schema.Int.pipe(Schema.between(200, 599)).annotations(must("a status from 200 to 599")),
      headers: optional(headers),
      committed
    },
    ({ status, ...script }) => Fault.status(status, script)
  ),
  odd: injectable("An answer that no contract knows: GET /_control/odd-answers explains them.", odd, oddFault),
  raceBothSucceed: injectable(
    "Between the check of a refresh token and its rotation so much time passes: others pass the same check.",
    { window: pause },
    ({ window, ...script }) => Fault.raceBothSucceed(window, script)
  )
}

/** `{"fault": "dropAfter", "kind": "refresh", "times": 3}`. */
export const fault = (input: unknown): Read<Fault> => {
  if (!Predicate.isRecord(input)) return Either.left("The body must be an object")
  const { fault, ...rest } = input
  const found = typeof fault === "string" && Object.hasOwn(faults, fault) ? faults[fault] : undefined
  return found === undefined ? Either.left(`fault must be one of ${Object.keys(faults).join(", ")}`) : found.read(rest)
}

/** `{"answer": "gzip", "kind": "refresh", "times": 3}`. */
export const oddAnswer = (input: unknown): Read<Fault> => Either.flatMap(readOdd(input), oddFault)

const readOdd = read(Schema.Struct(odd))

/** As it is written. */
export const faultToJson = ({ fault, left, until }: Queued, now: number): object => {
  const { _tag, after, before, ...others } = Struct.omit(fault, "times", "for")
  const isDelay = _tag === "Delay"
  return {
    fault: `${_tag.charAt(0).toLowerCase()}${_tag.slice(1)}`,
    ...others,
    ...(before === undefined || (isDelay && after !== undefined && before === 0) ? {} : { before }),
    ...(after === undefined ? {} : { after }),
    ...rest(left, until, now)
  }
}

/** What is left of it: how many times, and how long in milliseconds where it ends by itself. */
export const rest = (left: number, until: number, now: number) => ({
  left: left === Infinity ? "always" : left,
  ...(until === Infinity ? {} : { for: until - now })
})

// ---------------------------------------------------------------------------------------------------------------------
// People
// ---------------------------------------------------------------------------------------------------------------------

const email = Schema.String.pipe(Schema.filter((value) => isEmail.accepts(value))).annotations(must("an email address"))
const timeZone = Schema.String.pipe(Schema.filter((value) => isTimeZone.accepts(value))).annotations(
  must("a time zone such as Europe/London")
)

const person = {
  calUserId: optional(id),
  email: optional(email),
  name: optional(text),
  timeZone: optional(timeZone),
  clientId: optional(text)
}

export const Kinds = ["managed", "oauth2"] as const

/** Whom a pair is for: of the one kind or the other, managed unless that is said. */
export const grant = read(
  Schema.Struct({
    kind: Schema.optionalWith(Schema.Literal(...Kinds).annotations(oneOf(Kinds)), {
      exact: true,
      default: () => "managed" as const
    }),
    ...person,
    scope: optional(text)
  })
)

/** Whose code, and for what. */
export const code = read(Schema.Struct({ ...person, scope: optional(text), codeChallenge: optional(text) }))

// ---------------------------------------------------------------------------------------------------------------------
// Switches
// ---------------------------------------------------------------------------------------------------------------------

const literal = <const A extends ReadonlyArray<string>>(...values: A) =>
  Schema.Literal(...values).annotations(oneOf(values))

/** Some of the switches; of the rate limits, too, some. */
export const switches = read(
  Schema.Struct({
    line: optional(literal("L", "D")),
    clockSkewMillis: optional(id),
    expiredRefreshTokenAccepted: optional(flag),
    raceWindow: optional(pause),
    managedRaceLoser: optional(literal("notFound", "invalid")),
    oauth2RaceLoser: optional(literal("succeeds", "revoked")),
    deadTokenOnGuardedRoutes: optional(literal("forbidden", "unauthorized")),
    replicaLag: optional(pause),
    refreshReplicaLag: optional(pause),
    managedSecretRejected: optional(flag),
    oauth2SecretRejected: optional(flag),
    revokedSecrets: optional(Schema.Array(Schema.Redacted(Schema.String)).annotations(must("a list of secrets"))),
    oauth2ClientStatus: optional(literal("APPROVED", "PENDING", "REJECTED")),
    rateLimits: optional(
      Schema.Struct({
        enabled: optional(flag),
        accessToken: optional(count),
        client: optional(count),
        ip: optional(count),
        window: optional(pause),
        block: optional(pause)
      }).annotations({ message: () => "must be an object" })
    )
  })
)

/** Those that are named, turned. */
export const turn =
  ({ rateLimits, ...rest }: Either.Either.Right<ReturnType<typeof switches>>) =>
  (before: Switches): Switches => ({ ...before, ...rest, rateLimits: { ...before.rateLimits, ...rateLimits } })

/** The calls that are asked for. */
export const calls = read(
  Schema.Struct({
    kind: optional(Kind.annotations(oneOf(Kind.literals))),
    calUserId: optional(Schema.NumberFromString.pipe(Schema.int()).annotations(must("a whole number")))
  })
)
