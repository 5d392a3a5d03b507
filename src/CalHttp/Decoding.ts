/**
 * Bodies that are encoded although nobody asked for it. The header is not what decides: some HTTP clients hand out a
 * decoded body under the header that it came with, some proxies encode and say nothing. So the bytes are tried, first as
 * they are.
 */
import * as Zlib from "node:zlib"
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
function* decoded(bytes: Uint8Array): Generator<Uint8Array> {
  const beginnings: Array<Uint8Array> = []
  for (const decode of decoders) {
    const attempt = Option.liftThrowable((flush: boolean) => decode(bytes, flush))
    const whole = attempt(false)
    if (Option.isSome(whole)) yield whole.value
    else beginnings.push(...Option.toArray(Option.filter(attempt(true), ({ length }) => length > 0)))
  }
  yield* beginnings
}

/** What the bytes may mean, likeliest first: themselves, then what every decoding that works makes of them. */
export function* meanings(bytes: Uint8Array, layers = maxLayers): Generator<Uint8Array> {
  yield bytes
  if (layers === 0) return
  // Nothing that can be read is encoded.
  if (isText(bytes)) return
  for (const inner of decoded(bytes)) yield* meanings(inner, layers - 1)
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
