/**
 * Ten thousand made-up calls with sessions, over sockets, to a Cal.com that writes down what reaches it: paths in every
 * spelling, methods, sessions that were altered, are over, or are another user's. None reaches another user, path or
 * method than its session is for.
 */
import { randomInt } from "node:crypto"
import * as NodeHttp from "node:http"
import type { AddressInfo } from "node:net"
import { HttpServer } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Either, FastCheck, Layer, Logger, Redacted } from "effect"
import * as ApiKeys from "../../src/ApiKeys.js"
import * as CalApi from "../../src/CalApi.js"
import * as CalClient from "../../src/CalClient.js"
import * as NodeClients from "../../src/CalHttp/Node.js"
import { CalTokens, layer as layerTokens } from "../../src/CalTokens.js"
import * as ConnectFlow from "../../src/ConnectFlow.js"
import * as FlowStorage from "../../src/FlowStorage.js"
import * as Http from "../../src/Http.js"
import * as CallerLimits from "../../src/Http/CallerLimits.js"
import * as Lifecycle from "../../src/Http/Lifecycle.js"
import * as KeyRing from "../../src/KeyRing.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import { layerMemory } from "../../src/TokenStorage/Memory.js"
import { type Answer, converse } from "../support/Conversation.js"
import { keys } from "../support/HttpFakes.js"
import * as World from "../support/World.js"

/** Half of what is sent is made from the one, the other half from a new one, which a failure tells. */
const seeds = [20260115, randomInt(2 ** 31)]
const perBatch = 50
const batches = 100

/** What reached Cal.com, as it was written there. */
interface Reached {
  readonly id: string
  readonly method: string
  readonly url: string
  readonly authorization: string
}

/** What none of is a page's business. */
const careless = {
  "content-type": "application/json",
  "cache-control": "public, max-age=60",
  "set-cookie": "cal=1",
  "access-control-allow-origin": "*",
  "access-control-allow-credentials": "true"
}

/** Answers everything, and remembers it. */
const layerCal = (reached: Array<Reached>) =>
  Layer.unwrapScoped(
    Effect.gen(function* () {
      const server = NodeHttp.createServer(({ headers, method = "", url = "" }, response) => {
        const { authorization = "" } = headers
        reached.push({ id: String(headers["x-request-id"]), method, url, authorization })
        response.writeHead(200, careless).end(`{"status":"success","data":{}}`)
      })
      yield* Effect.acquireRelease(
        Effect.async<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
        () => Effect.sync(() => void server.close().closeAllConnections())
      )
      const { port } = server.address() as AddressInfo
      const managed = { clientId: "client", clientSecret: Redacted.make("client-secret-0123456789") }
      return CalApi.layer.pipe(
        Layer.provide(NodeClients.layerApiHttp),
        Layer.provideMerge(layerTokens),
        Layer.provideMerge(
          Layer.provide(CalClient.layer({ apiUrl: `http://127.0.0.1:${port}/v2`, managed }), NodeClients.layerTokenHttp)
        ),
        Layer.provideMerge(layerMemory),
        Layer.provide(TokenConfig.layer({ memoryMaxEntries: 1000 }))
      )
    })
  )

const many = 1_000_000

const layerWith = (reached: Array<Reached>) =>
  Http.layer.pipe(
    Layer.provideMerge(NodeHttpServer.layerTest),
    Layer.provide(ApiKeys.layer(Either.getOrThrow(ApiKeys.parse(`all:${keys.all}:manage+read-token+proxy`)))),
    Layer.provide(Lifecycle.layer),
    Layer.provide([
      KeyRing.layerEphemeral,
      CallerLimits.layerConfig({
        perKey: many,
        perAddress: many,
        sessionsPerAddress: many,
        perSessionUser: many,
        failuresPerAddress: many
      })
    ]),
    Layer.provide(Layer.provide(ConnectFlow.layer({}), FlowStorage.layerMemory)),
    Layer.provideMerge(layerCal(reached)),
    Layer.provide(Logger.remove(Logger.defaultLogger))
  )

const users = [1, 2, 3].map((n) => World.user(n))

const tokenOf = (user: string) => `access-token-of-${user}`

/** What a call presents. `rules`: what it opens; none: nothing. */
interface Presented {
  readonly text: string
  readonly user: string
  readonly rules?: { readonly methods?: ReadonlyArray<string>; readonly paths?: ReadonlyArray<string> }
}

const { array, constantFrom, nat, oneof, record, tuple } = FastCheck

/** Pieces of paths that mean different things to different readers, and many that come near what sessions open. */
const piece = oneof(
  { weight: 6, arbitrary: constantFrom("/bookings", "/slots", "/event-types/7", "/me", "/abc", "/", "/v2") },
  {
    weight: 3,
    arbitrary: constantFrom(
      ...[
        "/Bookings",
        "/BOOKINGS",
        "/b%6fokings",
        "/%62ookings",
        "/bookings-secret",
        "/bookings.json",
        "/bookings;x=1"
      ],
      ...[
        "/..",
        "/../",
        "/.",
        "/./",
        "//",
        "/%2e%2e",
        "/%2E%2e/",
        "/.%2e",
        "/..;/",
        "/..;x=1",
        "/;",
        "/%2f",
        "%2F..",
        "/..%2f"
      ],
      ...[
        "%5c",
        "\\",
        "/..\\",
        "%00",
        "%0d%0a",
        "%25",
        "%252e%252e",
        "%252f",
        "%u002e",
        "%c0%ae%c0%ae/",
        "%EF%BC%8E",
        "%ef%bc%8f"
      ]
    )
  },
  {
    weight: 2,
    arbitrary: constantFrom(
      ...[
        "?take=1",
        "?path=/me",
        "?/../me",
        "#",
        "#/me",
        "@evil.example",
        "://evil.example",
        ";",
        ":80",
        "&",
        "*",
        "~",
        "%",
        "%zz"
      ],
      ...[
        "/oauth/c/refresh",
        "/oauth-clients/c/users",
        "/auth/oauth2/token",
        "/OAuth",
        "/o%61uth/c",
        "/Auth",
        "/event-types/77"
      ]
    )
  }
)

const path = array(piece, { minLength: 1, maxLength: 5, size: "max" }).map((pieces) => pieces.join(""))

const method = oneof(
  { weight: 8, arbitrary: constantFrom("GET", "POST", "DELETE") },
  { weight: 1, arbitrary: constantFrom("HEAD", "PUT", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "PURGE") }
)

const override = constantFrom<Readonly<Record<string, string>>>(
  {},
  {},
  {},
  { "X-HTTP-Method-Override": "DELETE" },
  { "X-Original-URL": "/v2/me" },
  { "X-Rewrite-URL": "/v2/me" },
  { "X-Cal-Client-Id": "client", "X-Cal-Secret-Key": "x" },
  { Cookie: "session=x" }
)

/** As lenient a reader as there may be: decodes as long as it can, cuts parameters off, and resolves. */
const readLeniently = (url: string): string => {
  let text = url.split(/[?#]/, 1)[0] ?? ""
  for (let before = ""; before !== text;) {
    before = text
    text = text.replace(/%[0-9a-f]{2}/gi, (escape) => {
      try {
        return decodeURIComponent(escape)
      } catch {
        return escape
      }
    })
  }
  const plain = text
    .normalize("NFKC")
    .replaceAll("\\", "/")
    .replace(/;[^/]*/g, "")
  const segments: Array<string> = []
  for (const segment of plain.split("/")) {
    if (segment === "..") segments.pop()
    else if (segment !== "." && segment !== "") segments.push(segment)
  }
  return `/${segments.join("/")}`
}

const isBelow = (path: string, prefix: string) => path === prefix || path.startsWith(`${prefix}/`)

/** Letters of a session changed, cut, swapped with another's, or with an algorithm that is none. */
const altered = (texts: ReadonlyArray<string>) =>
  tuple(constantFrom(...texts), constantFrom(...texts), nat(), nat(9)).map(([text, other, at, how]) => {
    const [header = "", payload = "", signature = ""] = text.split(".")
    const [, otherPayload = "", otherSignature = ""] = other.split(".")
    const index = at % text.length
    const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url")
    const claims = JSON.parse(Buffer.from(payload, "base64url").toString()) as Record<string, unknown>
    switch (how) {
      case 0:
        return text.slice(0, index) + (text[index] === "A" ? "B" : "A") + text.slice(index + 1)
      case 1:
        return text.slice(0, index)
      case 2:
        return `${header}.${payload}.${otherSignature}`
      case 3:
        return `${header}.${otherPayload}.${signature}`
      case 4:
        return `${encode({ alg: "none", typ: "cal-tokens-session+jwt", kid: "ephemeral" })}.${payload}.`
      case 5:
        return `${header}.${encode({ ...claims, methods: undefined, paths: undefined })}.${signature}`
      case 6:
        return `${header}.${encode({ ...claims, sub: users[at % users.length] })}.${signature}`
      case 7:
        return `${header}.${encode({ ...claims, exp: 4e9, after: 1e9 })}.${signature}`
      case 8:
        return `${text}${"A=.x"[at % 4]}`
      default:
        return `${header}.${payload}`
    }
  })

describe("made-up calls with sessions", () => {
  it.live("reach no other user, path or method", () => {
    const reached: Array<Reached> = []
    return Effect.gen(function* () {
      const tokens = yield* CalTokens
      const { address } = yield* HttpServer.HttpServer
      const port = address._tag === "TcpAddress" ? address.port : 0
      const now = yield* Clock.currentTimeMillis
      for (const [n, user] of users.entries()) {
        const pair = {
          accessToken: tokenOf(user),
          refreshToken: `refresh-${user}`,
          accessTokenExpiresAt: now + 3_600_000
        }
        yield* tokens.connect(user, { _tag: "ManagedUser", clientId: "client", calUserId: n + 1 }, pair)
      }
      const ask = (method: string, target: string, body?: object) =>
        Effect.map(
          Effect.promise(() =>
            converse(port, [{ method, target, body: body === undefined ? undefined : JSON.stringify(body) }])
          ),
          ([answer]) => JSON.parse(/\r\n\r\n([^]*)$/.exec(answer?.text ?? "")?.[1] ?? "") as Record<string, unknown>
        )
      const make = (user: string, options: object) =>
        Effect.map(ask("POST", "/api/cal/sessions", { userUlid: user, ...options }), ({ session }) => String(session))
      const [ada = "", bob = "", eve = ""] = users

      const good: ReadonlyArray<Presented> = yield* Effect.forEach(
        [
          { user: ada, rules: { methods: ["GET"], paths: ["/bookings"] } },
          { user: bob, rules: { methods: ["POST", "DELETE"], paths: ["/event-types/7", "/slots"] } },
          { user: ada, rules: { paths: ["/me"] } },
          { user: bob, rules: {} }
        ],
        ({ rules, user }) => Effect.map(make(user, rules), (text): Presented => ({ text, user, rules }))
      )
      const over: ReadonlyArray<Presented> = [
        { user: ada, text: yield* make(ada, { ttl: 1 }) },
        { user: eve, text: yield* make(eve, {}) }
      ]
      assert.deepStrictEqual(yield* ask("DELETE", `/api/cal/sessions/${eve}`), { success: true })
      yield* Effect.sleep("1100 millis")

      const texts = [...good, ...over].map(({ text }) => text)
      const presented: FastCheck.Arbitrary<Presented> = oneof(
        { weight: 7, arbitrary: constantFrom(...good) },
        { weight: 1, arbitrary: constantFrom(...over) },
        {
          weight: 2,
          arbitrary: altered(texts)
            .filter((text) => !texts.includes(text))
            .map((text): Presented => ({ text, user: "nobody" }))
        },
        {
          weight: 1,
          arbitrary: constantFrom(keys.all, tokenOf(ada), "x").map((text): Presented => ({ text, user: "nobody" }))
        }
      )
      const request = record({ presented, path, method, override, hasBody: constantFrom(false, false, true) })

      let sent = 0
      const seen = new Set<string>()
      const judge = (
        { method, path, presented }: { readonly presented: Presented; readonly path: string; readonly method: string },
        answer: Answer | undefined,
        arrived: ReadonlyArray<Reached>
      ) => {
        const what = JSON.stringify({ ...presented, method, path, answer: answer?.text, arrived })
        assert(answer !== undefined, what)
        assert.include([200, 400, 401, 403, 404], answer.status, what)
        assert.strictEqual(arrived.length, answer.status === 200 ? 1 : 0, what)
        for (const user of users) assert.notInclude(answer.text, tokenOf(user), what)
        assert.deepStrictEqual(answer.text.match(/\r\ncache-control: .*/gi), ["\r\ncache-control: no-store"], what)
        assert.notMatch(answer.text, /\r\n(?:set-cookie|access-control-[\w-]+):/i, what)
        seen.add(`${answer.status} ${presented.rules === undefined ? "none" : texts.indexOf(presented.text)}`)
        const [call] = arrived
        if (call === undefined) return
        assert(presented.rules !== undefined, what)
        assert.strictEqual(call.authorization, `Bearer ${tokenOf(presented.user)}`, what)
        assert.strictEqual(call.method, method, what)
        const { methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"], paths = [""] } = presented.rules
        assert.include(methods, method, what)
        // As it is written, and as the most lenient reader understands it.
        for (const read of [call.url.split("?", 1)[0] ?? "", readLeniently(call.url)]) {
          assert.isTrue(
            paths.some((prefix) => isBelow(read, `/v2${prefix}`)),
            what
          )
          assert.notMatch(read.toLowerCase().replace(/^\/(v2\/)+/, "/"), /^\/(oauth|auth|oauth-clients)(\/|$)/, what)
        }
        assert.notMatch(readLeniently(call.url), /[\u0000-\u001f]/, what)
      }

      for (const seed of seeds) {
        yield* Effect.promise(() =>
          FastCheck.assert(
            FastCheck.asyncProperty(array(request, { minLength: perBatch, maxLength: perBatch }), async (requests) => {
              const from = reached.length
              const answers = await converse(
                port,
                requests.map(({ hasBody, method, override, path, presented }, index) => ({
                  method,
                  target: `/api/cal/me${path}`,
                  body: hasBody && ["POST", "PUT", "PATCH"].includes(method) ? "{}" : undefined,
                  key: presented.text,
                  headers: { ...override, "X-Request-Id": `call-${index}` }
                }))
              )
              const arrived = reached.slice(from)
              for (const [index, request] of requests.entries()) {
                judge(
                  request,
                  answers[index],
                  arrived.filter(({ id }) => id === `call-${index}`)
                )
              }
              assert.isTrue(arrived.every(({ id }) => /^call-\d+$/.test(id)))
              sent += requests.length
            }),
            { numRuns: batches, seed, endOnFailure: true }
          )
        )
      }
      assert.strictEqual(sent, 10_000)
      // They are no nonsense either: each session was used for what it is for, and for what it is not.
      for (const index of good.keys()) assert.includeMembers([...seen], [`200 ${index}`, `400 ${index}`])
      for (const index of [0, 1, 2]) assert.include([...seen], `403 ${index}`)
      assert.include([...seen], "401 none")
      assert.isAbove(reached.length, 500)
    }).pipe(Effect.provide(layerWith(reached)))
  })
})
