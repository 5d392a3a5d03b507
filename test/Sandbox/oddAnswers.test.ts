import { createHash } from "node:crypto"
import { brotliDecompressSync, gunzipSync, inflateSync } from "node:zlib"
import { FetchHttpClient, HttpClient, type HttpClientRequest } from "@effect/platform"
import { NodeHttpClient } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Redacted, Stream, TestClock } from "effect"
import { Fault, layer as sandboxLayer, type OddAnswer, oddAnswers, Sandbox } from "../../src/Sandbox.js"
import {
  type Answer,
  at,
  base,
  C,
  claims,
  clientHeaders,
  type Input,
  K,
  layer,
  listeningWith,
  oauth2Refresh,
  options,
  redirectUri,
  refresh,
  request,
  send,
  toAnswer
} from "../support/SandboxWorld.js"

interface Arrived extends Answer {
  readonly bytes: Buffer
  /** Whether the connection broke before the end. */
  readonly cut: boolean
}

const coded = {
  gzip: gunzipSync,
  br: brotliDecompressSync,
  deflate: inflateSync
} as const

/** What arrives, byte by byte, however it ends. */
const arrive = (request: HttpClientRequest.HttpClientRequest) =>
  Effect.gen(function* () {
    const response = yield* Effect.flatMap(HttpClient.HttpClient, (client) => client.execute(request))
    const chunks: Array<Uint8Array> = []
    const end = yield* Effect.either(
      Stream.runForEach(response.stream, (chunk) => Effect.sync(() => chunks.push(chunk)))
    )
    const bytes = Buffer.concat(chunks)
    const coding = response.headers["content-encoding"]
    const isCoded = coding === "gzip" || coding === "br" || coding === "deflate"
    const text = isCoded && !bytes.toString().startsWith("{") ? coded[coding](bytes).toString() : bytes.toString()
    return { ...toAnswer(response.status, response.headers, text), bytes, cut: end._tag === "Left" } satisfies Arrived
  })

const post = (path: string, input: Input) => arrive(request("POST", `${base}${path}`, input))

interface Asked {
  readonly arrived: Arrived
  readonly calUserId: number
  /** The refresh token that was presented. */
  readonly presented?: Redacted.Redacted
}

const client = { client_id: K, client_secret: "test-secret-123" }
const ada = { email: "ada@example.com", name: "Ada" }

const managedKinds = ["refresh", "forceRefresh", "createManaged"] as const
const oauth2Kinds = ["oauth2Refresh", "oauth2Code"] as const
const everyKind = [...managedKinds, ...oauth2Kinds]
type GrantKind = (typeof everyKind)[number]

/** A request for a pair of each kind, with one mishap in its way. */
const ask = (kind: GrantKind, fault: Fault): Effect.Effect<Asked, unknown, Sandbox | HttpClient.HttpClient> =>
  Effect.gen(function* () {
    const sandbox = yield* Sandbox
    switch (kind) {
      case "createManaged": {
        yield* sandbox.inject(fault)
        const arrived = yield* post(`/v2/oauth-clients/${C}/users`, { headers: clientHeaders, json: ada })
        const { users } = yield* sandbox.snapshot
        return { arrived, calUserId: users.find(({ email }) => email === "ada+C@example.com")?.id ?? 0 }
      }
      case "oauth2Code": {
        const { calUserId } = yield* sandbox.grantOAuth2(ada)
        yield* sandbox.revokeRefreshTokens(calUserId)
        const code = yield* sandbox.authorizationCode({ calUserId })
        yield* sandbox.inject(fault)
        const json = { ...client, grant_type: "authorization_code", code, redirect_uri: redirectUri }
        return { arrived: yield* post("/v2/auth/oauth2/token", { json }), calUserId }
      }
      case "oauth2Refresh": {
        const { calUserId, refreshToken } = yield* sandbox.grantOAuth2(ada)
        yield* sandbox.inject(fault)
        const json = { ...client, grant_type: "refresh_token", refresh_token: Redacted.value(refreshToken) }
        return { arrived: yield* post("/v2/auth/oauth2/token", { json }), calUserId, presented: refreshToken }
      }
      case "forceRefresh": {
        const { calUserId } = yield* sandbox.grantManaged(ada)
        yield* sandbox.inject(fault)
        const path = `/v2/oauth-clients/${C}/users/${calUserId}/force-refresh`
        return { arrived: yield* post(path, { headers: clientHeaders }), calUserId }
      }
      case "refresh": {
        const { calUserId, refreshToken } = yield* sandbox.grantManaged(ada)
        yield* sandbox.inject(fault)
        const json = { refreshToken: Redacted.value(refreshToken) }
        const arrived = yield* post(`/v2/oauth/${C}/refresh`, { headers: clientHeaders, json })
        return { arrived, calUserId, presented: refreshToken }
      }
    }
  })

/** The two contracts, as paths into an answer. */
const contracts = {
  managed: { access: "data.accessToken", refresh: "data.refreshToken", expiry: "data.accessTokenExpiresAt" },
  oauth2: { access: "access_token", refresh: "refresh_token", expiry: "expires_in" }
}

const now = Date.UTC(2026, 10, 27, 8, 30, 12)

/** A row of the table: where it can be met, and what is to be seen there. */
interface Row {
  readonly kinds: ReadonlyArray<GrantKind>
  readonly see: (
    asked: Asked,
    contract: (typeof contracts)["managed"],
    sandbox: Sandbox["Type"],
    isManaged: boolean
  ) => Effect.Effect<void>
  /** The presented refresh token lives on. */
  readonly kept?: true
}

const row = (
  see: (asked: Asked, contract: (typeof contracts)["managed"], isManaged: boolean) => void,
  kinds: ReadonlyArray<GrantKind> = everyKind
): Row => ({
  kinds,
  see: (asked, contract, _, isManaged) => Effect.sync(() => see(asked, contract, isManaged))
})

/** A pair at these paths, and both tokens are alive. */
const alive = ({ arrived }: Asked, sandbox: Sandbox["Type"], access: string, refresh: string) =>
  Effect.gen(function* () {
    assert.isTrue(yield* sandbox.isAccessLive(String(arrived.at(access))))
    assert.isTrue(yield* sandbox.isLive(String(arrived.at(refresh))))
  })

const expiry = (see: (expiry: unknown, dueAt: number, isManaged: boolean) => void): Row => ({
  kinds: everyKind,
  see: (asked, contract, sandbox, isManaged) =>
    Effect.gen(function* () {
      yield* alive(asked, sandbox, contract.access, contract.refresh)
      const jwt = claims(asked.arrived.at(contract.access))
      const dueAt = isManaged ? Number(at(jwt, "expiresAt")) : Number(at(jwt, "exp")) * 1000
      see(asked.arrived.at(contract.expiry), dueAt, isManaged)
    })
})

const encoded = (coding: keyof typeof coded): Row => ({
  kinds: everyKind,
  see: (asked, contract, sandbox) =>
    Effect.gen(function* () {
      assert.strictEqual(asked.arrived.headers["content-encoding"], coding)
      assert.notInclude(asked.arrived.bytes.toString("latin1"), "refresh")
      yield* alive(asked, sandbox, contract.access, contract.refresh)
    })
})

const withoutRefreshToken: Row["see"] = ({ arrived }, contract, sandbox) =>
  Effect.gen(function* () {
    assert.isUndefined(arrived.at(contract.refresh))
    assert.isTrue(yield* sandbox.isAccessLive(String(arrived.at(contract.access))))
  })

/** Every row of the table in `src`, or this does not compile. */
const rows: Readonly<Record<OddAnswer, Row>> = {
  expiryMissing: expiry((expiry) => assert.isUndefined(expiry)),
  expiryText: expiry((expiry, dueAt, isManaged) => assert.strictEqual(expiry, isManaged ? String(dueAt) : "1800")),
  expiryIso: expiry((expiry, dueAt) => assert.strictEqual(expiry, new Date(dueAt).toISOString())),
  expiryZero: expiry((expiry) => assert.strictEqual(expiry, 0)),
  expiryNull: expiry((expiry) => assert.isNull(expiry)),
  nested: {
    kinds: everyKind,
    see: (asked, _, sandbox, isManaged) =>
      isManaged
        ? alive(asked, sandbox, "data.data.accessToken", "data.data.refreshToken")
        : alive(asked, sandbox, "data.access_token", "data.refresh_token")
  },
  flat: { kinds: managedKinds, see: (asked, _, sandbox) => alive(asked, sandbox, "accessToken", "refreshToken") },
  otherCase: {
    kinds: everyKind,
    see: (asked, contract, sandbox, isManaged) =>
      Effect.gen(function* () {
        assert.isUndefined(asked.arrived.at(contract.access))
        if (isManaged) {
          yield* alive(asked, sandbox, "data.access_token", "data.refresh_token")
          assert.isNumber(asked.arrived.at("data.access_token_expires_at"))
        } else {
          yield* alive(asked, sandbox, "accessToken", "refreshToken")
          assert.strictEqual(asked.arrived.at("expiresIn"), 1800)
        }
      })
  },
  accessTokenMissing: {
    kinds: everyKind,
    see: ({ arrived }, contract, sandbox) =>
      Effect.gen(function* () {
        assert.isUndefined(arrived.at(contract.access))
        assert.isTrue(yield* sandbox.isLive(String(arrived.at(contract.refresh))))
      })
  },
  refreshTokenMissing: { kinds: everyKind, see: withoutRefreshToken },
  refreshTokenKept: { kinds: ["refresh", "oauth2Refresh"], see: withoutRefreshToken, kept: true },
  otherUser: {
    kinds: everyKind,
    see: (asked, contract, sandbox, isManaged) =>
      Effect.gen(function* () {
        yield* alive(asked, sandbox, contract.access, contract.refresh)
        for (const path of [contract.access, contract.refresh]) {
          const jwt = claims(asked.arrived.at(path))
          const id = at(jwt, isManaged ? "ownerId" : "userId")
          assert.isNumber(id)
          assert.notStrictEqual(id, asked.calUserId)
        }
        if (isManaged) return
        // The same scope, so that nothing else tells it from the right one.
        assert.deepStrictEqual(at(claims(asked.arrived.at(contract.access)), "scope"), ["READ_BOOKING", "READ_PROFILE"])
      })
  },
  tokensMissing: row(({ arrived }) => {
    assert.strictEqual(arrived.status, arrived.at("data.user") === undefined ? 200 : 201)
    assert.notInclude(arrived.text, "eyJ")
  }),
  tokensRenamed: {
    kinds: everyKind,
    see: (asked, contract, sandbox, isManaged) =>
      Effect.gen(function* () {
        for (const path of Object.values(contract)) assert.isUndefined(asked.arrived.at(path))
        const session = isManaged ? "data.session" : "session"
        yield* alive(asked, sandbox, `${session}.bearer`, `${session}.renewal`)
      })
  },
  errorBeside: {
    kinds: everyKind,
    see: (asked, contract, sandbox) =>
      Effect.gen(function* () {
        yield* alive(asked, sandbox, contract.access, contract.refresh)
        assert.exists(asked.arrived.at("error"))
      })
  },
  idTokenBeside: {
    kinds: everyKind,
    see: (asked, contract, sandbox, isManaged) =>
      Effect.gen(function* () {
        yield* alive(asked, sandbox, contract.access, contract.refresh)
        const jwt = claims(asked.arrived.at(isManaged ? "data.idToken" : "id_token"))
        assert.deepInclude(jwt, { sub: String(asked.calUserId), aud: isManaged ? C : K, iat: now / 1000 })
      })
  },
  gzip: encoded("gzip"),
  br: encoded("br"),
  deflate: encoded("deflate"),
  cut: row(({ arrived }) => {
    assert.isTrue(arrived.cut)
    assert.isAbove(arrived.bytes.length, 100)
    assert.isUndefined(arrived.body)
  }),
  cutAfterRefreshToken: {
    kinds: everyKind,
    see: ({ arrived }, contract, sandbox) =>
      Effect.gen(function* () {
        assert.isTrue(arrived.cut)
        const name = contract.refresh.split(".").at(-1)
        const [, token = ""] = new RegExp(`"${name}":"([^"]+)"$`).exec(arrived.text) ?? []
        assert.isTrue(yield* sandbox.isLive(token))
      })
  },
  maintenancePage: row(({ arrived }) => {
    assert.strictEqual(arrived.status, 200)
    assert.match(arrived.headers["content-type"] ?? "", /^text\/html/)
    assert.isUndefined(arrived.body)
  }),
  garbage: row(({ arrived }) => {
    assert.strictEqual(arrived.status, 200)
    assert.match(arrived.headers["content-type"] ?? "", /^application\/json/)
    assert.isUndefined(arrived.body)
  })
}

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex")

describe("each odd answer, to each request that can meet it", () => {
  for (const [answer, { kept, kinds, see }] of Object.entries(rows) as ReadonlyArray<[OddAnswer, Row]>) {
    for (const kind of kinds) {
      it.effect(`${answer}, ${kind}`, () =>
        Effect.gen(function* () {
          yield* TestClock.setTime(now)
          const sandbox = yield* Sandbox
          const isManaged = managedKinds.some((managed) => managed === kind)
          const asked = yield* ask(kind, Fault.odd(answer))
          yield* see(asked, isManaged ? contracts.managed : contracts.oauth2, sandbox, isManaged)

          // Cal.com has done its work all the same.
          const { calUserId, presented } = asked
          if (presented !== undefined) assert.strictEqual(yield* sandbox.isLive(presented), kept === true)
          const { oauth2RefreshTokens, refreshTokens } = yield* sandbox.snapshot
          const stored = [...refreshTokens, ...oauth2RefreshTokens].filter(({ userId }) => userId === calUserId)
          assert.lengthOf(stored, 1)
          const [call] = yield* sandbox.calls
          assert.deepInclude(call, { kind, status: kind === "createManaged" ? 201 : 200, fault: answer })
          if (isManaged && kept !== true) {
            assert.strictEqual(sha256(stored[0]?.token ?? ""), call?.issuedRefreshTokenHash)
          }

          // Once.
          const next = yield* isManaged ? sandbox.grantManaged() : sandbox.grantOAuth2()
          const plain = yield* isManaged ? refresh(next.refreshToken) : oauth2Refresh(next.refreshToken)
          const path = isManaged ? contracts.managed : contracts.oauth2
          assert.isNumber(plain.at(path.expiry))
          assert.isTrue(yield* sandbox.isLive(String(plain.at(path.refresh))))
        }).pipe(Effect.provide(layer()))
      )
    }
  }
})

describe("odd answers", () => {
  it.effect("come compressed on refusals too", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      for (const coding of ["gzip", "br", "deflate"] as const) {
        yield* sandbox.inject(Fault.odd(coding))
        const refused = yield* arrive(request("GET", `${base}/v2/me`, { token: "dead" }))
        assert.strictEqual(refused.status, 401)
        assert.strictEqual(refused.headers["content-encoding"], coding)
        assert.isUndefined(toAnswer(401, {}, refused.bytes.toString()).body)
        assert.strictEqual(refused.message, "Invalid Access Token.")
      }
    }).pipe(Effect.provide(layer()))
  )

  it.effect("break off at any byte, and not behind the last", () =>
    Effect.gen(function* () {
      const whole = yield* ask("refresh", Fault.delayAfter(0))
      for (const bytes of [0, 1, whole.arrived.bytes.length - 1]) {
        const { arrived } = yield* ask("refresh", Fault.odd("cut", { at: bytes }))
        assert.deepStrictEqual([arrived.cut, arrived.bytes.length], [true, bytes])
      }
      const { arrived } = yield* ask("refresh", Fault.odd("cut", { at: 100_000 }))
      assert.isFalse(arrived.cut)
      assert.isString(arrived.at("data.refreshToken"))
    }).pipe(Effect.provide(layer()))
  )

  it.effect("may stand in for a Cal.com that did nothing", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      for (const answer of ["maintenancePage", "garbage"] as const) {
        for (const kind of ["refresh", "oauth2Refresh"] as const) {
          const { arrived, presented } = yield* ask(kind, Fault.odd(answer, { committed: false }))
          assert.strictEqual(arrived.status, 200)
          assert.isTrue(presented !== undefined && (yield* sandbox.isLive(presented)))
        }
      }
    }).pipe(Effect.provide(layer()))
  )

  it.effect("leave refusals alone, and requests that they cannot meet", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      yield* sandbox.inject(Fault.odd("tokensRenamed", { times: 2 }))
      assert.strictEqual((yield* send("GET", "/v2/me")).status, 401)
      assert.strictEqual((yield* refresh("unknown")).message, "Invalid refresh token")
      const { refreshToken } = yield* sandbox.grantOAuth2()
      assert.isString((yield* oauth2Refresh(refreshToken)).at("session.renewal"))
      assert.deepStrictEqual(
        (yield* sandbox.calls).map(({ fault }) => fault),
        [undefined, "tokensRenamed", "tokensRenamed"]
      )
    }).pipe(Effect.provide(layer()))
  )

  it.effect("come as often as asked, or until they are switched off", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const expiries = (times: number) =>
        Effect.replicateEffect(
          Effect.gen(function* () {
            const { refreshToken } = yield* sandbox.grantOAuth2()
            return (yield* oauth2Refresh(refreshToken)).at("expires_in")
          }),
          times
        )
      yield* sandbox.inject(Fault.odd("expiryNull", { kind: "oauth2Refresh", times: 2 }))
      assert.deepStrictEqual(yield* expiries(3), [null, null, 1800])
      yield* sandbox.inject(Fault.odd("expiryZero", { times: Infinity }))
      assert.deepStrictEqual(yield* expiries(3), [0, 0, 0])
      yield* sandbox.clearFaults
      assert.deepStrictEqual(yield* expiries(1), [1800])
    }).pipe(Effect.provide(layer()))
  )

  it("are refused where they cannot be", () => {
    assert.throws(() => Fault.odd("flat", { kind: "oauth2Refresh" }), /refresh, forceRefresh, createManaged only/)
    assert.throws(() => Fault.odd("gzip", { at: 3 }), /Only cut is told where/)
    assert.throws(() => Fault.odd("expiryZero", { committed: false }), /if Cal\.com does nothing/)
  })
})

describe("odd answers over _control", () => {
  const path = "/_control/odd-answers"

  it.effect("are listed, queued and switched off", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const listed = yield* send("GET", path)
      assert.strictEqual(listed.status, 200)
      assert.deepStrictEqual(listed.at("queued"), [])
      oddAnswers.forEach((answer, index) => {
        assert.strictEqual(listed.at(`answers.${index}.answer`), answer)
        assert.match(String(listed.at(`answers.${index}.what`)), /^\w.*\.$/)
        const kinds = listed.at(`answers.${index}.kinds`)
        for (const kind of rows[answer].kinds) assert.include(kinds, kind)
      })

      const { calUserId, refreshToken } = yield* sandbox.grantManaged()
      yield* sandbox.inject(Fault.status(503, { kind: "api" }))
      const added = yield* send("POST", path, { json: { answer: "expiryNull", kind: "refresh", calUserId, times: 2 } })
      assert.deepStrictEqual(added.at("queued"), [{ answer: "expiryNull", kind: "refresh", calUserId, left: 2 }])
      assert.isNull((yield* refresh(refreshToken)).at("data.accessTokenExpiresAt"))
      yield* send("POST", path, { json: { answer: "cut", at: 7, times: "always" } })
      yield* send("POST", path, { json: { answer: "maintenancePage", committed: false } })
      assert.deepStrictEqual((yield* send("GET", path)).at("queued"), [
        { answer: "expiryNull", kind: "refresh", calUserId, left: 1 },
        { answer: "cut", at: 7, left: "always" },
        { answer: "maintenancePage", committed: false, left: 1 }
      ])
      const provider = arrive(request("GET", `${base}/v2/provider/${C}`))
      for (const { bytes } of [yield* provider, yield* provider]) assert.lengthOf(bytes, 7)
      assert.deepStrictEqual((yield* send("DELETE", path)).at("queued"), [])
      assert.strictEqual((yield* send("GET", `/v2/provider/${C}`)).status, 200)
      // What was scripted in code is somebody else's.
      assert.strictEqual((yield* send("GET", "/v2/me")).status, 503)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("each by its name", () =>
    Effect.gen(function* () {
      for (const answer of oddAnswers) {
        const added = yield* send("POST", path, { json: { answer } })
        assert.strictEqual(added.status, 200)
      }
      assert.lengthOf((yield* send("GET", path)).at("queued") as ReadonlyArray<unknown>, oddAnswers.length)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("are refused with a reason", () =>
    Effect.gen(function* () {
      for (const [json, reason] of [
        [{ answer: "nonsense" }, /answer/],
        [{ answer: "gzip", kind: "nonsense" }, /kind/],
        [{ answer: "gzip", times: 0 }, /times/],
        [{ answer: "gzip", often: 3 }, /often/],
        [{ answer: "flat", kind: "oauth2Code" }, /only/],
        [{ answer: "gzip", at: 3 }, /Only cut/]
      ] as const) {
        const refused = yield* send("POST", path, { json })
        assert.strictEqual(refused.status, 400)
        assert.match(String(refused.at("message")), reason)
      }
      assert.strictEqual((yield* send("POST", path, { raw: "{" })).status, 400)
      assert.deepStrictEqual((yield* send("GET", path)).at("queued"), [])
    }).pipe(Effect.provide(layer()))
  )
})

for (const [name, http, decodes] of [
  ["undici", NodeHttpClient.layerUndici, false],
  ["fetch", FetchHttpClient.layer, true],
  ["node:http", NodeHttpClient.layer, false]
] as const) {
  describe(`odd answers over a socket, ${name}`, () => {
    const refreshOver = (fault: Fault) =>
      Effect.gen(function* () {
        const sandbox = yield* Sandbox
        const origin = yield* listeningWith(sandbox.app)
        const { refreshToken } = yield* sandbox.grantManaged()
        yield* sandbox.inject(fault)
        const json = { refreshToken: Redacted.value(refreshToken) }
        return yield* arrive(request("POST", `${origin}/v2/oauth/${C}/refresh`, { headers: clientHeaders, json }))
      })
    it.scopedLive("the refresh token arrives whole, and then the connection breaks", () =>
      Effect.gen(function* () {
        const sandbox = yield* Sandbox
        const arrived = yield* refreshOver(Fault.odd("cutAfterRefreshToken"))
        assert.isTrue(arrived.cut)
        const [, token = ""] = /"refreshToken":"([^"]+)"$/.exec(arrived.text) ?? []
        assert.isTrue(yield* sandbox.isLive(token))
      }).pipe(Effect.provide(Layer.merge(http, sandboxLayer(options))))
    )

    it.scopedLive("compressed", () =>
      Effect.gen(function* () {
        for (const coding of ["gzip", "br", "deflate"] as const) {
          const arrived = yield* refreshOver(Fault.odd(coding))
          assert.strictEqual(arrived.headers["content-encoding"], coding)
          // Some clients decode, and leave the header as it was.
          assert.strictEqual(arrived.bytes.toString().startsWith("{"), decodes)
          assert.isString(arrived.at("data.refreshToken"))
        }
      }).pipe(Effect.provide(Layer.merge(http, sandboxLayer(options))))
    )
  })
}
