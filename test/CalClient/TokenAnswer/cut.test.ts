/** Answers of which the end is missing: what came before counts. */
import * as Zlib from "node:zlib"
import { assert, describe, it } from "vitest"
import * as TokenAnswer from "../../../src/CalClient/TokenAnswer.js"
import {
  access,
  refresh,
  m,
  o,
  without,
  context,
  bytes,
  read,
  granted,
  shown,
  refused,
  whole,
  type Kind
} from "../../support/TokenAnswers.js"

describe("an answer that is cut off", () => {
  const text = { managed: JSON.stringify(m()), oauth2: JSON.stringify(o()) }
  const cut = (kind: Kind, length: number, changes?: Partial<TokenAnswer.Context>) =>
    read(kind, text[kind].slice(0, length), { isWhole: false, ...changes })

  it.each(["managed", "oauth2"] as const)("counts from the end of its refresh token on (%s)", (kind) => {
    const end = text[kind].indexOf(refresh[kind]) + refresh[kind].length + 1
    for (let length = 0; length <= text[kind].length; length++) {
      const reading = cut(kind, length)
      if (length < end) {
        assert.strictEqual(refused(reading), "broke off")
        // A document that says it is whole is damaged, and perhaps no document.
        const damaged = refused(cut(kind, length, { isWhole: true }))
        assert.include(["it is not JSON (secondUser)", "it breaks off (secondUser)"], damaged)
      } else {
        const departures = length < text[kind].length ? ["cutOff"] : []
        assert.deepInclude(shown(reading), whole(kind))
        assert.includeMembers([...granted(reading).departures], departures)
        assert.closeTo(shown(reading).minutes, kind === "managed" ? 59 : 30, 0)
      }
    }
  })

  it("counts from the end of both where the refresh token is first", () => {
    const body = JSON.stringify({ refresh_token: refresh.oauth2, access_token: access.oauth2 })
    const read_ = (length: number) => read("oauth2", body.slice(0, length), { isWhole: false })
    const end = body.indexOf(refresh.oauth2) + refresh.oauth2.length + 1
    for (let length = 0; length <= body.length; length++) {
      if (length < end) assert.strictEqual(refused(read_(length)), "broke off")
      else assert.strictEqual(granted(read_(length)).news, length < body.length - 1 ? "refreshToken" : "pair")
    }
  })

  it("is kept when something in it may be a refresh token", () => {
    const body = JSON.stringify({ renewal: "sixteen-letters-", access_token: access.oauth2 }).slice(0, -1)
    assert.strictEqual(
      refused(read("oauth2", body, { isWhole: false })),
      "it broke off before its refresh token (never)"
    )
  })

  it("has no number that may go on", () => {
    const body = '{"access_token":"opaque-a","refresh_token":"opaque-r","expires_in":18'
    assert.strictEqual(shown(read("oauth2", body, { isWhole: false })).minutes, 5)
    assert.strictEqual(shown(read("oauth2", `${body},`, { isWhole: false })).minutes, 18 / 60)
  })

  it.each([
    ["gzip", Zlib.gzipSync],
    ["deflate", Zlib.deflateSync],
    ["deflate without its head", Zlib.deflateRawSync],
    ["br", Zlib.brotliCompressSync]
  ] as const)("is read in %s as far as it came", (_, encode) => {
    const encoded = encode(bytes(m()))
    let grants = 0
    for (let length = 0; length <= encoded.length; length++) {
      const reading = TokenAnswer.read(encoded.subarray(0, length), context("managed", { isWhole: false }))
      if (reading._tag === "BrokenOff") assert.strictEqual(grants, 0)
      else {
        grants++
        assert.deepInclude(shown(reading), whole("managed"))
      }
    }
    assert.isAbove(grants, 5)
  })

  it("but closed its brackets lost nothing", () => {
    const body = without(o(), "refresh_token")
    assert.strictEqual(granted(read("oauth2", body, { isWhole: false })).news, "accessToken")
    assert.strictEqual(refused(read("oauth2", "<html>", { isWhole: false })), "broke off")
  })
})
