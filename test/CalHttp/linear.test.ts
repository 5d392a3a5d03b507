/** What comes from outside decides by its length alone how long it takes to read. */
import { Headers } from "@effect/platform"
import { Effect, Option, Redacted } from "effect"
import { assert, describe, it } from "vitest"
import * as Wire from "../../src/CalClient/Wire.js"
import * as Decoding from "../../src/CalHttp/Decoding.js"
import { reveals } from "../../src/CalHttp/Disclosure.js"
import * as Refusal from "../../src/CalHttp/Refusal.js"
import { replaceSecrets, scrub, scrubJson } from "../../src/CalHttp/Scrub.js"
import * as ReturnUrls from "../../src/ConnectFlow/ReturnUrls.js"
import * as TokenInput from "../../src/TokenInput.js"
import { bytes, jwt, read } from "../support/TokenAnswers.js"

const mebibyte = 1024 * 1024
const of = (piece: string, length: number) => piece.repeat(Math.ceil(length / piece.length)).slice(0, length)

/** Beginnings of what the readers look for, over and over, and never the end of it. */
const pieces = [
  "eyJ-",
  "eyJa.",
  "eyJ.eyJ",
  "a",
  "A1",
  "=",
  "a b",
  " ",
  "\0",
  "\n",
  "/",
  ";",
  "?#",
  "0",
  "-0",
  "\\",
  "\\u{",
  "%25",
  "&#x0;",
  "\uff21",
  "Required: A, ",
  '{"data":',
  '{"a":"',
  "[",
  '"\\"',
  "<script>"
]
const inside = (text: string) => JSON.stringify({ error: { message: `insufficient_scope: ${text}` } })

const secrets = [Redacted.make(`${jwt({ a: 1 })}`), Redacted.make(of("a", 800)), Redacted.make(of("eyJ-", 400))]

const readers: Record<string, (text: string) => unknown> = {
  scrub: (text) => scrub(text, secrets),
  "scrub, without secrets": (text) => scrub(text),
  scrubJson: (text) => scrubJson(JSON.stringify({ [text]: text })),
  replaceSecrets: (text) => replaceSecrets(text, secrets),
  reveals: (text) => reveals(text, secrets),
  "a refusal": (text) => Refusal.isTokenRefusal(403, inside(text)),
  "missing scopes": (text) => Refusal.missingScopesOf(403, inside(text)),
  "an error": (text) => Wire.errorText(Wire.errorBody(Option.some(Redacted.make(inside(text))))),
  "a body": (text) =>
    Decoding.readable(
      Buffer.from(text),
      Headers.fromInput({ "content-type": `text/plain; charset=${of(text, 8192)}` })
    ),
  "a token answer": (text) => read("managed", bytes(text)),
  "a token answer that was cut": (text) => read("oauth2", bytes(`{"data":{"refresh_token":"${text}`)),
  "a return URL": (text) => Effect.runSyncExit(ReturnUrls.check(["https://a.example/"], `https://a.example/?${text}`)),
  "a token": (text) => Effect.runSyncExit(TokenInput.token("accessToken", text)),
  "an instant": (text) => TokenInput.parseInstant(text)
}

/** Far above what any of these takes, far below what two nested loops over the text would. */
const limit = 2000

const timeOf = (read: () => unknown) => {
  const began = performance.now()
  read()
  return performance.now() - began
}

describe("what comes from outside decides by its length alone how long it takes", () => {
  it.each(Object.entries(readers))("%s", { timeout: 60_000 }, (_, read) => {
    for (const piece of pieces)
      assert.isBelow(
        timeOf(() => read(of(piece, mebibyte / 8))),
        limit,
        JSON.stringify(piece)
      )
  })

  it("words that are shown: a beginning is read", { timeout: 60_000 }, () => {
    for (const piece of pieces)
      assert.isBelow(
        timeOf(() => scrub(of(piece, mebibyte), secrets)),
        limit,
        piece
      )
  })
})

describe("the beginning of words that are too long", () => {
  const secret = jwt({ a: 1 })

  it.each([[[]], [[Redacted.make(secret)]]])("does not end with half a secret", (secrets) => {
    for (let cut = 1; cut < secret.length; cut++) {
      const words = `${"eyJa.".padEnd(16 * 1024 - 1 - cut, "b")} ${secret} and so on`
      assert.strictEqual(scrub(words, secrets), "<redacted>…")
    }
  })

  it("is what is shown of them", () => {
    assert.strictEqual(scrub(of("well, ", mebibyte)), `${of("well, ", 299)}…`)
    assert.strictEqual(scrub("eyJafjallajökull erupts. It is a volcano"), "eyJafjallajökull erupts. It is a volcano")
  })
})
