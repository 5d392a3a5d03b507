import { randomBytes, randomUUID } from "node:crypto"
import { FastCheck as fc, Redacted } from "effect"
import { assert, describe, it } from "vitest"
import { reveals } from "../../src/CalHttp/Disclosure.js"
import { scrub } from "../../src/CalHttp/Scrub.js"
import * as Reflections from "../support/Reflections.js"

const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url")
const token = [
  part({ alg: "HS256", typ: "JWT" }),
  part({ type: "access_token", clientId: "cal-client", ownerId: 42, iat: 1800000000 }),
  "k7Jx0cVb2QnLz5RtYpWm8sDfGh3aUeIoXvTq1BwNyZs"
].join(".")
const secrets = [Redacted.make(token)]

describe("a token", () => {
  it("is seen in every piece of twelve letters and digits, and not in less than ten", () => {
    const plain = token.replace(/[^A-Za-z0-9]/g, "")
    for (let at = 0; at + 12 <= plain.length; at++) {
      assert.isTrue(reveals(`found ${plain.slice(at, at + 12)}!`, secrets))
      assert.isFalse(reveals(plain.slice(at, at + 9), secrets))
    }
  })

  it.each(Object.entries(Reflections.writings))("is seen where it is written: %s", (_, write) => {
    for (let seed = 0; seed < 20; seed++) {
      const written = write(token, Reflections.random(seed))
      assert.isTrue(reveals(written, secrets))
      assert.isTrue(reveals(JSON.stringify({ error: { message: `No client for ${written}` } }), secrets))
      if (/[^\x00-\x7f]/.test(written)) continue
      // Read as UTF-16 by mistake.
      const wide = Buffer.from(written.length % 2 === 0 ? written : `${written} `)
      assert.isTrue(reveals(wide.toString("utf16le"), secrets))
      assert.isTrue(reveals(wide.swap16().toString("utf16le"), secrets))
    }
  })

  it("is in no text that has nothing to do with it", () => {
    for (const text of [
      '{"status":"error","error":{"code":"UnauthorizedException","message":"Invalid Access Token."}}',
      "PermissionsGuard - no oAuth client found for access token=<redacted>",
      "ApiAuthStrategy - access token - Invalid request origin - please open https://app.cal.com/settings/platform",
      "%7B%22error%22%3A%22not+found%22%7D \\u00e9 &#8217; =C3=A9 привет 予約"
    ]) {
      assert.isFalse(reveals(text, secrets), text)
    }
    for (let i = 0; i < 500; i++) {
      assert.isFalse(reveals(`${randomUUID()} ${randomBytes(200).toString("hex")} ${1_800_000_000_000 + i}`, secrets))
      assert.isFalse(reveals(randomBytes(500).toString("base64"), secrets))
    }
    fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => assert.isFalse(reveals(text, secrets))))
  })

  it("that is short is looked for as it is", () => {
    const short = [Redacted.make("t.k-1!$"), Redacted.make("")]
    assert.isTrue(reveals("x t.k-1!$ y", short))
    assert.isFalse(reveals("tk1", short))
    assert.isFalse(reveals("", short))
  })

  it("takes the words with it that it cannot be taken out of", () => {
    assert.strictEqual(scrub(`refused: ${token}`, secrets), "refused: <redacted>")
    for (const written of [Buffer.from(token).toString("hex"), [...token].join(" "), token.slice(-20)]) {
      assert.strictEqual(scrub(`refused: ${written}`, secrets), "<redacted>")
    }
  })
})
