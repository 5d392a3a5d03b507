/** Texts that stay the same while the process runs: compressed once, and sent to nobody who has them. */
import { createHash } from "node:crypto"
import { promisify } from "node:util"
import * as Zlib from "node:zlib"
import { type Headers, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Effect } from "effect"

const gzip = promisify(Zlib.gzip)

/** The answer to whoever asks. */
export type Constant = Effect.Effect<HttpServerResponse.HttpServerResponse, never, HttpServerRequest.HttpServerRequest>

export const make = (
  text: string,
  contentType: string,
  headers: Record<string, string> = {}
): Effect.Effect<Constant> =>
  Effect.map(
    Effect.promise(() => gzip(text, { level: 9 })),
    (gzipped) => {
      const tag = createHash("sha256").update(text).digest("base64url").slice(0, 22)
      const form = (body: Uint8Array, etag: string, more: Record<string, string> = {}) => ({
        etag,
        whole: HttpServerResponse.uint8Array(body, { contentType, headers: { ...common, ...more, etag } }),
        same: HttpServerResponse.empty({ status: 304, headers: { ...common, etag } })
      })
      const common = { ...headers, "cache-control": "no-cache", vary: "accept-encoding" }
      const plain = form(Buffer.from(text), `"${tag}"`)
      const packed = form(gzipped, `"${tag}-gzip"`, { "content-encoding": "gzip" })
      return Effect.map(HttpServerRequest.HttpServerRequest, ({ headers }) => {
        const { etag, same, whole } = takesGzip(headers) ? packed : plain
        return has(headers, etag) ? same : whole
      })
    }
  )

const listed = (header: string | undefined) => (header ?? "").split(",").map((item) => item.trim().toLowerCase())

export const takesGzip = (headers: Headers.Headers) =>
  listed(headers["accept-encoding"]).some((item) => gzipTaken.test(item))

/** With no weight, or one above 0 (RFC 9110, 12.5.3). */
const gzipTaken = /^(?:x-)?gzip(?:\s*;\s*q=(?!0(?:\.0*)?$)[\d.]+)?$/

/** Compared weakly, as RFC 9110, 13.1.2 has it: a proxy on the way may have packed it anew. */
const has = (headers: Headers.Headers, etag: string) =>
  (headers["if-none-match"] ?? "")
    .split(",")
    .map((item) => item.trim().replace(/^W\//, ""))
    .some((item) => item === "*" || item === etag)

/** Made when somebody asks for it. Whoever gives up while it is made spoils it for nobody. */
export const lazily = <E>(make: Effect.Effect<Constant, E>) =>
  Effect.map(Effect.cached(Effect.uninterruptible(make)), Effect.flatten)
