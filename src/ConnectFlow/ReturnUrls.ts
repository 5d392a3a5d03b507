/**
 * Where a browser may be sent back to. An entry of the list allows its own origin, letter by letter, and its path with
 * everything below: `https://app.example.com/settings` allows `/settings`, `/settings/calendar` and either with a query,
 * and not `/settings-old`. Anything that reads differently to different parsers is refused, by the same judge as the paths
 * that a user's token is sent to.
 */
import { Effect, Option } from "effect"
import * as CalPath from "../CalHttp/CalPath.js"
import { InvalidInput } from "../TokenError.js"

/** The parameter by which the browser carries the completion. */
const parameter = "completion"

const maxLength = 2048

const parse = (text: string): Option.Option<URL> => {
  const [, origin = "", rest = ""] = /^(https?:\/\/[\w.:[\]-]+)((?:[/?].*)?)$/is.exec(text) ?? []
  const target = rest.startsWith("/") ? rest : `/${rest}`
  return text.length <= maxLength && CalPath.problemOf(target) === undefined && URL.canParse(origin + target)
    ? Option.some(new URL(origin + target))
    : Option.none()
}

/** Whether somebody may read one of the query's parameters as the completion, or as a part of it. */
const hasCompletion = ({ search }: URL): boolean =>
  search
    .slice(1)
    .split(/[&;]/)
    .some((pair) => isCompletion.test(decode(decode(pair.split("=", 1)[0] ?? ""))))

/** Readers cut names off at a bracket, a dot or a control character, skip spaces before them, or do not mind their case. */
const isCompletion = new RegExp(`^\\s*${parameter}(?![\\w-])`, "i")

const decode = (name: string): string => {
  try {
    return decodeURIComponent(name.replaceAll("+", " ")).normalize("NFKC")
  } catch {
    return name
  }
}

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
        expected: "must be a plain URL, without user and fragment, below one of the allowed return URLs"
      })
    )
  }
  return hasCompletion(url.value)
    ? Effect.fail(new InvalidInput({ field: "returnTo", expected: `must have no parameter ${parameter} of its own` }))
    : Effect.succeed(url.value.href)
}

/** The URL with one more parameter, its own query untouched. */
export const withParameter = (url: string, name: string, value: string): string =>
  `${url}${url.includes("?") ? "&" : "?"}${name}=${encodeURIComponent(value)}`

/** The URL with a completion. */
export const complete = (returnTo: string, completion: string): string => withParameter(returnTo, parameter, completion)

/** What {@link complete} put together; no completion where it was used up before. */
export const split = (location: string): { readonly returnTo: string; readonly completion: Option.Option<string> } => {
  // Whatever else a URL may have, it has none of its own.
  const [returnTo = location, completion] = location.split(new RegExp(`[?&]${parameter}=`))
  return { returnTo, completion: Option.map(Option.fromNullable(completion), decodeURIComponent) }
}
