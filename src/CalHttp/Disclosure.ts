/**
 * Whether a text tells a secret to somebody who knows how texts are escaped and encoded. Known forms are not listed one by
 * one: text and secret are brought to their letters and digits, step by step, and must have nothing in common.
 */
import { Redacted } from "effect"
import { LRUCache } from "lru-cache"

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
  const found = readings(text)
  return looked.some((secret) => {
    const wanted = wantedOf(secret, times)
    return found.some((reading) =>
      reading.length > wanted.text.length ? haveInCommon(wanted.text, reading) : isIn(reading, wanted)
    )
  })
}

/** What a secret is looked for by, and where its runs are. */
interface Wanted {
  readonly text: string
  /** A bit for each hash of a run at every {@link step}th place. */
  readonly marks: Uint8Array
}

/** A page asks several times for the same user. */
const recent = new LRUCache<string, Wanted>({ max: 32 })

const wantedOf = (secret: string, times: number): Wanted => {
  const key = `${times} ${secret}`
  const known = recent.get(key)
  if (known !== undefined) return known
  const text = encoded(secret, times).join(" ")
  const marks = new Uint8Array(1 << 15)
  for (let at = 0; at + run <= text.length; at += step) {
    const place = placeOf(hashOf(text, at))
    marks[place >>> 3] = (marks[place >>> 3] ?? 0) | (1 << (place & 7))
  }
  const wanted = { text, marks }
  recent.set(key, wanted)
  return wanted
}

const placeOf = (hash: number): number => (hash ^ (hash >>> 14)) & 0x3ffff

/** Whether a plain text has a {@link run} of what is wanted. */
const isIn = (reading: string, { marks, text }: Wanted): boolean => {
  if (reading.length < run) return false
  let hash = hashOf(reading, 0)
  for (let at = 0; ; at++) {
    const place = placeOf(hash)
    if (((marks[place >>> 3] ?? 0) & (1 << (place & 7))) !== 0 && text.includes(reading.slice(at, at + run)))
      return true
    if (at + run >= reading.length) return false
    hash = next(hash, reading, at)
  }
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

/** The hash of the run one place further. */
const next = (hash: number, text: string, at: number): number =>
  (Math.imul(hash - Math.imul(text.charCodeAt(at), weight), base) + text.charCodeAt(at + run)) | 0

/** Whether two plain texts have a {@link run} in common. A rolling hash goes over the longer one once. */
const haveInCommon = (short: string, long: string): boolean => {
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
    hash = next(hash, long, at)
  }
}
