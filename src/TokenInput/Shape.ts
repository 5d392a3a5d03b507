/** Objects of a known shape from outside, decoded without ever repeating a value. */
import { Either, type ParseResult, Predicate, Redacted, Schema, SchemaAST } from "effect"
import { InvalidInput } from "../TokenError.js"

/**
 * Longer than any token Cal.com issues by far; longer ones would not fit into a request header anyway.
 *
 * @since 0.1.0
 * @category validation
 */
export const maxTokenLength = 8192

/** What the object itself is called, and what is said where there is none. */
interface Whole {
  readonly whole: string
  readonly expected: string
}

/**
 * {@link decoder} for what people write by hand. A field that is null counts as absent, but for those of `broadest`, whose
 * absence gives the most: null there is no way to say so.
 */
export const object = <A, I>(
  schema: Schema.Schema<A, I>,
  { broadest = [], ...whole }: Whole & { readonly broadest?: ReadonlyArray<keyof I & string> | undefined }
): ((value: unknown) => Either.Either<A, InvalidInput>) => {
  const decode = decoder(schema, whole)
  return (value) => Either.flatMap(decode(withoutNulls(value, broadest)), plain)
}

/** A value of this shape, or which field of it is wrong. */
export const decoder = <A, I>(
  schema: Schema.Schema<A, I>,
  whole: Whole
): ((value: unknown) => Either.Either<A, InvalidInput>) => {
  const decode = Schema.decodeUnknownEither(schema)
  return (value) => Either.mapLeft(decode(value), (error) => invalid(error, whole))
}

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

const invalid = (error: ParseResult.ParseError, whole: Whole): InvalidInput => {
  const { expected, path } = locate(error.issue, [])
  return path.length === 0
    ? new InvalidInput({ field: whole.whole, expected: whole.expected })
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
