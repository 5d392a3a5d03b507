/**
 * Words of Cal.com that may be shown. Its answers can contain what was sent to it: a validation error echoes the body
 * with the refresh token in `details.errors[].target`, one 403 quotes the whole access token (API v2, exception filters
 * and `PermissionsGuard`). So only chosen texts get here, and they leave without anything that may be a secret.
 */
import { Option, Predicate, Redacted } from "effect"
import { reveals } from "./Disclosure.js"

const replacement = "<redacted>"
const maxLength = 300
/** So much of a text is looked at: what would be shown of it, behind the longest token that it may begin with. */
const maxRead = 16 * 1024

/** What begins like a JWT, to its end: whoever looks on for the dots of one reads a text of beginnings over and over. */
const jwtLike = /\beyJ[\w-]*(?:\.[\w-]+)*/g
const longRun = /[A-Za-z0-9_~+-]{24,}={0,2}/g

/** Identifiers such as `pkce_missing_parameters_or_invalid_method` are words; digits or mixed case make a run opaque. */
const isOpaque = (run: string) => /\d/.test(run) || (/[a-z]/.test(run) && /[A-Z]/.test(run))

const withoutJwts = (text: string): string =>
  text.replace(jwtLike, (found) => (found.includes(".") ? replacement : found))

/** The text without the given secrets, JWTs, long opaque strings and control characters, at most 300 characters long. */
export const scrub = (text: string, secrets: ReadonlyArray<Redacted.Redacted> = []): string => {
  const read = beginning(text)
  const known = replaceSecrets(read, secrets)
  const plain = withoutJwts(reveals(known, secrets) ? replacement : known)
    .replace(longRun, (run) => (isOpaque(run) ? replacement : run))
    .replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029]+/g, " ")
  return plain.length <= maxLength && read === text ? plain : `${plain.slice(0, maxLength - 1)}…`
}

/** What is read of a text; not a word that was cut, which could be the half of a secret. */
const beginning = (text: string): string =>
  text.length <= maxRead ? text : text.slice(0, Math.max(0, text.lastIndexOf(" ", maxRead)))

/** The text with the given secrets replaced, also as forms, URLs, JSON and base 64 write them; nothing else changes. */
export const replaceSecrets = (text: string, secrets: ReadonlyArray<Redacted.Redacted>): string =>
  [...new Set(secrets.flatMap((secret) => forms(Redacted.value(secret))))]
    .filter((form) => form.length > 0)
    // A text that contains another one goes first, else its ends would stay.
    .sort((a, b) => b.length - a.length)
    .reduce((result, form) => result.replaceAll(form, replacement), text)

/** The name of a JSON field whose text is a secret. */
const secretName = /(?:token|secret|key)$/i

/** A JSON text without whatever its fields call a secret, known or not, and without JWTs; `None` if it is no JSON. */
export const scrubJson = (text: string): Option.Option<string> =>
  Option.map(Option.liftThrowable(JSON.parse)(text), (json: unknown) => JSON.stringify(withoutSecrets(json)))

const withoutSecrets = (value: unknown): unknown => {
  if (typeof value === "string") return withoutJwts(value)
  if (Array.isArray(value)) return value.map(withoutSecrets)
  if (!Predicate.isRecord(value)) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, field]) => [
      withoutJwts(name),
      typeof field === "string" && secretName.test(name) ? replacement : withoutSecrets(field)
    ])
  )
}

/** A secret as an answer may quote it: from the body that was sent, within a JSON string, or both. */
const forms = (secret: string): ReadonlyArray<string> => {
  const once = [secret, ...escapes(secret)]
  return [...once, ...once.flatMap(escapes), ...base64(secret)]
}

const escapes = (text: string): ReadonlyArray<string> => {
  // Without lone surrogates, which `encodeURIComponent` refuses.
  const encoded = [
    encodeURIComponent(Buffer.from(text).toString()),
    new URLSearchParams({ x: text }).toString().slice(2)
  ]
  const lowerCase = encoded.map((form) => form.replace(/%[0-9A-F]{2}/g, (code) => code.toLowerCase()))
  return [...encoded, ...lowerCase, JSON.stringify(text).slice(1, -1)]
}

/** Below this many characters, base 64 is found by chance in texts that have nothing to do with the secret. */
const minBase64 = 8

/** The characters that depend on nothing but the secret, at each place in a group of three bytes where it may begin. */
const base64 = (secret: string): ReadonlyArray<string> =>
  [0, 1, 2].flatMap((before) => {
    const bytes = Buffer.concat([Buffer.alloc(before), Buffer.from(secret)])
    const [from, to] = [before === 0 ? 0 : before + 1, Math.floor((bytes.length * 8) / 6)]
    return (["base64", "base64url"] as const)
      .flatMap((encoding) =>
        [bytes.toString(encoding), bytes.toString(encoding).slice(from, to)].slice(before === 0 ? 0 : 1)
      )
      .filter((form) => form.length >= minBase64)
  })
