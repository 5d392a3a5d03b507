/**
 * What the fields of an answer are called, in any spelling: `accessToken`, `access_token`, `Access-Token` and
 * `ACCESS_TOKEN` are one name. Names only propose.
 */
import { isScope } from "../../TokenInput.js"
import type { Json, JsonObject, Member } from "./Json.js"

/** A name in the spelling that all others are compared in. */
export const plain = (name: string): string => name.replace(/[-_. ]/g, "").toLowerCase()

export const accessToken = "accesstoken"
export const refreshToken = "refreshtoken"

/** Where and as what each of Cal.com's two contracts has its tokens. `depth` counts the objects around them. */
export const contracts = {
  managed: { depth: 1, access: "accessToken", refresh: "refreshToken", expiry: "accessTokenExpiresAt" },
  oauth2: { depth: 0, access: "access_token", refresh: "refresh_token", expiry: "expires_in" }
} as const

/** Of the access token's expiry: as so many seconds from now, or as an instant. */
export const expiresIn: ReadonlySet<string> = new Set(["expiresin", "accesstokenexpiresin"])
export const expiresAt: ReadonlySet<string> = new Set(["accesstokenexpiresat", "expiresat"])

/** Of the refresh token's expiry. */
export const refreshExpiresIn: ReadonlySet<string> = new Set(["refreshtokenexpiresin", "refreshexpiresin"])
export const refreshExpiresAt: ReadonlySet<string> = new Set(["refreshtokenexpiresat", "refreshexpiresat"])

const scope: ReadonlySet<string> = new Set(["scope", "scopes"])

/** What an answer is wrapped in, once or twice. */
const wrapper = "data"
const maxWrappers = 2

/** What stands in here was sent, or is about what was sent. */
const echoes: ReadonlySet<string> = new Set(["error", "errors", "details", "target", "request"])

/** Fields that hold no refresh token, whatever they hold. */
const others: ReadonlySet<string> = new Set([
  accessToken,
  ...expiresIn,
  ...expiresAt,
  ...refreshExpiresIn,
  ...refreshExpiresAt,
  ...scope,
  "tokentype",
  "idtoken",
  "clientid",
  "status",
  "message",
  "timestamp",
  "path",
  "requestid",
  "user",
  "userid",
  "owner",
  "ownerid",
  "teamid",
  "email",
  "username"
])

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === "object" && value !== null && value._tag === "Object"

/** The members of an object; none of anything else. */
export const members = (value: Json): ReadonlyArray<Member> => (isObject(value) ? value.members : [])

/** What the person allowed: a text, or a list as in the tokens' own claims. Nothing that keeps the tokens from being stored. */
export const scopeOf = (members: ReadonlyArray<Member>): { readonly scope?: string } => {
  const value = members.find(([name]) => scope.has(plain(name)))?.[1]
  const isList = typeof value === "object" && value !== null && value._tag === "Array"
  const text = isList && value.items.every((item) => typeof item === "string") ? value.items.join(" ") : value
  return isScope(text) ? { scope: text } : {}
}

/** The objects in which tokens may stand: the answer, and what it wraps. `depth` counts the wrappers. */
export const levels = (
  answer: Json
): ReadonlyArray<{ readonly depth: number; readonly members: ReadonlyArray<Member> }> =>
  isObject(answer) ? within(answer, 0) : []

const within = ({ members }: JsonObject, depth: number): ReturnType<typeof levels> => [
  { depth, members },
  ...(depth === maxWrappers
    ? []
    : members.flatMap(([name, value]) => (plain(name) === wrapper && isObject(value) ? within(value, depth + 1) : [])))
]

/**
 * Texts that stand under no name that says what they are. A walk, because an answer may be a mebibyte of brackets, and
 * lazy, because the first one is usually enough.
 */
export function* namelessTexts(value: Json, name = ""): Generator<string> {
  if (typeof value === "string") yield value
  if (typeof value !== "object" || value === null) return
  if (value._tag === "Array") {
    for (const item of value.items) yield* namelessTexts(item, name)
    return
  }
  for (const [inner, member] of value.members) {
    if (echoes.has(plain(inner)) || others.has(plain(inner))) continue
    yield* namelessTexts(member, inner)
  }
}
