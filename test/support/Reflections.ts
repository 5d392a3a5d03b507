/**
 * What an upstream may make of a token that it was sent: every way that we could think of in which texts, bodies and
 * headers are written. Each answer is the same whenever its seed is.
 */
import * as Zlib from "node:zlib"

/** A small generator of numbers (mulberry32), so that an answer is told by its seed. */
export const random = (seed: number) => {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
  const below = (n: number) => Math.floor(next() * n)
  return {
    below,
    chance: (p: number) => next() < p,
    pick: <A>(from: ReadonlyArray<A>): A => from[below(from.length)] as A
  }
}

type Random = ReturnType<typeof random>

const each = (text: string, write: (char: string, code: number) => string) =>
  [...text].map((char) => write(char, char.codePointAt(0) ?? 0)).join("")
const hex = (code: number, length = 2) => code.toString(16).padStart(length, "0")
const chunks = (text: string, length: number) => text.match(new RegExp(`[^]{1,${length}}`, "g")) ?? []

/** Ways to write a text. */
export const writings: Readonly<Record<string, (text: string, random: Random) => string>> = {
  plain: (text) => text,
  percent: (text) => each(text, (_, code) => `%${hex(code)}`),
  "percent, upper case": (text) => each(text, (_, code) => `%${hex(code).toUpperCase()}`),
  "percent, here and there": (text, { chance }) => each(text, (char, code) => (chance(0.3) ? `%${hex(code)}` : char)),
  "percent twice": (text) => each(text, (_, code) => `%25${hex(code)}`),
  "%u": (text) => each(text, (_, code) => `%u${hex(code, 4)}`),
  "JSON escapes": (text) => each(text, (_, code) => `\\u${hex(code, 4)}`),
  "JSON escapes, here and there": (text, { chance }) =>
    each(text, (char, code) => (chance(0.3) ? `\\u${hex(code, 4).toUpperCase()}` : char)),
  "JSON escapes, escaped": (text) => each(text, (_, code) => `\\\\u${hex(code, 4)}`),
  "ES6 escapes": (text) => each(text, (_, code) => `\\u{${hex(code)}}`),
  "Python escapes": (text) => each(text, (_, code) => `\\U${hex(code, 8)}`),
  "\\x": (text) => each(text, (_, code) => `\\x${hex(code)}`),
  octal: (text) => each(text, (_, code) => `\\${code.toString(8).padStart(3, "0")}`),
  "code points": (text) => each(text, (_, code) => `U+${hex(code, 4).toUpperCase()} `),
  CSS: (text) => each(text, (_, code) => `\\${hex(code)} `),
  HTML: (text) => each(text, (_, code) => `&#${code};`),
  "HTML, hex": (text) => each(text, (_, code) => `&#x${hex(code)};`),
  "HTML, padded and open": (text) => each(text, (_, code) => `&#0${code} `),
  "HTML, here and there": (text, { chance }) => each(text, (char, code) => (chance(0.3) ? `&#${code};` : char)),
  "HTML in percent": (text) => encodeURIComponent(each(text, (_, code) => `&#${code};`)),
  "base 64": (text, { below }) => Buffer.from(`${"x".repeat(below(3))}${text}y`).toString("base64"),
  base64url: (text, { below }) => Buffer.from(`${"x".repeat(below(3))}${text}`).toString("base64url"),
  "MIME's base 64": (text, { below }) =>
    chunks(Buffer.from(`${"x".repeat(below(3))}${text}`).toString("base64"), 76).join("\r\n"),
  "base 64 twice": (text, { below }) =>
    Buffer.from(`${"x".repeat(below(3))}${Buffer.from(`${"x".repeat(below(3))}${text}`).toString("base64")}`).toString(
      "base64"
    ),
  "basic authentication": (text) => `Basic ${Buffer.from(`user:${text}`).toString("base64")}`,
  "base 64 in percent": (text) => encodeURIComponent(Buffer.from(text).toString("base64")),
  hex: (text) => Buffer.from(text).toString("hex"),
  "hex, upper case, apart": (text) => each(text, (_, code) => `${hex(code).toUpperCase()}:`),
  "hex of base 64": (text) => Buffer.from(Buffer.from(text).toString("base64")).toString("hex"),
  "a Node buffer": (text) => JSON.stringify(Buffer.from(text)),
  "quoted-printable": (text) =>
    chunks(
      each(text, (_, code) => `=${hex(code).toUpperCase()}`),
      75
    ).join("=\r\n"),
  "quoted-printable, soft breaks": (text) => chunks(text, 75).join("=\r\n"),
  spaced: (text) => each(text, (char) => `${char} `),
  wrapped: (text) => chunks(text, 20).join("\n   "),
  "zero-width": (text) => each(text, (char) => `${char}\u200b`),
  "soft hyphens": (text) => chunks(text, 5).join("\u00ad"),
  concatenated: (text) => chunks(text, 9).join('" + "'),
  "in tags": (text) => chunks(text, 9).join("<wbr>").replaceAll("<wbr>", "\u2060"),
  "full width": (text) =>
    each(text, (char, code) => (code > 0x20 && code < 0x7f ? String.fromCodePoint(code + 0xfee0) : char)),
  bold: (text) => each(text, (char, code) => (/[A-Z]/.test(char) ? String.fromCodePoint(0x1d400 + code - 65) : char)),
  "upper case": (text) => text.toUpperCase(),
  "lower case": (text) => text.toLowerCase(),
  reversed: (text) => [...text].reverse().join(""),
  "JSON twice": (text) => JSON.stringify(JSON.stringify(text)),
  "in a URL": (text) => `https://api.cal.com/v2/me?access_token=${encodeURIComponent(text)}&x=1`,
  form: (text) => new URLSearchParams({ grant: "x", access_token: text }).toString(),
  "its beginning": (text) => text.slice(0, Math.floor(text.length * 0.6)),
  "its end": (text) => text.slice(-40),
  "all but its ends": (text) => text.slice(1, -1)
}

const pages: ReadonlyArray<readonly [type: string, write: (quote: string) => string]> = [
  [
    "application/json",
    (quote) =>
      JSON.stringify({
        status: "error",
        path: "/v2/bookings",
        error: { code: "X", message: `token=${quote}`, details: { target: { token: quote } } }
      })
  ],
  // As it is, with its escapes undone by whoever reads the JSON.
  ["application/json", (quote) => `{"error":{"message":"found ${quote.replace(/["\r\n]/g, " ")}"}}`],
  ["text/html", (quote) => `<html><body><h1>403</h1><p>No client for ${quote}</p></body></html>`],
  ["text/plain", (quote) => `No client for access token=${quote}`],
  ["application/xml", (quote) => `<?xml version="1.0"?><error token="${quote}"/>`],
  ["text/x", (quote) => quote]
]

const utf32 = (text: string, isBig: boolean) => {
  const codes = [...text].map((char) => char.codePointAt(0) ?? 0)
  const bytes = Buffer.alloc(codes.length * 4)
  codes.forEach((code, i) => (isBig ? bytes.writeUInt32BE(code, i * 4) : bytes.writeUInt32LE(code, i * 4)))
  return bytes
}
const utf16 = (text: string, isBig: boolean) => {
  const bytes = Buffer.from(text, "utf16le")
  return isBig ? bytes.swap16() : bytes
}

/** Alphabets: what they are called, and how they write. */
const alphabets: Readonly<Record<string, (text: string) => Buffer>> = {
  "utf-8": (text) => Buffer.from(text),
  "utf-8, marked": (text) => Buffer.from(`\ufeff${text}`),
  "utf-16le": (text) => utf16(text, false),
  "utf-16le, marked": (text) => utf16(`\ufeff${text}`, false),
  "utf-16be": (text) => utf16(text, true),
  "utf-16be, marked": (text) => utf16(`\ufeff${text}`, true),
  "utf-32le": (text) => utf32(text, false),
  "utf-32le, marked": (text) => utf32(`\ufeff${text}`, false),
  "utf-32be": (text) => utf32(text, true),
  "utf-32be, marked": (text) => utf32(`\ufeff${text}`, true),
  "iso-8859-1": (text) => Buffer.from(`\u00e9 ${text} \u00fc`, "latin1"),
  "utf-16le behind a byte": (text) => Buffer.concat([Buffer.from("x"), utf16(text, false)]),
  shift_jis: (text) => Buffer.concat([Buffer.from([0x93, 0xfa, 0x96, 0x7b]), Buffer.from(text)])
}

const packings: Readonly<Record<string, (bytes: Buffer) => Buffer>> = {
  gzip: (bytes) => Zlib.gzipSync(bytes),
  deflate: (bytes) => Zlib.deflateSync(bytes),
  "deflate, raw": (bytes) => Zlib.deflateRawSync(bytes),
  "deflate, stored": (bytes) => Zlib.deflateSync(bytes, { level: 0 }),
  br: (bytes) => Zlib.brotliCompressSync(bytes),
  "gzip, br": (bytes) => Zlib.brotliCompressSync(Zlib.gzipSync(bytes)),
  "gzip, gzip, gzip": (bytes) => Zlib.gzipSync(Zlib.gzipSync(Zlib.gzipSync(bytes))),
  "gzip in two": (bytes) =>
    Buffer.concat([
      Zlib.gzipSync(bytes.subarray(0, bytes.length / 2)),
      Zlib.gzipSync(bytes.subarray(bytes.length / 2))
    ]),
  "gzip, cut off": (bytes) => Zlib.gzipSync(bytes).subarray(0, -9),
  "gzip, and more": (bytes) => Buffer.concat([Zlib.gzipSync(bytes), Buffer.from("more")]),
  "br, cut off": (bytes) => Zlib.brotliCompressSync(bytes).subarray(0, -4)
}

export interface Reflection {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
  /** How the token stands in it. */
  readonly written: string
  /** What it is, for whoever looks for the reason of a failure. */
  readonly name: string
  /** A token that stands there as it is, in a body as it should be: then all but the token is to be passed on. */
  readonly isOrdinary: boolean
}

const statuses = [400, 401, 403, 404, 409, 415, 422, 429, 498, 500, 503, 302]

export const make = (seed: number, token: string): Reflection => {
  const it = random(seed)
  const name = it.chance(0.2) ? "plain" : it.pick(Object.keys(writings))
  const written = writings[name]?.(token, it) ?? token
  const [type, page] = it.pick(pages)
  const text = page(written)
  const alphabet = it.chance(0.4) ? "utf-8" : it.pick(Object.keys(alphabets))
  const packing = it.chance(0.5) ? undefined : it.pick(Object.keys(packings))
  const isLong = it.chance(0.02)
  // The token begins before the mebibyte and ends behind it, in most of these.
  const padded = isLong ? `${"-".repeat(1024 * 1024 - it.below(text.length + 200))}${text}` : text
  const plain = alphabets[alphabet]?.(padded) ?? Buffer.from(padded)
  const body = packing === undefined ? plain : (packings[packing]?.(plain) ?? plain)

  const charset = it.chance(0.8)
    ? alphabet.split(",")[0]
    : it.pick([...Object.keys(alphabets), "utf-16", "ibm037", "x"])
  const label = it.pick(["; charset=#", '; charset="#"', ";charset='#'", "; CHARSET=#", ""]).replace("#", charset ?? "")
  const coding = it.chance(0.7)
    ? packing?.replace(/(, raw| in two|, cut off|, and more|, stored)$/, "")
    : it.pick(["gzip", "deflate", "br", "zstd", "identity", "x-gzip", undefined])
  return {
    status: it.pick(statuses),
    headers: {
      ...(it.chance(0.9) ? { "content-type": `${type}${label}` } : {}),
      ...(coding === undefined ? {} : { "content-encoding": coding }),
      "retry-after": "60",
      etag: '"1"'
    },
    body,
    written,
    name: `${seed}: ${name} in ${type}, ${alphabet} as ${label}, ${packing ?? "not packed"} as ${coding ?? "nothing"}`,
    isOrdinary:
      name === "plain" &&
      alphabet === "utf-8" &&
      !isLong &&
      (packing === undefined || ["gzip", "deflate", "br"].includes(packing))
  }
}

/** Everything that somebody might make of what they were given: its bytes, in any alphabet, packed or not. */
export const readings = (bytes: Buffer): ReadonlyArray<string> => {
  const texts = [bytes.toString("latin1"), bytes.toString("utf8")]
  const decoded = bytes.toString("utf8")
  const others = [utf16(decoded, false), utf16(decoded, true), Buffer.from(decoded, "latin1"), bytes]
  for (const other of others) {
    texts.push(other.toString("latin1"), other.toString("latin1").replaceAll("\0", ""))
    for (const unpack of [Zlib.gunzipSync, Zlib.inflateSync, Zlib.inflateRawSync, Zlib.brotliDecompressSync]) {
      try {
        texts.push(unpack(other).toString("latin1").replaceAll("\0", ""))
      } catch {
        // Not packed like that.
      }
    }
  }
  return texts
}
