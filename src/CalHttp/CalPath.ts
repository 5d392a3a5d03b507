/**
 * Judges where a request would go before a user's token goes with it. The judge reads the raw text, never decoded route
 * parameters: what it accepts is below Cal.com's base URL for every parser on the way, because nothing in it decodes,
 * normalises or splits differently.
 */
import { Either } from "effect"
import { InvalidInput } from "../TokenError.js"

/** Longer targets are refused: Cal.com's servers do not take them either. */
export const maxLength = 8192

/** RFC 3986 `pchar` without `@`, plus the slash. */
const pathCharacters = /^(?:[A-Za-z0-9\-._~!$&'()*+,;=:/]|%[0-9A-Fa-f]{2})*$/
/** RFC 3986 `query`, plus the brackets of `ids[]=1`. Values are Cal.com's to interpret. */
const queryCharacters = /^(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?[\]]|%[0-9A-Fa-f]{2})*$/

/** `.`, `..` and longer, also padded or with a matrix parameter, which some servers cut off before they resolve. */
const dots = /^[.\s]+(;.*)?$/
/** What no segment may hold once decoded: separators, a second layer of escapes, control characters. */
const forbidden = /[/\\%?#@\u0000-\u001f\u007f-\u009f]/

/** A base without the slashes at its end, looked at once. */
export const withoutSlashes = (base: string): string => base.replace(/(?<!\/)\/+$/, "")

/**
 * The absolute URL of a target (`/bookings?take=10`) below a base URL (`https://api.cal.com/v2`), or why it is refused.
 * The refusal never contains the target.
 */
export const resolve = (base: string, target: string): Either.Either<string, InvalidInput> => {
  const problem = problemOf(target)
  if (problem !== undefined) return refuse(problem)
  const root = rootOf(base)
  if (root === undefined || root.search !== "" || root.hash !== "" || !/^https?:$/.test(root.protocol)) {
    return Either.left(new InvalidInput({ field: "apiUrl", expected: "must be an http(s) URL without query" }))
  }
  const prefix = withoutSlashes(root.pathname)
  const path = prefix + pathOf(target)
  // The last word is the URL parser's: had it changed anything, it would have read the text differently than we did.
  const url = parse(root.origin + path + queryOf(target)) ?? root
  return url.origin === root.origin &&
    url.pathname === path &&
    url.username === "" &&
    url.password === "" &&
    url.hash === ""
    ? Either.right(url.href)
    : refuse("must stay below the Cal.com base URL")
}

const parse = (url: string): URL | undefined => {
  try {
    return new URL(url)
  } catch {
    return undefined
  }
}

let lastRoot: readonly [base: string, root: URL | undefined] = ["", undefined]

/** The base is the same each time. */
const rootOf = (base: string): URL | undefined => {
  if (lastRoot[0] !== base) lastRoot = [base, parse(base)]
  return lastRoot[1]
}

/**
 * The same for a URL that may be absolute already: then it has to begin with the base, letter by letter, and the rest of
 * it is judged.
 */
export const resolveUrl = (base: string, url: string): Either.Either<string, InvalidInput> => {
  const prefix = withoutSlashes(base)
  return resolve(base, url.startsWith(`${prefix}/`) ? url.slice(prefix.length) : url)
}

/**
 * Refuses a target that {@link resolve} accepts and that leads to where Cal.com gives out, spends or manages tokens. Those
 * endpoints are the refresh protocol's, for whoever calls Cal.com through this service, with a user's token or without.
 */
export const refuseTokenEndpoints = (target: string): Either.Either<void, InvalidInput> =>
  tokenEndpoints.has(namesOf(target)[0] ?? "")
    ? refuse("must not be one of Cal.com's token endpoints, /oauth, /oauth-clients and /auth")
    : Either.void

/**
 * Refuses a target whose answer holds the very token that it was asked with: where to send a browser so that it connects a
 * calendar, a payment or a conferencing app, with the token in the URL's `state` (API v2: `calendars`, `gcal`, `stripe`
 * and `conferencing` controllers). For those who may not have it.
 */
export const refuseReflections = (target: string): Either.Either<void, InvalidInput> => {
  const names = namesOf(target).filter((name) => name !== "")
  const isConnect = names.at(-1) === "connect" && ["calendars", "stripe"].some((name) => names.includes(name))
  return isConnect || names.at(-1) === "authurl"
    ? refuse("must not be one of those that Cal.com answers with an URL that holds the token, such as /stripe/connect")
    : Either.void
}

/** Whether Cal.com's answer may hold a token by its purpose: `/provider/{clientId}/access-token`, where Atoms ask. */
export const mayAnswerToken = (target: string): boolean => {
  const [resource, ...rest] = namesOf(target)
  return resource === "provider" && rest.includes("accesstoken")
}

/** The names of a path below what may stand before them. */
const namesOf = (target: string): ReadonlyArray<string> => {
  const names = pathOf(target).split("/").map(nameOf)
  return names.slice(names.findIndex((name) => !prefixes.test(name)))
}

/** `oauth-clients`, as {@link nameOf} makes it. */
const tokenEndpoints: ReadonlySet<string> = new Set(["oauth", "oauthclients", "auth"])

/** Before a segment that names a resource: nothing, and what a gateway may add to a base URL or cut off. */
const prefixes = /^(?:api|v\d+|)$/

/**
 * What a lenient server may take a segment for: without case, matrix parameter, suffix (`.json`) and whatever is no
 * letter or digit. Upper case first: `ı` and `ſ` have no lower case of their own that is ASCII.
 */
const nameOf = (segment: string): string =>
  (decodeSegment(segment) ?? segment)
    .toUpperCase()
    .toLowerCase()
    .replace(/;.*$/s, "")
    .replace(/(?<=[^.])\..*$/s, "")
    .replace(/[^a-z0-9]/g, "")

const refuse = (expected: string) => Either.left(new InvalidInput({ field: "path", expected }))

const pathOf = (target: string) => target.split("?", 1)[0] ?? ""

const queryOf = (target: string) => target.slice(pathOf(target).length)

/** What is wrong with a target, if anything is: where it leads has to be the same for every reader. */
export const problemOf = (target: string): string | undefined => {
  if (target.length > maxLength) return `must have at most ${maxLength} characters`
  if (!target.startsWith("/")) return "must begin with a slash, below the Cal.com base URL: /bookings?take=10"
  if (!pathCharacters.test(pathOf(target))) {
    return "must be a plain path: no backslash, @, #, space, control or non-ASCII character, and every % begins an escape"
  }
  if (!queryCharacters.test(queryOf(target))) return "must have a percent-encoded query"
  // A trailing slash is harmless; any other empty segment begins a host or is merged away.
  const segments = pathOf(target)
    .replace(/(?<=[^/])\/$/, "")
    .split("/")
    .slice(1)
  return segments.length > 1 || segments[0] !== ""
    ? segments.map(segmentProblem).find((problem) => problem !== undefined)
    : undefined
}

const segmentProblem = (segment: string): string | undefined => {
  if (segment === "") return "must not contain empty segments"
  const plain = decodeSegment(segment)
  if (plain === undefined || forbidden.test(plain)) return "must not contain encoded separators or control characters"
  return dots.test(plain) ? "must not contain dot segments" : undefined
}

/** Decoded and with compatibility characters (full-width dots and slashes) made plain; undefined if not UTF-8. */
const decodeSegment = (segment: string): string | undefined => {
  try {
    return decodeURIComponent(segment).normalize("NFKC")
  } catch {
    return undefined
  }
}
