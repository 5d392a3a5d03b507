/**
 * Whether a text tells a secret to somebody who knows how texts are escaped and encoded. Known forms are not listed one by
 * one: text and secret are brought to their letters and digits, step by step, and must have nothing in common.
 */
import { Redacted } from "effect"

/** So many letters and digits in common are found, and {@link step} more for certain; secrets with fewer only as they are. */
const run = 10
/** Of one of the texts that are compared, runs are taken at every third place. */
const step = 3

/**
 * Whether somebody who undoes escapes and encodings finds a part of a secret in a text. What this finds cannot be cut out
 * of the text, because nobody knows where it begins and ends: the text as a whole has to go. `times`: how often a secret
 * may be in base 64 or hex.
 */
export const reveals = (text: string, secrets: ReadonlyArray<Redacted.Redacted>, times = 2): boolean => {
  const known = secrets.map(Redacted.value).filter((secret) => secret !== "")
  const bare = text.replaceAll("\0", "")
  if (known.some((secret) => bare.includes(secret))) return true
  const looked = known.filter((secret) => plain(secret).length >= run)
  if (looked.length === 0) return false
  const wanted = looked.flatMap((secret) => encoded(secret, times)).join(" ")
  return readings(text).some((reading) => haveInCommon(reading, wanted))
}

/** Letters and digits alone: what separates, wraps or escapes the rest is no matter. */
const plain = (text: string): string =>
  text
    .normalize("NFKC")
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "")

/** A secret in the plain forms of its encodings, and of these as often as `times` says. */
const encoded = (secret: string, times: number): ReadonlyArray<string> => {
  const all = [[secret]]
  for (let i = 0; i < times; i++) all.push((all.at(-1) ?? []).flatMap(encodings))
  return [...all.flat(), [...secret].reverse().join(""), Buffer.from(secret).join("")].map(plain)
}

/** Where base 64 begins within a group of three bytes decides how it looks; the characters at its ends depend on others. */
const encodings = (text: string): ReadonlyArray<string> => [
  Buffer.from(text).toString("hex"),
  ...[0, 1, 2].map((before) =>
    Buffer.from(`${" ".repeat(before)}${text}`)
      .toString("base64")
      .slice(4, -4)
  )
]

/** How often an escape may have been escaped. */
const maxEscapes = 4

const escape =
  /\\u\{[0-9a-f]{1,6}\}|\\u(?:0000)?[0-9a-f]{4}|u\+[0-9a-f]{4,6}|\\x[0-9a-f]{2}|%u[0-9a-f]{4}|[%=][0-9a-f]{2}|&#x[0-9a-f]{1,8};?|&#\d{1,8};?|\\[0-7]{2,3}|\\./gi

const unescape = (text: string): string =>
  text.replace(escape, (found) => {
    const [first, second = "", third] = found.toLowerCase()
    const code =
      first === "&"
        ? third === "x"
          ? parseInt(found.slice(3), 16)
          : parseInt(found.slice(2), 10)
        : first === "%" || first === "="
          ? parseInt(found.slice(second === "u" ? 2 : 1), 16)
          : found.length > 3 && (first === "u" || second === "u" || second === "x")
            ? parseInt(found.slice(third === "{" ? 3 : 2), 16)
            : found.length > 2
              ? parseInt(found.slice(1), 8)
              : undefined
    if (code === undefined) return /[bfnrtv]/.test(second) ? " " : second
    return code <= 0x10ffff ? String.fromCodePoint(code) : ""
  })

/** The plain forms of a text, its escapes undone step by step; also as what it was before somebody took it for UTF-16. */
const readings = (text: string): ReadonlyArray<string> => {
  const beginnings = [text]
  if (/[^\x00-\xff]/.test(text)) {
    const bytes = Buffer.from(text, "utf16le")
    beginnings.push(bytes.toString("latin1"), bytes.swap16().toString("latin1"))
  }
  return beginnings.flatMap((beginning) => {
    const texts = [beginning.replaceAll("\0", "")]
    for (
      let next = unescape(texts[0] ?? "");
      next !== texts.at(-1) && texts.length <= maxEscapes;
      next = unescape(next)
    ) {
      texts.push(next)
    }
    return texts.map(plain)
  })
}

const base = 31
/** What the first of a run's characters counts for in its hash. */
const weight = Array.from({ length: run - 1 }).reduce<number>((product) => Math.imul(product, base), 1)

const hashOf = (text: string, at: number): number => {
  let hash = 0
  for (let i = at; i < at + run; i++) hash = (Math.imul(hash, base) + text.charCodeAt(i)) | 0
  return hash
}

/** Whether two plain texts have a {@link run} in common. A rolling hash goes over the longer one once. */
const haveInCommon = (one: string, other: string): boolean => {
  const [short, long] = one.length < other.length ? [one, other] : [other, one]
  if (short.length < run) return false
  const size = short.length < 4096 ? 0x1000 : 0x10000
  const marks = new Uint8Array(size)
  const place = (hash: number): number => (hash ^ (hash >>> 16)) & (size - 1)
  const runs = new Set<string>()
  for (let at = 0; at + run <= short.length; at += step) {
    runs.add(short.slice(at, at + run))
    marks[place(hashOf(short, at))] = 1
  }
  let hash = hashOf(long, 0)
  for (let at = 0; ; at++) {
    if (marks[place(hash)] === 1 && runs.has(long.slice(at, at + run))) return true
    if (at + run >= long.length) return false
    hash = (Math.imul(hash - Math.imul(long.charCodeAt(at), weight), base) + long.charCodeAt(at + run)) | 0
  }
}
