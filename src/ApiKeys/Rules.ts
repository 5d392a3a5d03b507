/** What of Cal.com's API is open to whom: methods, and paths below its base URL. */
import { Either } from "effect"
import { InvalidInput } from "../TokenError.js"

/**
 * What a session may be used for, where it says so.
 *
 * @since 0.1.0
 * @category constants
 */
export const methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] as const
/**
 * A method that a session may open.
 *
 * @since 0.1.0
 * @category models
 */
export type Method = (typeof methods)[number]

/**
 * So that a session fits into a header of whatever browser, server or proxy.
 *
 * @since 0.1.0
 * @category constants
 */
export const limits = { paths: 32, characters: 2048 } as const

/**
 * What is open; absent: everything.
 *
 * @since 0.1.0
 * @category models
 */
export interface Rules {
  readonly methods?: ReadonlyArray<string> | undefined
  /** Each opens itself and what is below it, by whole segments as they are written. */
  readonly paths?: ReadonlyArray<string> | undefined
}

/**
 * Whether this method and this target are open, of which `CalPath` has judged that all readers read it alike.
 *
 * @since 0.1.0
 * @category predicates
 */
export const allows = (rules: Rules, method: string, target: string): boolean =>
  (rules.methods ?? methods).includes(method) && opens(rules, target.split("?", 1)[0] ?? "")

const opens = ({ paths }: Rules, path: string): boolean => {
  const segments = segmentsOf(path)
  return (
    paths === undefined || paths.some((path) => segmentsOf(path).every((segment, index) => segment === segments[index]))
  )
}

const segmentsOf = (path: string) => path.split("/").slice(1)

/** The asked ones, where they open nothing that the others keep closed; what is not asked for is as open as it may be. */
export const within = (outer: Rules, { methods, paths }: Rules): Rules | undefined =>
  (methods ?? []).every((method) => (outer.methods ?? [method]).includes(method)) &&
  (paths ?? []).every((path) => opens(outer, path))
    ? { methods: methods ?? outer.methods, paths: paths ?? outer.paths }
    : undefined

/** Unreserved characters only (RFC 3986, 2.3), so that each path has one spelling, and no dot segments. */
const plainPath = /^(?:\/(?!\.+(?:\/|$))[\w\-.~]+)+$/

const refuse = (field: string, expected: string) => Either.left(new InvalidInput({ field, expected }))

/** Those that somebody asks for, if there are such. */
export const parse = (given: Rules): Either.Either<Rules, InvalidInput> =>
  Either.all({ methods: someMethods(given.methods), paths: somePaths(given.paths) })

const someMethods = (given: Rules["methods"]) =>
  given === undefined || (given.length > 0 && given.every((method) => methods.some((known) => known === method)))
    ? Either.right(given === undefined ? given : [...new Set(given)])
    : refuse("methods", `must be some of ${methods.join(", ")}`)

const somePaths = (given: Rules["paths"]) =>
  given === undefined ||
  (given.length > 0 &&
    given.length <= limits.paths &&
    given.join("").length <= limits.characters &&
    given.every((path) => plainPath.test(path)))
    ? Either.right(given)
    : refuse(
        "paths",
        `must be 1 to ${limits.paths} plain paths below the Cal.com base URL, such as /bookings, without a slash at the ` +
          `end, escapes or dot segments, of ${limits.characters} characters together`
      )
