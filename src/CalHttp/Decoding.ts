/**
 * Bodies that are encoded although nobody asked for it. The header is not what decides: some HTTP clients hand out a
 * decoded body under the header that it came with, some proxies encode and say nothing. So the bytes are tried, first as
 * they are.
 */
import * as Zlib from "node:zlib"
import type { Headers } from "@effect/platform"
import { Option } from "effect"

/** What a few bytes may become; more is a mistake or an attack. */
const maxOutputLength = 1024 * 1024

/** An encoding within another one is a known mishap of proxies; three of them are not. */
const maxLayers = 2

/** `deflate` is the second and the last: servers never agreed which. `flush`: the beginning of a body is enough. */
const decoders: ReadonlyArray<(bytes: Uint8Array, flush: boolean) => Uint8Array> = [
  (bytes, flush) => Zlib.gunzipSync(bytes, zlib(flush)),
  (bytes, flush) => Zlib.inflateSync(bytes, zlib(flush)),
  (bytes, flush) =>
    Zlib.brotliDecompressSync(bytes, {
      maxOutputLength,
      ...(flush ? { finishFlush: Zlib.constants.BROTLI_OPERATION_FLUSH } : {})
    }),
  (bytes, flush) => Zlib.inflateRawSync(bytes, zlib(flush))
]

const zlib = (flush: boolean): Zlib.ZlibOptions => ({
  maxOutputLength,
  ...(flush ? { finishFlush: Zlib.constants.Z_SYNC_FLUSH } : {})
})

/** What comes to its end first: of a beginning, some decoder makes something by chance. */
function* decoded(bytes: Uint8Array, isWhole: boolean): Generator<Uint8Array> {
  const beginnings: Array<Uint8Array> = []
  for (const decode of decoders) {
    const attempt = Option.liftThrowable((flush: boolean) => decode(bytes, flush))
    const whole = attempt(false)
    // Some bytes begin with the end of an empty body, by chance.
    if (Option.isSome(whole) && (whole.value.length > 0 || !isWhole)) yield whole.value
    else if (!isWhole) beginnings.push(...Option.toArray(Option.filter(attempt(true), ({ length }) => length > 0)))
  }
  yield* beginnings
}

/**
 * What the bytes may mean, likeliest first: themselves, then what every decoding that works makes of them. `isWhole`: they
 * are no beginning.
 */
export function* meanings(bytes: Uint8Array, isWhole = false, layers = maxLayers): Generator<Uint8Array> {
  yield bytes
  if (layers === 0) return
  // Nothing that can be read is encoded.
  if (isText(bytes)) return
  for (const inner of decoded(bytes, isWhole)) yield* meanings(inner, isWhole, layers - 1)
}

/** Control characters that no text has. */
const control = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/

/** The bytes as text, if that is what they are. */
const textOf = Option.liftThrowable((bytes: Uint8Array) => new TextDecoder("utf-8", { fatal: true }).decode(bytes))

/** A body may have been cut off within a character: the rest of one does not make it something else. */
const isText = (bytes: Uint8Array): boolean =>
  [0, 1, 2, 3].some(
    (cut) =>
      (cut === 0 || cut < bytes.length) &&
      Option.exists(textOf(bytes.subarray(0, bytes.length - cut)), (text) => !control.test(text))
  )

/** The bytes of a body that is text, without its encodings; `None` if no decoding makes text of it. */
export const text = (bytes: Uint8Array): Option.Option<Uint8Array> => {
  for (const meaning of meanings(bytes)) if (isText(meaning)) return Option.some(meaning)
  return Option.none()
}

/** A body that is text. `others`: what somebody may make of it who does not believe in the alphabet that it is said to be in. */
export interface Readable {
  readonly text: string
  readonly others: ReadonlyArray<Uint8Array>
}

/**
 * A whole body as text: UTF-8 under whatever encodings, or in the alphabet that a mark or the headers name. `None` if there
 * is no telling what it says.
 */
export const readable = (bytes: Uint8Array, headers: Headers.Headers): Option.Option<Readable> => {
  const all = [...meanings(bytes, true)]
  const plain = all.find(isText)
  if (plain !== undefined) return Option.some({ text: new TextDecoder().decode(plain), others: [] })
  const isEncoded = !/^(?:identity)?$/i.test(headers["content-encoding"] ?? "")
  for (let index = isEncoded ? 1 : 0; index < (isEncoded ? all.length : 1); index++) {
    const text = inAlphabet(all[index] ?? bytes, headers["content-type"] ?? "")
    if (Option.isSome(text)) return Option.some({ text: text.value, others: all.slice(index + 1) })
  }
  return Option.none()
}

/** Those that Latin letters are found in. Others are read as none of Cal.com's business. */
const alphabets: ReadonlySet<string> = new Set(["utf-8", "utf-16le", "utf-16be", "windows-1252"])

const inAlphabet = Option.liftThrowable((bytes: Uint8Array, contentType: string): string => {
  const [first, second] = bytes
  const marked =
    first === 0xff && second === 0xfe ? "utf-16le" : first === 0xfe && second === 0xff ? "utf-16be" : undefined
  const named = /;\s*charset\s*=\s*["']?([\w:.-]+)/i.exec(contentType)?.[1]
  const decoder = new TextDecoder(marked ?? named ?? "utf-8", { fatal: true })
  const text = decoder.decode(bytes)
  if (!alphabets.has(decoder.encoding) || control.test(text)) throw new Error("no text")
  return text
})
