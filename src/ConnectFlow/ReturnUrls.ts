/**
 * Where a browser may be sent back to. An entry of the list allows its own origin, letter by letter, and its path with
 * everything below: `https://app.example.com/settings` allows `/settings`, `/settings/calendar` and either with a query,
 * and not `/settings-old`. Anything that reads differently to different parsers is refused.
 */
import { Effect, Option } from "effect"
import { InvalidInput } from "../TokenError.js"

/** The parameter by which the browser carries the completion. */
export const parameter = "completion"

const maxLength = 2048

/** Spaces, control characters and backslashes anywhere; slashes, dots and the like in disguise in the path. */
const isAmbiguous = (text: string) =>
  /[^\x21-\x7e]|\\/.test(text) || /%(?:0|1|2[ef]|5c|7f)/i.test(text.split("?", 1)[0] ?? "")

const parse = (text: string): Option.Option<URL> =>
  text.length <= maxLength && /^https?:\/\/[^/]/i.test(text) && !isAmbiguous(text) && URL.canParse(text)
    ? Option.filter(
        Option.some(new URL(text)),
        ({ hash, password, username }) => `${username}${password}${hash}` === ""
      )
    : Option.none()

const isBelow = (path: string, prefix: string) =>
  path === prefix || path.startsWith(prefix.endsWith("/") ? prefix : `${prefix}/`)

/** The URL as it will be used, if one of the entries allows it. */
export const check = (allowed: ReadonlyArray<string>, text: string): Effect.Effect<string, InvalidInput> => {
  const url = Option.filter(parse(text), (url) =>
    allowed.some((entry) => {
      const { origin, pathname } = new URL(entry)
      return url.origin === origin && isBelow(url.pathname, pathname)
    })
  )
  if (Option.isNone(url)) {
    return Effect.fail(
      new InvalidInput({
        field: "returnTo",
        expected: "must be an URL without user and fragment below one of CAL_TOKENS_RETURN_URLS"
      })
    )
  }
  return url.value.searchParams.has(parameter)
    ? Effect.fail(new InvalidInput({ field: "returnTo", expected: `must have no parameter ${parameter} of its own` }))
    : Effect.succeed(url.value.href)
}

/** The URL with a completion, its own query untouched. */
export const complete = (returnTo: string, completion: string): string =>
  `${returnTo}${returnTo.includes("?") ? "&" : "?"}${parameter}=${completion}`
