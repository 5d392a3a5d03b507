import * as Zlib from "node:zlib"
import { FastCheck as fc, Option } from "effect"
import { assert, describe, it } from "vitest"
import * as Decoding from "../../src/CalHttp/Decoding.js"

const text = (bytes: Uint8Array) =>
  Option.getOrUndefined(Option.map(Decoding.text(bytes), (found) => Buffer.from(found).toString()))

const encodings = [
  ["gzip", Zlib.gzipSync],
  ["deflate", Zlib.deflateSync],
  ["deflate without its head", Zlib.deflateRawSync],
  ["br", Zlib.brotliCompressSync]
] as const

const message = JSON.stringify({ error: { message: "Invalid Access Token." }, path: "/v2/me?привет=1" })

describe("a body", () => {
  it("that is text is itself, whatever it says", () => {
    const samples = fc.string({ unit: "grapheme" }).map((sample) => sample.replace(/[\x00-\x1f\x7f]/g, " "))
    fc.assert(fc.property(samples, (sample) => assert.strictEqual(text(Buffer.from(sample)), sample)))
    assert.strictEqual(text(new Uint8Array()), "")
  })

  it("that breaks off within a character is text", () => {
    const bytes = Buffer.from("x🗝")
    for (let length = 1; length <= bytes.length; length++) assert.isDefined(text(bytes.subarray(0, length)))
  })

  it.each(encodings)("in %s is decoded, once and twice, whole and as far as it came", (_, encode) => {
    const encoded = encode(message)
    assert.strictEqual(text(encoded), message)
    assert.strictEqual(text(Zlib.gzipSync(encoded)), message)
    const part = text(encoded.subarray(0, encoded.length - 12))
    assert(part !== undefined && part.length > 0)
    assert.isTrue(message.startsWith(part.replace(/\ufffd+$/, "")))
  })

  it("is not decoded for ever", () => {
    assert.isUndefined(text(Zlib.gzipSync(Zlib.gzipSync(Zlib.gzipSync(message)))))
  })

  it.each(encodings)("that grows beyond a mebibyte in %s is none", (_, encode) => {
    assert.isUndefined(text(encode(Buffer.alloc(1024 * 1024 + 1, "x"))))
    assert.strictEqual(text(encode(Buffer.alloc(1024 * 1024, "x")))?.length, 1024 * 1024)
  })

  it("that is neither text nor encoded text is none", () => {
    assert.isUndefined(text(Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0])))
    assert.isUndefined(text(Zlib.gzipSync(Buffer.from([0, 1, 2, 3]))))
  })
})
