import { assert, describe, it } from "vitest"
import { now, minute, year, seconds, token, m, o, read, granted, shown, type Kind } from "../../support/TokenAnswers.js"

describe("the access token's end", () => {
  const at = (kind: Kind, changes: object, tokens: object = {}) => {
    const name = kind === "managed" ? "accessToken" : "access_token"
    const opaque = { [name]: "an-opaque-access-token" }
    const body = { ...opaque, ...tokens, ...changes }
    return shown(read(kind, kind === "managed" ? m(body) : o(body)))
  }
  const twoYears = 730 * 24 * 60 * minute
  const iso = (millis: number) => new Date(millis).toISOString()

  it.each([
    [1800, 30],
    ["1800", 30],
    ["1800.5", 30],
    [1, 1 / 60],
    [0.5, 1 / 120],
    [730 * 86_400, twoYears / minute],
    [730 * 86_400 + 1, 5],
    [0, 5],
    [-1, 5],
    ["-1", 5],
    [null, 5],
    [undefined, 5],
    [true, 5],
    ["", 5],
    ["soon", 5],
    ["0x708", 5],
    [[1800], 5],
    [{ seconds: 1800 }, 5],
    [now + 7 * minute, 7],
    [seconds(now) + 420, 7],
    [iso(now + 7 * minute), 7],
    [now - 1, 5]
  ])("expires_in %j is %s min", (expires_in, minutes) => {
    const actual = at("oauth2", { expires_in })
    assert.approximately(actual.minutes, minutes, 0.01)
    assert.deepStrictEqual(
      actual.departures,
      minutes === 5 || typeof expires_in === "string" || Number(expires_in) > 1e9 ? ["expiry"] : []
    )
  })

  it.each([
    [now + 59 * minute, 59],
    [String(now + 59 * minute), 59],
    [iso(now + 59 * minute), 59],
    [iso(now + 59 * minute).replace("Z", "+00:00"), 59],
    [seconds(now) + 3540, 59],
    [now + twoYears, twoYears / minute],
    [now + twoYears + 1, 5],
    [now - 1, 5],
    [iso(now - 1), 5],
    ["2026-02-30T09:00:00Z", 5],
    ["2026-03-14T11:00:00", 5],
    [0, 5],
    [-5, 5],
    [null, 5],
    [undefined, 5],
    [3540, 59]
  ])("accessTokenExpiresAt %j is %s min", (accessTokenExpiresAt, minutes) => {
    const actual = at("managed", { accessTokenExpiresAt })
    assert.approximately(actual.minutes, minutes, 0.01)
    const isContracted = typeof accessTokenExpiresAt === "number" && accessTokenExpiresAt > now && minutes !== 5
    assert.deepStrictEqual(actual.departures, isContracted ? [] : ["expiry"])
  })

  it("is never beyond numbers", () => {
    const text = JSON.stringify(o({ access_token: "opaque-1", expires_in: 1 })).replace(":1,", ":1e999,")
    assert.strictEqual(shown(read("oauth2", text)).minutes, 5)
  })

  it("is the earliest of fields and claims", () => {
    const claimed = (life: number) => ({ access_token: token("oauth2", "access", { exp: seconds(now) + life }) })
    assert.strictEqual(at("oauth2", { expires_in: 1800 }, claimed(600)).minutes, 10)
    assert.strictEqual(at("oauth2", { expires_in: 600 }, claimed(1800)).minutes, 10)
    assert.strictEqual(at("oauth2", { expires_in: 1800, expires_at: now + 10 * minute }).minutes, 10)
    assert.strictEqual(at("oauth2", { expires_in: undefined }, claimed(600)).minutes, 10)
    assert.strictEqual(at("oauth2", { expires_in: 0 }, claimed(600)).minutes, 10)
    assert.strictEqual(at("oauth2", { expires_in: 1800 }, claimed(-600)).minutes, 30)
    assert.strictEqual(at("oauth2", { expires_in: 1800 }, claimed(1e9)).minutes, 30)
    const managed = { accessToken: token("managed", "access", { expiresAt: now + 10 * minute }) }
    assert.strictEqual(at("managed", { accessTokenExpiresAt: undefined }, managed).minutes, 10)
    assert.strictEqual(at("managed", {}, managed).minutes, 10)
  })

  it("of the refresh token is for show", () => {
    const end = (refreshTokenExpiresAt: unknown) =>
      granted(read("managed", m({ refreshTokenExpiresAt }))).pair.refreshTokenExpiresAt
    assert.strictEqual(end(now + year), now + year)
    assert.strictEqual(end(iso(now + year)), now + year)
    for (const value of [undefined, null, 0, "later", now - 1, now + 2 * twoYears]) assert.isUndefined(end(value))
  })
})
