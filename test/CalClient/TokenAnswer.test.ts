/** What is taken from an answer, and what is not: what must not be taken is tried as hard as what must. */
import * as Zlib from "node:zlib"
import { Redacted } from "effect"
import { assert, describe, it } from "vitest"
import * as TokenAnswer from "../../src/CalClient/TokenAnswer.js"
import { hash } from "../../src/Token.js"
import {
  now,
  minute,
  year,
  jwt,
  token,
  before,
  stored,
  sent,
  access,
  refresh,
  fields,
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
} from "../support/TokenAnswers.js"

describe("an answer of the contract", () => {
  it("of a managed user", () => {
    const grant = granted(read("managed", m()))
    assert.deepStrictEqual(shown(read("managed", m())), { ...whole("managed"), minutes: 59, departures: [] })
    assert.strictEqual(grant.pair.issuedAt, now)
    assert.strictEqual(grant.pair.refreshTokenExpiresAt, now + year)
    assert.strictEqual(grant.calUserId, 7)
    assert.notProperty(grant, "scope")
  })

  it("of OAuth2", () => {
    const grant = granted(read("oauth2", o()))
    assert.deepStrictEqual(shown(read("oauth2", o())), { ...whole("oauth2"), minutes: 30, departures: [] })
    assert.notProperty(grant.pair, "refreshTokenExpiresAt")
    assert.strictEqual(grant.calUserId, 7)
    assert.strictEqual(grant.scope, "BOOKING_READ")
  })

  it("with tokens that say nothing about themselves", () => {
    const body = { access_token: "opaque-access", refresh_token: "opaque-refresh", expires_in: 90 }
    const grant = granted(read("oauth2", body))
    assert.strictEqual(Redacted.value(grant.pair.refreshToken), "opaque-refresh")
    assert.strictEqual(grant.pair.accessTokenExpiresAt, now + 90_000)
    assert.notProperty(grant, "calUserId")
  })

  it("with a scope in the form of the claims", () => {
    assert.strictEqual(granted(read("oauth2", o({ scope: ["A", "B"] }))).scope, "A B")
    assert.notProperty(granted(read("oauth2", o({ scope: { a: 1 } }))), "scope")
    // What no database keeps, or nobody needs, must not keep the tokens from being stored.
    for (const scope of ["A\0B", ["A", "\0"], "é", "A ".repeat(1025), `${"A".repeat(500_000)}`]) {
      assert.notProperty(granted(read("oauth2", o({ scope }))), "scope")
    }
  })

  it("with tokens of the greatest length", () => {
    const long = "x".repeat(8192)
    assert.strictEqual(shown(read("oauth2", o({ refresh_token: long }))).refresh, long)
  })
})

describe("a pair is found", () => {
  const text = JSON.stringify(o())
  const bare = without(o(), "access_token", "refresh_token")
  const named = (accessName: string, refreshName: string) => ({
    ...bare,
    [accessName]: access.oauth2,
    [refreshName]: refresh.oauth2
  })
  it.each<readonly [what: string, kind: Kind, body: unknown, departures: ReadonlyArray<string>]>([
    ["under data", "oauth2", { data: o() }, ["wrapped"]],
    ["under data twice", "oauth2", { data: { data: o() } }, ["wrapped"]],
    ["at the top", "managed", m().data, ["wrapped"]],
    ["under data twice", "managed", { data: m() }, ["wrapped"]],
    ["under DATA", "managed", { DATA: m().data }, []],
    ["as the other contract has it", "managed", fields.oauth2("managed"), ["wrapped", "renamed", "expiry"]],
    ["as the other contract has it", "oauth2", { data: fields.managed("oauth2") }, ["wrapped", "renamed", "expiry"]],
    ["in the other spelling", "managed", { data: fields.oauth2("managed") }, ["renamed", "expiry"]],
    ["in the other spelling", "oauth2", fields.managed("oauth2"), ["renamed", "expiry"]],
    ["in kebab case", "oauth2", named("access-token", "refresh-token"), ["renamed"]],
    ["in upper case", "oauth2", named("ACCESS_TOKEN", "REFRESH_TOKEN"), ["renamed"]],
    ["in Pascal case", "oauth2", named("AccessToken", "RefreshToken"), ["renamed"]],
    ["in the case of headers", "oauth2", named("Access-Token", "Refresh-Token"), ["renamed"]],
    ["in two spellings", "oauth2", named("access_token", "refreshToken"), ["renamed"]],
    ["twice, and the same", "oauth2", { ...o({ accessToken: access.oauth2 }), data: o() }, []],
    [
      "in two halves",
      "oauth2",
      { ...without(o(), "refresh_token"), data: { refresh_token: refresh.oauth2 } },
      ["wrapped"]
    ],
    ["beside an error that is null", "oauth2", o({ error: null }), []],
    ["beside details", "oauth2", o({ details: { refresh_token: "some-other-token-1" }, errors: ["some"] }), []],
    ["beside an ID token", "oauth2", o({ id_token: jwt({ nonce: "n", aud: "K" }) }), []],
    ["beside a token of another name", "oauth2", o({ device_token: "an-opaque-token-0001" }), []],
    [
      "beside tokens that are wrapped too deep",
      "oauth2",
      o({ old: { access_token: "a-1", refresh_token: "r-1" } }),
      []
    ],
    ["beside an echo of what was sent", "oauth2", o({ refreshToken: sent("oauth2") }), []],
    ["beside an older access token", "oauth2", o({ accessToken: token("oauth2", "access", {}, before - 60_000) }), []],
    ["beside a token that is another kind", "oauth2", o({ accessToken: token("oauth2", "refresh") }), []],
    ["after a byte order mark and among white space", "oauth2", `\ufeff\r\n${JSON.stringify(o(), null, 2)}\n\n`, []],
    ["beside names of other alphabets", "oauth2", o({ "ключ-ключ-ключ": "значение", "🔑": "🗝" }), []],
    ["beside fields of every type", "oauth2", o({ a: -1.5e3, b: [true, null, { c: "" }], d: {}, e: [], f: false }), []],
    ["with escapes", "oauth2", text.replace("access_token", "access\\u005ftoken").replaceAll(".", "\\u002e"), []]
  ])("%s (%s)", (_, kind, body, departures) => {
    const { access, departures: seen, news, refresh } = shown(read(kind, body))
    assert.deepStrictEqual({ access, news, refresh }, whole(kind))
    assert.deepStrictEqual(seen, departures)
  })

  it.each<readonly [what: string, encode: (bytes: Uint8Array) => Uint8Array]>([
    ["gzip", (body) => Zlib.gzipSync(body)],
    ["deflate", (body) => Zlib.deflateSync(body)],
    ["deflate without its head", (body) => Zlib.deflateRawSync(body)],
    ["br", (body) => Zlib.brotliCompressSync(body)],
    ["gzip within gzip", (body) => Zlib.gzipSync(Zlib.gzipSync(body))],
    ["br within gzip", (body) => Zlib.gzipSync(Zlib.brotliCompressSync(body))]
  ])("in %s", (_, encode) => {
    for (const kind of ["managed", "oauth2"] as const) {
      const reading = TokenAnswer.read(encode(bytes(kind === "managed" ? m() : o())), context(kind))
      assert.deepInclude(shown(reading), { ...whole(kind), departures: ["encoded"] })
    }
  })
})

describe("a refresh token without an access token", () => {
  it.each(["managed", "oauth2"] as const)("is kept beside the stored one, which ends when it did (%s)", (kind) => {
    const body = kind === "managed" ? m({ accessToken: undefined }) : o({ access_token: null })
    const { pair, ...grant } = granted(read(kind, body))
    assert.strictEqual(grant.news, "refreshToken")
    assert.deepStrictEqual(grant.departures, ["noAccessToken"])
    assert.strictEqual(Redacted.value(pair.refreshToken), refresh[kind])
    assert.strictEqual(pair.accessToken, stored[kind].accessToken)
    assert.strictEqual(pair.accessTokenExpiresAt, stored[kind].accessTokenExpiresAt)
    assert.strictEqual(pair.issuedAt, stored[kind].issuedAt)
    assert.strictEqual(pair.refreshTokenExpiresAt, kind === "managed" ? now + year : undefined)
  })

  it.each([
    ["is not a token", "no token"],
    ["is a refresh token", token("oauth2", "refresh")],
    ["is an ID token", jwt({ at_hash: "h", userId: 7, clientId: "K" })],
    ["is too old", token("oauth2", "access", {}, before - 60_000)],
    ["is too long", "x".repeat(8193)],
    ["is a number", 5]
  ])("is one whose access token %s", (_, access_token) => {
    assert.strictEqual(granted(read("oauth2", o({ access_token }))).news, "refreshToken")
  })

  it("is one whose access token is the refresh token that was sent", () => {
    const body = { access_token: "opaque-sent", refresh_token: "opaque-new" }
    const grant = granted(read("oauth2", body, { sent: Redacted.make("opaque-sent") }))
    assert.strictEqual(grant.news, "refreshToken")
    assert.strictEqual(Redacted.value(grant.pair.refreshToken), "opaque-new")
  })

  it("is of no use where none is stored", () => {
    const changes = { stored: undefined, sent: undefined }
    assert.strictEqual(refused(read("oauth2", o({ access_token: null }), changes)), "it holds no access token (now)")
  })
})

describe("an access token without a refresh token", () => {
  const alone = (changes: object = {}) => ({ ...without(o(), "refresh_token"), ...changes })
  const open = "no refresh token can be told from its other texts (now)"

  it.each([
    ["there is none", {}],
    ["it is null", { refresh_token: null }],
    ["it is empty", { refresh_token: "" }],
    ["it is the one that was sent", { refresh_token: sent("oauth2") }],
    ["it is one that is kept", { refresh_token: "a-fallback-of-the-row" }],
    ["an error quotes one", { errors: [{ refresh_token: "some-refresh-token-1" }] }],
    ["the request is quoted", { request: { refresh_token: sent("oauth2"), client_secret: "a-secret-of-20-chars" } }],
    ["other texts are short", { session: "fifteen-letters" }],
    ["other texts have spaces", { motd: "sixteen letters and more" }],
    [
      "other texts are known fields",
      { id_token: "some-opaque-id-token", client_id: "K", status: "a-status-of-length" }
    ],
    ["other texts are instants", { at: "2026-03-14T09:26:53.589Z" }],
    ["other texts are addresses", { next: "https://app.cal.com/settings/security" }],
    ["other texts are claims of the same", { token: access.oauth2, old: Redacted.value(stored.oauth2.accessToken) }],
    ["other texts are tokens of another kind", { token: token("oauth2", "access"), id: jwt({ nonce: "n" }) }],
    ["other texts are tokens of somebody else", { token: token("oauth2", "refresh", { userId: 8 }) }]
  ])("leaves the sent one in use when %s", (_, changes) => {
    const reading = read("oauth2", alone(changes), { known: [hash(Redacted.make("a-fallback-of-the-row"))] })
    assert.deepStrictEqual(shown(reading), {
      news: "accessToken",
      access: access.oauth2,
      refresh: sent("oauth2"),
      minutes: 30,
      departures: ["noRefreshToken"]
    })
    assert.strictEqual(granted(reading).pair.refreshTokenExpiresAt, before + year)
  })

  it.each([
    ["a text under another name could be it", { token: "sixteen-letters-" }],
    ["one deep inside could be it", { a: [{ b: { c: "sixteen-letters-" } }] }],
    ["one that is wrapped too deep could be it", { data: { data: { data: { refresh_token: "sixteen-letters-" } } } }],
    ["a JWT under another name could be it", { token: refresh.oauth2 }],
    ["its refresh token cannot be sent", { refresh_token: "with space" }],
    ["its refresh token is too long", { refresh_token: "x".repeat(8193) }],
    ["its refresh token is an object", { refresh_token: { value: "sixteen-letters-" } }],
    ["its refresh token is in a list", { refresh_token: ["sixteen-letters-"] }],
    ["its refresh token is an access token", { refresh_token: token("oauth2", "access") }],
    [
      "its refresh token is older than the one that was sent",
      { refresh_token: token("oauth2", "refresh", {}, before - 60_000) }
    ]
  ])("is kept, and the answer too, when %s", (_, changes) => {
    const reading = read("oauth2", alone(changes))
    assert.deepStrictEqual(shown(reading), {
      news: "accessToken",
      access: access.oauth2,
      refresh: sent("oauth2"),
      minutes: 30,
      departures: ["noRefreshToken"],
      unread: open
    })
    const kept = granted(reading).unread?.bytes
    assert.deepStrictEqual(kept && Buffer.from(Redacted.value(kept)), bytes(alone(changes)))
  })

  it("is kept beside the stored one after a reissue, which left none in use", () => {
    const reading = read("managed", m({ refreshToken: null }), { sent: undefined })
    assert.deepInclude(shown(reading), {
      news: "accessToken",
      refresh: sent("managed"),
      unread: "it holds no refresh token (now)"
    })
  })

  it("is no use where none was sent or stored", () => {
    const changes = { stored: undefined, sent: undefined }
    assert.strictEqual(refused(read("oauth2", alone(), changes)), "it holds no refresh token (now)")
  })

  it("is no news when it is the stored one", () => {
    const body = alone({ access_token: Redacted.value(stored.oauth2.accessToken) })
    assert.strictEqual(refused(read("oauth2", body)), "it holds no token that is new (now)")
  })
})

describe("nothing is taken", () => {
  const none = "it holds no token that is new (now)"
  const other = "its tokens name another Cal.com user (secondUser)"
  const error = "it names an error although its status says success (now)"
  const notJson = "it is not JSON (secondUser)"
  const page = `<!doctype html><script>window.pair = ${JSON.stringify(o())}</script>`
  const renamed = { token: access.oauth2, renewal: refresh.oauth2, expires_in: 1800 }
  it.each<readonly [what: string, kind: Kind, body: unknown, refusal: string]>([
    ["names that say something else", "oauth2", renamed, none],
    ["tokens wrapped in another name", "oauth2", { result: o() }, none],
    ["tokens wrapped three times", "oauth2", { data: { data: { data: o() } } }, none],
    ["tokens in a list", "oauth2", [o()], none],
    ["tokens in a list under data", "managed", { data: [m().data] }, none],
    ["tokens within a text", "oauth2", { data: JSON.stringify(o()) }, none],
    ["no fields", "managed", {}, none],
    ["no data", "managed", { status: "success", data: null }, none],
    ["an empty text", "oauth2", '""', none],
    ["tokens under error", "oauth2", { error: o() }, error],
    ["tokens under errors", "oauth2", { errors: o() }, none],
    ["tokens under details", "oauth2", { details: o() }, none],
    ["tokens under target", "oauth2", { target: o() }, none],
    ["tokens under request", "oauth2", { request: o() }, none],
    ["tokens under data of an error", "managed", { error: { data: m().data } }, error],
    ["a pair beside an error", "oauth2", o({ error: "invalid_grant" }), error],
    ["a pair beside an empty error", "oauth2", o({ error: "" }), error],
    ["a pair beside an error that is false", "oauth2", o({ error: false }), error],
    ["a pair beside an error within", "managed", m({ error: { message: "no" } }), error],
    ["a pair beside an error around", "managed", { ...m(), Error: {} }, error],
    [
      "two refresh tokens",
      "oauth2",
      o({ refreshToken: token("oauth2", "refresh") }),
      "it holds two different refresh tokens (now)"
    ],
    [
      "two access tokens",
      "oauth2",
      o({ accessToken: token("oauth2", "access") }),
      "it holds two different access tokens (now)"
    ],
    [
      "two refresh tokens at two places",
      "managed",
      { ...m(), refreshToken: token("managed", "refresh") },
      "it holds two different refresh tokens (now)"
    ],
    [
      "two of one name",
      "oauth2",
      JSON.stringify(o()).replace("{", '{"refresh_token":"another-token",'),
      "it holds two different refresh tokens (now)"
    ],
    [
      "one token for both",
      "oauth2",
      { access_token: "the-same-token", refresh_token: "the-same-token" },
      "its access token and refresh token are one (now)"
    ],
    [
      "tokens of another client",
      "oauth2",
      o({
        access_token: token("oauth2", "access", { clientId: "K2" }),
        refresh_token: token("oauth2", "refresh", { clientId: "K2" })
      }),
      "its tokens are another client's (now)"
    ],
    [
      "an access token of another client",
      "managed",
      m({ accessToken: token("managed", "access", { clientId: "C2" }) }),
      "its tokens are another client's (now)"
    ],
    [
      "a refresh token of another client",
      "managed",
      m({ refreshToken: token("managed", "refresh", { clientId: "C2" }) }),
      "its tokens are another client's (now)"
    ],
    [
      "tokens of another user",
      "managed",
      m({
        accessToken: token("managed", "access", { ownerId: 8 }),
        refreshToken: token("managed", "refresh", { ownerId: 8 })
      }),
      other
    ],
    ["an access token of another user", "oauth2", o({ access_token: token("oauth2", "access", { userId: 8 }) }), other],
    [
      "a refresh token of another user",
      "oauth2",
      o({ refresh_token: token("oauth2", "refresh", { userId: 8 }) }),
      other
    ],
    ["a user in digits", "oauth2", o({ refresh_token: token("oauth2", "refresh", { userId: "8" }) }), other],
    ["one token with two users", "managed", m({ accessToken: token("managed", "access", { userId: 8 }) }), other],
    [
      "the pair that was there",
      "oauth2",
      { access_token: Redacted.value(stored.oauth2.accessToken), refresh_token: sent("oauth2"), expires_in: 1 },
      none
    ],
    [
      "an answer of long ago",
      "oauth2",
      {
        access_token: token("oauth2", "access", {}, before - minute),
        refresh_token: token("oauth2", "refresh", {}, before - minute),
        expires_in: 1800
      },
      none
    ],
    [
      "the sent refresh token under both names",
      "oauth2",
      { access_token: sent("oauth2"), refresh_token: sent("oauth2") },
      none
    ],
    [
      "tokens that are each other",
      "oauth2",
      { access_token: refresh.oauth2, refresh_token: access.oauth2, expires_in: 1800 },
      none
    ],
    ["an ID token alone", "oauth2", { id_token: jwt({ nonce: "n", sub: "7" }), token_type: "bearer" }, none],
    [
      "an ID token as access token",
      "oauth2",
      { access_token: token("oauth2", "access", { token_type: "ID Token" }) },
      none
    ],
    ["a token with two kinds", "oauth2", { access_token: token("oauth2", "access", { type: "refresh_token" }) }, none],
    ["a maintenance page", "managed", "<html><body>Back soon</body></html>", notJson],
    ["a page with JSON in it", "oauth2", page, notJson],
    ["JSON with something after it", "oauth2", `${JSON.stringify(o())}<!-- cached -->`, notJson],
    ["JSON with something before it", "oauth2", `)]}',\n${JSON.stringify(o())}`, notJson],
    ["two documents", "oauth2", `${JSON.stringify(o())}\n${JSON.stringify(o())}`, notJson],
    [
      "a form",
      "oauth2",
      new URLSearchParams({ access_token: access.oauth2, refresh_token: refresh.oauth2 }).toString(),
      notJson
    ],
    ["JSON with a comment", "oauth2", JSON.stringify(o()).replace("{", "{/* new */"), notJson],
    ["JSON with single quotation marks", "oauth2", JSON.stringify(o()).replaceAll('"', "'"), notJson],
    ["plain text", "oauth2", "OK", notJson],
    ["nothing", "managed", "", notJson],
    ["white space", "managed", " \n", notJson]
  ])("of %s (%s)", (_, kind, body, refusal) => {
    const reading = read(kind, body)
    assert.strictEqual(refused(reading), refusal)
    assert(reading._tag === "Unreadable")
    assert.deepStrictEqual(Buffer.from(Redacted.value(reading.answer.bytes)), bytes(body))
  })

  it("of an encoded page", () => {
    assert.strictEqual(refused(TokenAnswer.read(Zlib.gzipSync(page), context("oauth2"))), notJson)
  })

  it("of what holds tokens without number, in little time", () => {
    const many = (count: number) => ({
      ...o(),
      ...Object.fromEntries(
        Array.from({ length: count }, (_, index) => [`${"-".repeat(index % 500)}refresh_token`, `x${index}`])
      )
    })
    assert.strictEqual(refused(read("oauth2", many(400))), "it holds too many tokens (now)")
    const text = `{${Array.from({ length: 40_000 }, (_, index) => `"refresh_token":"token-${index}"`).join(",")}}`
    const startedAt = performance.now()
    assert.strictEqual(refused(read("oauth2", text)), "it holds too many tokens (now)")
    assert.isBelow(performance.now() - startedAt, 5000)
  })

  it("of what is compressed beyond measure", () => {
    const bomb = Zlib.gzipSync(JSON.stringify(o({ padding: " ".repeat(2 * 1024 * 1024) })))
    assert.strictEqual(refused(TokenAnswer.read(bomb, context("oauth2"))), notJson)
  })

  it("and at most 64 KiB of it are kept", () => {
    const reading = read("oauth2", { token: "x".repeat(100_000) })
    assert(reading._tag === "Unreadable")
    assert.strictEqual(Redacted.value(reading.answer.bytes).length, 64 * 1024)
    assert.notInclude(JSON.stringify(reading), "xxx")
  })

  it("of a user whom only the stored or the sent tokens name", () => {
    const foreign = o({
      access_token: token("oauth2", "access", { userId: 8 }),
      refresh_token: token("oauth2", "refresh", { userId: 8 })
    })
    const nameless = { calUserId: undefined }
    assert.strictEqual(refused(read("oauth2", foreign, nameless)), other)
    assert.strictEqual(refused(read("oauth2", foreign, { ...nameless, stored: undefined })), other)
    const opaque = { ...stored.oauth2, refreshToken: Redacted.make("opaque") }
    assert.strictEqual(
      refused(read("oauth2", foreign, { ...nameless, stored: opaque, sent: opaque.refreshToken })),
      other
    )
    // Where nobody is named, the tokens only have to agree.
    const unknown = { ...nameless, stored: undefined, sent: undefined }
    assert.strictEqual(granted(read("oauth2", foreign, unknown)).calUserId, 8)
    const half = { ...foreign, refresh_token: refresh.oauth2 }
    assert.strictEqual(refused(read("oauth2", half, unknown)), other)
  })
})

describe("the time of a token", () => {
  const at = (issuedAt: number, changes?: Partial<TokenAnswer.Context>) =>
    read(
      "oauth2",
      o({
        access_token: token("oauth2", "access", {}, issuedAt),
        refresh_token: token("oauth2", "refresh", {}, issuedAt)
      }),
      changes
    )._tag

  it("is not before that of the one that was sent, but for what clocks may differ by", () => {
    assert.strictEqual(at(before), "Granted")
    assert.strictEqual(at(before - 10_000), "Granted")
    assert.strictEqual(at(before - 11_000), "Unreadable")
  })

  it("is not before that of the stored pair where none was sent", () => {
    assert.strictEqual(at(before - 11_000, { sent: undefined }), "Unreadable")
  })

  it("is compared with a fallback's own, not with the stored pair's", () => {
    const fallback = Redacted.make(token("oauth2", "refresh", {}, before - 3_600_000))
    assert.strictEqual(at(before - 60_000, { sent: fallback }), "Granted")
    assert.strictEqual(at(before - 60_000, { sent: Redacted.make("opaque-fallback") }), "Granted")
  })
})

describe("the answer to a creation", () => {
  it("names its user in any form that is a number", () => {
    const id = (user: unknown) => TokenAnswer.createdUserId(bytes({ status: "success", data: { user } }))
    assert.strictEqual(id({ id: 42 }), 42)
    assert.strictEqual(id({ id: "42" }), 42)
    for (const user of [{ id: 0 }, { id: -1 }, { id: 1.5 }, { id: "4e1" }, { id: null }, { ID: [1] }, {}, 42, null]) {
      assert.isUndefined(id(user))
    }
    assert.isUndefined(TokenAnswer.createdUserId(bytes("<html>")))
  })
})
