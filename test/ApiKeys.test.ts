/** The forms in which API keys are written, and what is said of those that are wrong. */
import { createHash } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { Either, Redacted } from "effect"
import * as ApiKeys from "../src/ApiKeys.js"

const secret = "SECRET-0123456789abcdefghijklmnopqr"
const sha256 = createHash("sha256").update(secret).digest("hex")
const ulid = "01HZY9TESTSAAAAAAAAAAAAAAA"

/** As the first key of a list is read, its secret in clear. */
const read = (text: string) =>
  Either.map(ApiKeys.parse(text), ([key]) => ({
    ...key,
    secret: Redacted.isRedacted(key?.secret) ? Redacted.value(key.secret) : key?.secret.sha256
  }))

describe("API keys", () => {
  it("may be written short, with the secret or with its SHA-256", () => {
    for (const [text, expected] of [
      [`app:${secret}`, { name: "app", secret, scopes: ApiKeys.defaultScopes }],
      [`app:${secret}:manage+proxy`, { name: "app", secret, scopes: new Set(["manage", "proxy"]) }],
      [`app:sha256:${sha256}`, { name: "app", secret: sha256, scopes: ApiKeys.defaultScopes }],
      [
        `app:sha256:${sha256.toUpperCase()}:read-token`,
        { name: "app", secret: sha256, scopes: new Set(["read-token"]) }
      ],
      [
        `app:sha256:${sha256}:metrics+proxy-read`,
        { name: "app", secret: sha256, scopes: new Set(["metrics", "proxy"]), methods: ["GET", "HEAD"] }
      ]
    ] as const) {
      assert.deepStrictEqual<unknown>(read(text), Either.right(expected))
    }
  })

  it("may be written as JSON, with limits", () => {
    const key = {
      name: "app",
      sha256,
      scopes: ["manage", "proxy"],
      users: [ulid.toLowerCase(), "018fbc9d-3a5e-7ace-9d29-54a8a5294a8a"],
      methods: ["GET"],
      paths: ["/bookings", "/slots"],
      expiresAt: "2027-01-31T12:00:00+01:00"
    }
    const { users, ...limits } = Either.getOrThrow(read(JSON.stringify([key], null, 2)))
    assert.deepStrictEqual<unknown>(limits, {
      name: "app",
      secret: sha256,
      scopes: new Set(["manage", "proxy"]),
      methods: ["GET"],
      paths: ["/bookings", "/slots"],
      expiresAt: Date.UTC(2027, 0, 31, 11)
    })
    assert.deepStrictEqual([users?.size, users?.has(ulid)], [2, true])
    assert.deepStrictEqual<unknown>(
      read(JSON.stringify([{ name: "app", secret }])),
      Either.right({ name: "app", secret, scopes: ApiKeys.defaultScopes })
    )
  })

  it("are refused with their place, and without what stands there", () => {
    const one = (more: object) =>
      JSON.stringify([
        { name: "ok", secret: `${secret}2` },
        { name: "app", secret, ...more }
      ])
    const cases: ReadonlyArray<readonly [text: string, problem: RegExp]> = [
      [`app:sha256:${sha256.slice(1)}`, /; entry 1 is not$/],
      [`app:sha256:${"0".repeat(64)}`, /; entry 1 has a secret of one repeated letter$/],
      [`a:${secret}2,app:sha256:${sha256}:SECRET`, /; entry 2 is not$/],
      [`app:${secret}:proxy+proxy-read`, /entry 1 has proxy-read beside another word/],
      [`app:${secret}:read-token+proxy-read`, /entry 1 has read-token, which no limit/],
      [`app:${secret},other:sha256:${sha256}`, /^must not give two keys the same secret$/],
      [`[{"name":"app",`, /^must be JSON, as it begins with \[$/],
      ["[]", /at least one API key/],
      [one({}).replace("ok", "app"), /^must not name two keys alike$/],
      ["[1]", /in entry 1 must be an object$/],
      [one({ sha256 }), /in entry 2 must have either secret or sha256$/],
      [JSON.stringify([{ name: "app" }]), /in entry 1 must have either secret or sha256$/],
      [JSON.stringify([{ secret }]), /in entry 1 name is required$/],
      [one({ [secret]: 1 }), /in entry 2 is not known$/],
      [one({ user: [ulid] }), /in entry 2 user is not known$/],
      [one({ secret: "SECRET" }), /in entry 2 secret must be 32 to 512 letters/],
      [one({ scopes: [] }), /in entry 2 scopes must be a list of scopes$/],
      [one({ scopes: ["SECRET"] }), /in entry 2 has an unknown scope$/],
      [one({ users: [] }), /in entry 2 users must be a list of ULIDs or UUIDs$/],
      [one({ users: [ulid, "SECRET"] }), /in entry 2 users must be ULIDs or UUIDs$/],
      [one({ methods: ["get"] }), /in entry 2 methods must be some of GET, HEAD/],
      [one({ methods: ["GET"], scopes: ["proxy-read"] }), /in entry 2 has proxy-read beside/],
      [one({ paths: ["bookings"] }), /in entry 2 paths must be 1 to 32 plain paths/],
      [one({ paths: ["/bookings"], scopes: ["read-token"] }), /in entry 2 has read-token, which no limit/],
      [one({ expiresAt: "2027-01-31T00:00:00" }), /in entry 2 expiresAt must be an instant such as/],
      [one({ expiresAt: "2027-13-31T00:00:00Z" }), /in entry 2 expiresAt must be an instant such as/],
      [one({ expiresAt: 1 }), /in entry 2 expiresAt must be /]
    ]
    for (const [text, problem] of cases) {
      const fault = Either.getOrThrow(Either.flip(ApiKeys.parse(text)))
      assert.match(fault, problem, text)
      assert.notInclude(fault, "SECRET", text)
      assert.notInclude(fault, sha256)
    }
  })

  it("that end are told of two weeks before", () => {
    const [key] = Either.getOrThrow(
      ApiKeys.parse(JSON.stringify([{ name: "app", secret, expiresAt: "2027-01-31T00:00:00Z" }]))
    )
    const at = (now: string) => ApiKeys.expiries(key === undefined ? [] : [key], Date.parse(now))
    assert.deepStrictEqual(at("2027-01-16T23:59:59Z"), [])
    assert.deepStrictEqual(at("2027-01-17T00:00:00Z"), [`The API key "app" ends at 2027-01-31T00:00:00.000Z`])
    assert.deepStrictEqual(at("2027-01-31T00:00:00Z"), [
      `The API key "app" opens nothing any more: it ended at 2027-01-31T00:00:00.000Z`
    ])
  })
})
