/** Body and query checks in the manner of class-validator, which Cal.com API v2 runs after its guards. */
import { Either } from "effect"
import { invalid, type Refusal, type Violation } from "./Errors.js"
import { jsonObject, type Incoming } from "./World.js"

export interface Rule {
  readonly name: string
  readonly text: (property: string) => string
  readonly accepts: (value: unknown) => boolean
}

export interface Field {
  readonly required?: boolean
  readonly rules: ReadonlyArray<Rule>
}

/** Every property that breaks a rule; an optional one that is null counts as absent. Unknown properties are ignored. */
export const check = (
  target: Readonly<Record<string, unknown>>,
  fields: Readonly<Record<string, Field>>
): ReadonlyArray<Violation> =>
  Object.entries(fields).flatMap(([property, { required = false, rules }]) => {
    const value = target[property]
    if (!required && (value === undefined || value === null)) return []
    const broken = rules.filter((rule) => !rule.accepts(value))
    if (broken.length === 0) return []
    const constraints = Object.fromEntries(broken.map((rule) => [rule.name, rule.text(property)]))
    return [{ target, ...(value === undefined ? {} : { value }), property, children: [], constraints }]
  })

export const isString: Rule = {
  name: "isString",
  text: (property) => `${property} must be a string`,
  accepts: (value) => typeof value === "string"
}

export const isEmail: Rule = {
  name: "isEmail",
  text: (property) => `${property} must be an email`,
  accepts: (value) => typeof value === "string" && /^[^\s@]+@[^\s@.]+(?:\.[^\s@.]+)+$/.test(value)
}

export const isList: Rule = {
  name: "isArray",
  text: (property) => `${property} must be an array`,
  accepts: Array.isArray
}

/** A comma list of a query string, of these words. */
export const isListOf = (values: ReadonlyArray<string>): Rule => ({
  name: "isIn",
  text: (property) => `each value in ${property} must be one of the following values: ${values.join(", ")}`,
  accepts: (value) => typeof value === "string" && value.split(",").every((item) => values.includes(item))
})

export const isIn = (values: ReadonlyArray<unknown>): Rule => ({
  name: "isIn",
  text: (property) => `${property} must be one of the following values: ${values.join(", ")}`,
  accepts: (value) => values.includes(value)
})

export const isTimeZone: Rule = {
  name: "isTimeZone",
  text: (property) => `${property} must be a valid IANA time-zone`,
  accepts: (value) => typeof value === "string" && canonicalTimeZone(value) !== undefined
}

const isUrl: Rule = {
  name: "isUrl",
  text: (property) => `${property} must be a URL address`,
  accepts: (value) => typeof value === "string" && URL.canParse(value)
}

/** At most 50 keys of 40 characters, with values of 500. */
const isMetadata: Rule = {
  name: "isMetadata",
  text: () => "Metadata must have at most 50 keys, each key up to 40 characters, and values up to 500 characters.",
  accepts: (value) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) return false
    const entries = Object.entries(value)
    return (
      entries.length <= 50 &&
      entries.every(([key, item]) => key.length <= 40 && (typeof item !== "string" || item.length <= 500))
    )
  }
}

/** The comma list of a query string. */
export const isNotEmpty: Rule = {
  name: "arrayNotEmpty",
  text: (property) => `${property} cannot be empty.`,
  accepts: (value) => value !== ""
}

/** A number of this range, as text of a query string. */
export const count = (min: number, max = Infinity): ReadonlyArray<Rule> => [
  {
    name: "isNumber",
    text: (property) => `${property} must be a number conforming to the specified constraints`,
    accepts: (value) => value !== "" && Number.isInteger(Number(value))
  },
  {
    name: "min",
    text: (property) => `${property} must not be less than ${min}`,
    accepts: (value) => Number(value) >= min
  },
  {
    name: "max",
    text: (property) => `${property} must not be greater than ${max}`,
    accepts: (value) => Number(value) <= max
  }
]

const profile = {
  timeFormat: { rules: [isIn([12, 24])] },
  weekStart: { rules: [isIn(["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"])] },
  timeZone: { rules: [isTimeZone] },
  locale: {
    rules: [
      isIn(
        (
          "ar ca de es eu he id ja lv pl ro sr th vi az cs el es-419 fi hr it km nl pt ru sv tr zh-CN bg da en et fr " +
          "hu iw ko no pt-BR sk ta uk zh-TW bn"
        ).split(" ")
      )
    ]
  },
  avatarUrl: { rules: [isUrl] },
  bio: { rules: [isString] },
  metadata: { rules: [isMetadata] }
} satisfies Record<string, Field>

export const createUser: Readonly<Record<string, Field>> = {
  email: { required: true, rules: [isString, isEmail] },
  name: { required: true, rules: [isString] },
  ...profile
}

export const updateUser: Readonly<Record<string, Field>> = {
  email: { rules: [isString, isEmail] },
  name: { rules: [isString] },
  ...profile
}

/** The declared properties of a valid body, with null as absent and the time zone in its proper case. */
export const body = (
  request: Incoming,
  fields: Readonly<Record<string, Field>>
): Either.Either<Record<string, unknown>, Refusal> => {
  const body = jsonObject(request)
  const violations = check(body, fields)
  return violations.length > 0 ? Either.left(invalid(violations)) : Either.right(pick(body, fields))
}

const pick = (
  target: Readonly<Record<string, unknown>>,
  fields: Readonly<Record<string, Field>>
): Record<string, unknown> => {
  const picked: Record<string, unknown> = {}
  for (const property of Object.keys(fields)) {
    const value = target[property]
    if (value === undefined || value === null) continue
    picked[property] = property === "timeZone" && typeof value === "string" ? canonicalTimeZone(value) : value
  }
  return picked
}

let zones: Map<string, string> | undefined

/** `america/new_york` is understood and corrected; what no time-zone database knows is undefined. */
const canonicalTimeZone = (name: string): string | undefined => {
  zones ??= new Map([...Intl.supportedValuesOf("timeZone"), "UTC"].map((zone) => [zone.toLowerCase(), zone]))
  const known = zones.get(name.toLowerCase())
  if (known !== undefined || name === "") return known
  try {
    const { timeZone } = new Intl.DateTimeFormat("en", { timeZone: name }).resolvedOptions()
    zones.set(name.toLowerCase(), timeZone)
    return timeZone
  } catch {
    return undefined
  }
}
