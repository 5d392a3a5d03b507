/**
 * Words of Cal.com that may be shown. Its answers can contain what was sent to it: a validation error echoes the body
 * with the refresh token in `details.errors[].target`, one 403 quotes the whole access token (API v2, exception filters
 * and `PermissionsGuard`). So only chosen texts get here, and they leave without anything that may be a secret.
 */
import { Redacted } from "effect"

const replacement = "<redacted>"
const maxLength = 300

const jwt = /\beyJ[\w-]*(\.[\w-]+){1,2}/g
const longRun = /[A-Za-z0-9_~+-]{24,}={0,2}/g

/** Identifiers such as `pkce_missing_parameters_or_invalid_method` are words; digits or mixed case make a run opaque. */
const isOpaque = (run: string) => /\d/.test(run) || (/[a-z]/.test(run) && /[A-Z]/.test(run))

/** The text without the given secrets, JWTs, long opaque strings and control characters, at most 300 characters long. */
export const scrub = (text: string, secrets: ReadonlyArray<Redacted.Redacted> = []): string => {
  const plain = replaceSecrets(text, secrets)
    .replace(jwt, replacement)
    .replace(longRun, (run) => (isOpaque(run) ? replacement : run))
    .replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029]+/g, " ")
  return plain.length <= maxLength ? plain : `${plain.slice(0, maxLength - 1)}…`
}

/** The text with the given secrets replaced and nothing else changed. */
export const replaceSecrets = (text: string, secrets: ReadonlyArray<Redacted.Redacted>): string =>
  secrets
    .map((secret) => Redacted.value(secret))
    .filter((secret) => secret.length > 0)
    // A secret that contains another one goes first, else its ends would stay.
    .sort((a, b) => b.length - a.length)
    .reduce((result, secret) => result.replaceAll(secret, replacement), text)
