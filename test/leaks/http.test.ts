/** Neither the answers nor the logs of the HTTP service tell a token, but where handing one out is the purpose. */
import { randomBytes } from "node:crypto"
import { HttpClient, HttpClientRequest } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Layer, Redacted, TestClock } from "effect"
import * as ConnectFlow from "../../src/ConnectFlow.js"
import * as FlowStorage from "../../src/FlowStorage.js"
import * as Http from "../../src/Http.js"
import * as ApiKeys from "../../src/ApiKeys.js"
import * as Origins from "../../src/Http/Origins.js"
import * as Lifecycle from "../../src/Http/Lifecycle.js"
import * as KeyRing from "../../src/KeyRing.js"
import * as Sandbox from "../../src/Sandbox.js"
import { LeakWorld, type Services, watch } from "../support/LeakWorld.js"
import * as World from "../support/World.js"

const user = World.user()

interface Call {
  readonly method?: "GET" | "POST" | "PUT" | "DELETE"
  readonly path: string
  readonly key?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
}

/** The service on a socket; every answer is shown to the witness. */
const makeServer = Effect.gen(function* () {
  const { act, witness } = yield* LeakWorld
  const secrets = { all: randomBytes(24).toString("base64url"), proxy: randomBytes(24).toString("base64url") }
  Object.entries(secrets).forEach(([name, secret]) => witness.secrets.add(`API key ${name}`, secret))
  const text = `all:${secrets.all}:manage+read-token+proxy+metrics,proxy:${secrets.proxy}:proxy`
  const context = yield* Layer.build(
    Http.layer.pipe(
      Layer.provideMerge(NodeHttpServer.layerTest),
      Layer.provide(ApiKeys.layer(Either.getOrThrow(ApiKeys.parse(text)))),
      Layer.provide(Lifecycle.layer),
      Layer.provide(KeyRing.layerEphemeral),
      Layer.provide(Layer.succeed(Origins.AllowedOrigins, ["https://app.example.com"])),
      Layer.provide(ConnectFlow.layer({})),
      Layer.provide(FlowStorage.layerMemory)
    )
  )
  /** `keep` gets the answer; of what is returned, the witness knows. */
  const send = (
    { body, headers = {}, key = secrets.all, method = "POST", path }: Call,
    keep: (answer: { readonly body: string }) => void
  ) =>
    act(
      `${method} ${path.slice(0, 40)}`,
      Effect.gen(function* () {
        const client = yield* HttpClient.HttpClient
        const request = HttpClientRequest.make(method)(path).pipe(
          HttpClientRequest.setHeaders({ ...(key === "" ? {} : { authorization: `Bearer ${key}` }), ...headers }),
          body === undefined
            ? (bare) => bare
            : HttpClientRequest.bodyText(typeof body === "string" ? body : JSON.stringify(body), "application/json")
        )
        const response = yield* client.execute(request)
        const answer = { status: response.status, headers: { ...response.headers }, body: yield* response.text }
        keep(answer)
        return response.status
      }).pipe(
        // The program that asks is not the one that is watched.
        Effect.withTracerEnabled(false),
        Effect.provide(context)
      )
    ).pipe(Effect.flatten, Effect.orDie)
  const call = (request: Call) => send(request, (answer) => witness.note("http", answer))
  /** A session, from the only answer that may hold it. */
  const session = (options: object) =>
    Effect.suspend(() => {
      let made = ""
      const request = { path: "/api/cal/sessions", body: options }
      return Effect.map(
        send(request, ({ body }) => (made = (JSON.parse(body) as { readonly session: string }).session)),
        () => made
      )
    })
  return { call, session, secrets }
})

const scenario = (name: string, effect: Effect.Effect<void, unknown, Services>, except: ReadonlyArray<string> = []) =>
  it.effect(
    name,
    () =>
      Effect.map(watch(effect, { except }), (seen) => {
        for (const channel of ["http", "log.json"]) assert.isAbove(seen.get(channel) ?? 0, 0, channel)
      }),
    60_000
  )

const body = { userUlid: user }

describe("the HTTP service tells no token", () => {
  scenario(
    "to whom it does not know, or does not understand",
    Effect.scoped(
      Effect.gen(function* () {
        const { witness } = yield* LeakWorld
        const { call, secrets } = yield* makeServer
        const sandbox = yield* Sandbox.Sandbox
        const grant = yield* World.connectManaged()
        const wrong = randomBytes(32).toString("base64url")
        witness.secrets.add("wrong key", wrong)
        const path = "/api/cal/ensure-token"
        assert.strictEqual(yield* call({ path, body, key: "" }), 401)
        assert.strictEqual(yield* call({ path, body, key: wrong }), 401)
        assert.strictEqual(yield* call({ path, body, key: secrets.proxy }), 403)
        assert.strictEqual(yield* call({ path, body: { userUlid: wrong } }), 400)
        assert.strictEqual(yield* call({ path, body: `{"userUlid":"${wrong}` }), 400)
        assert.strictEqual(yield* call({ path, body: { ...body, userUlid: [wrong] } }), 400)
        assert.strictEqual(yield* call({ path: "/api/cal/elsewhere", body: { token: wrong } }), 404)
        assert.strictEqual(yield* call({ method: "GET", path: "/api/cal/connections/nobody" }), 400)

        const other = yield* sandbox.grantManaged({ email: "other@example.com" })
        const tokens = {
          kind: "managed",
          calUserId: other.calUserId,
          accessToken: Redacted.value(other.accessToken),
          refreshToken: Redacted.value(other.refreshToken),
          accessTokenExpiresAt: other.accessTokenExpiresAt
        }
        const put = (changes: object, of = user) =>
          call({ method: "PUT", path: `/api/cal/connections/${of}`, body: { ...tokens, ...changes } })
        assert.strictEqual(yield* put({ accessToken: `${wrong} ${tokens.accessToken}` }), 400)
        assert.strictEqual(yield* put({ accessToken: { is: tokens.accessToken } }), 400)
        assert.strictEqual(yield* put({ refreshToken: [tokens.refreshToken] }), 400)
        assert.strictEqual(yield* put({ kind: tokens.refreshToken }), 400)
        assert.strictEqual(yield* put({ calUserId: tokens.refreshToken }), 400)
        assert.strictEqual(yield* put({ accessTokenExpiresAt: tokens.refreshToken }), 400)
        assert.strictEqual(yield* put({ [tokens.refreshToken]: 1, accessToken: 1 }), 400)
        assert.strictEqual(yield* put({ padding: tokens.refreshToken.repeat(5000) }), 413)
        assert.strictEqual(yield* put({ calUserId: grant.calUserId }, World.user(2)), 400)
        assert.strictEqual(yield* put({}, World.user(2)), 200)
        assert.strictEqual(yield* put({}), 409)

        const rows = [
          { ...tokens, userUlid: tokens.refreshToken },
          { ...tokens, userUlid: user, accessToken: `${wrong} ${tokens.accessToken}` },
          { ...tokens, userUlid: user, refreshToken: [tokens.refreshToken] },
          { ...tokens, userUlid: user, kind: tokens.refreshToken },
          { ...tokens, userUlid: user, clientId: tokens.refreshToken },
          { ...tokens, userUlid: user, accessTokenExpiresAt: tokens.refreshToken },
          { ...tokens, userUlid: user },
          { ...tokens, userUlid: World.user(2) },
          tokens.refreshToken
        ]
        const all = (body: unknown) => call({ method: "PUT", path: "/api/cal/connections", body })
        assert.strictEqual(yield* all({ connections: rows }), 200)
        assert.strictEqual(yield* all({ connections: tokens.refreshToken }), 400)
        assert.strictEqual(yield* all({ connections: Array.from({ length: 501 }, () => tokens.refreshToken) }), 400)
        assert.strictEqual(yield* all({ [tokens.refreshToken]: rows }), 400)
      })
    )
  )

  scenario(
    "that somebody wrote into a URL or a header, in a span",
    Effect.scoped(
      Effect.gen(function* () {
        const { witness } = yield* LeakWorld
        const { call } = yield* makeServer
        const grant = yield* World.connectManaged()
        const token = Redacted.value(grant.accessToken)
        const wrong = randomBytes(32).toString("base64url")
        witness.secrets.add("wrong key", wrong)
        for (const secret of [token, wrong]) {
          const headers = { "user-agent": secret, "x-cal-secret-key": secret, cookie: `session=${secret}` }
          assert.strictEqual(yield* call({ path: `/api/cal/ensure-token?token=${secret}`, body, headers }), 200)
          assert.isAtLeast(yield* call({ method: "GET", path: `/api/cal/connections/${secret}`, headers }), 400)
          assert.strictEqual(yield* call({ method: "GET", path: `/api/cal/nowhere/${secret}`, headers }), 404)
          assert.strictEqual(yield* call({ method: "GET", path: `/health/ready?token=${secret}`, headers }), 200)
        }
      })
    )
  )

  scenario(
    "and no session, but to whom it is made for",
    Effect.scoped(
      Effect.gen(function* () {
        const { interfere, noOutage, outage, witness } = yield* LeakWorld
        const { call, secrets, session: make } = yield* makeServer
        yield* World.connectManaged()
        const session = yield* make({ ...body, ttl: 86_400 })
        const short = yield* make({ ...body, ttl: 3600, methods: ["GET"], paths: ["/bookings"] })
        Object.entries({ session, short }).forEach(([name, text]) => witness.secrets.add(name, text))
        const me = (path: string, more: Partial<Call> = {}) =>
          call({ method: "GET", path: `/api/cal/me${path}`, key: session, ...more })

        assert.strictEqual(yield* me("/me"), 200)
        assert.strictEqual(yield* me("/me", { key: short }), 403)
        yield* TestClock.adjust("1 hour")
        for (const key of [short, `${session}x`, session.slice(0, -9), session.toUpperCase(), `${session}.x`]) {
          assert.strictEqual(yield* me("/me", { key }), 401)
        }
        // Where it does not belong.
        const headers = {
          "user-agent": session,
          cookie: `session=${session}`,
          "x-request-id": session,
          origin: session
        }
        assert.strictEqual(yield* me("/me", { headers }), 403)
        assert.strictEqual(yield* call({ path: "/api/cal/ensure-token", body, key: session }), 401)
        assert.strictEqual(yield* call({ path: "/api/cal/sessions", body, key: session }), 401)
        assert.strictEqual(yield* call({ path: "/api/cal/sessions", body, key: secrets.proxy }), 403)
        assert.strictEqual(yield* call({ method: "GET", path: "/api/cal/atoms/refresh", key: session }), 401)
        for (const field of ["userUlid", "ttl", "methods", "paths"]) {
          assert.strictEqual(yield* call({ path: "/api/cal/sessions", body: { ...body, [field]: session } }), 400)
          assert.strictEqual(yield* call({ path: "/api/cal/sessions", body: { ...body, [field]: [session] } }), 400)
        }
        assert.strictEqual(yield* call({ method: "DELETE", path: `/api/cal/sessions/${session}` }), 404)
        assert.strictEqual(yield* me(`/me?session=${session}`), 200)
        assert.strictEqual(yield* me(`/..;/${session}`), 400)
        assert.strictEqual(yield* me(`/oauth/${session}`), 400)

        // Cal.com never had it, so it cannot quote it; and what it quotes is no token.
        yield* interfere(({ authorization, body, url }) =>
          Response.json({ error: { message: `access token=${authorization} ${body} ${url}` } }, { status: 403 })
        )
        assert.strictEqual(yield* me("/bookings", { method: "POST", body: { a: 1 } }), 403)
        yield* interfere(() => undefined)
        for (const failure of ["fails", "fails and shows the row"] as const) {
          yield* TestClock.adjust("6 seconds")
          yield* outage(failure, "find")
          assert.strictEqual(yield* me("/me"), 503)
          assert.strictEqual(yield* call({ path: "/api/cal/sessions", body }), 503)
          yield* outage(failure, "endSessions")
          assert.strictEqual(yield* call({ method: "DELETE", path: `/api/cal/sessions/${user}` }), 503)
          yield* noOutage
        }
        assert.strictEqual(yield* call({ method: "DELETE", path: `/api/cal/sessions/${user}` }), 200)
        assert.strictEqual(yield* me("/me"), 401)
        assert.strictEqual(yield* call({ method: "GET", path: "/metrics" }), 200)
      })
    )
  )

  scenario(
    "when Cal.com refuses, quotes or fails",
    Effect.scoped(
      Effect.gen(function* () {
        const { interfere } = yield* LeakWorld
        const { call } = yield* makeServer
        const sandbox = yield* Sandbox.Sandbox
        const grant = yield* World.connectManaged()
        const proxied = (path: string, more: Partial<Call> = {}) =>
          call({ method: "GET", path: `/api/cal/proxy/${user}${path}`, ...more })
        assert.strictEqual(yield* proxied("/me"), 200)
        yield* call({ path: "/api/cal/refresh-token", body: { ...body, forceRefresh: true } })
        yield* call({ path: "/api/cal/refresh-managed-user-token", body: { ...body, reissue: true } })
        for (const status of [400, 401, 403, 404, 498, 500]) {
          yield* TestClock.adjust("61 minutes")
          yield* interfere(({ authorization, body, secretKey, url }) => {
            const message = `${url} ${authorization} ${secretKey} ${body}`
            return Response.json(
              {
                status: "error",
                error: {
                  code: "X",
                  message: `PermissionsGuard - no oAuth client found for access token=${message}`,
                  details: { errors: [{ target: message, value: message, property: "refreshToken" }] }
                }
              },
              { status, headers: { "x-request-id": authorization, location: `https://elsewhere.example/${message}` } }
            )
          })
          yield* call({ path: "/api/cal/ensure-token", body })
          yield* proxied("/bookings")
          yield* interfere(() => undefined)
          yield* TestClock.adjust("2 minutes")
          yield* proxied("/me")
          // This time the token is good and the API quotes it.
          yield* interfere(({ authorization, url }) =>
            Response.json(
              { error: { message: `access token=${authorization}` } },
              { status, headers: { link: `<${url}>` } }
            )
          )
          yield* proxied("/bookings?take=1", { headers: { "x-cal-secret-key": "theirs" } })
          yield* proxied("/bookings", { method: "POST", body: { a: 1 } })
          yield* interfere(() => undefined)
        }
        yield* sandbox.deleteUser(grant.calUserId)
        yield* TestClock.adjust("61 minutes")
        yield* call({ path: "/api/cal/ensure-token", body })
        yield* proxied("/bookings")
        yield* call({ method: "GET", path: `/api/cal/connections/${user}` })
        for (const path of ["//x@elsewhere.example", "/..%2f..", "/\\x", "/a/../b"]) yield* proxied(path)
      })
    )
  )

  scenario(
    "but to whom it hands one out, and then in the answer only",
    Effect.scoped(
      Effect.gen(function* () {
        const { interfere, witness } = yield* LeakWorld
        const { call } = yield* makeServer
        const sandbox = yield* Sandbox.Sandbox
        const grant = yield* World.obtainManaged()
        const wrong = randomBytes(32).toString("base64url")
        witness.secrets.add("wrong token", wrong)
        const atoms = (token: string) => call({ method: "GET", path: "/api/cal/atoms/refresh", key: token })
        const token = Redacted.value(grant.accessToken)
        const read = call({ method: "GET", path: `/api/cal/access-token/${user}` })
        assert.strictEqual(yield* read, 200)
        yield* TestClock.adjust("61 minutes")
        assert.strictEqual(yield* atoms(token), 200)
        assert.strictEqual(yield* atoms(token), 200)
        for (const nobody of [wrong, Redacted.value(grant.refreshToken), `${token}x`]) {
          assert.strictEqual(yield* atoms(nobody), 401)
        }
        yield* interfere(({ body, secretKey, url }) =>
          Response.json({ message: `${url} ${secretKey} ${body}` }, { status: 400 })
        )
        yield* TestClock.adjust("61 minutes")
        yield* read
        yield* atoms(token)
        const person = { userUlid: World.user(2), email: "ada@example.com", name: "Ada" }
        assert.strictEqual(yield* call({ path: "/api/cal/managed-users", body: person }), 502)
        yield* interfere(() => undefined)
        yield* sandbox.grantManaged({ email: person.email })
        assert.strictEqual(yield* call({ path: "/api/cal/managed-users", body: person }), 200)
        assert.strictEqual(yield* call({ method: "GET", path: `/api/cal/connections?cursor=${wrong}` }), 400)
        assert.strictEqual(yield* call({ method: "GET", path: `/api/cal/connections?limit=${wrong}` }), 400)
        assert.strictEqual(yield* call({ method: "GET", path: "/api/cal/connections" }), 200)
      })
    ),
    ["http"]
  )

  for (const outage of ["fails", "dies"] as const) {
    scenario(
      `when the storage ${outage} with a row in its hands`,
      Effect.scoped(
        Effect.gen(function* () {
          const world = yield* LeakWorld
          const { call } = yield* makeServer
          yield* World.connectManaged()
          for (const operation of ["claim", "commit", "find", "connect", "disconnect"] as const) {
            yield* TestClock.adjust("61 minutes")
            yield* world.outage(outage, operation)
            yield* call({ path: "/api/cal/ensure-token", body })
            yield* call({ method: "GET", path: `/api/cal/proxy/${user}/me` })
            yield* call({
              method: "PUT",
              path: `/api/cal/connections/${user}`,
              body: {
                kind: "managed",
                calUserId: 1,
                accessToken: "a",
                refreshToken: "r",
                accessTokenExpiresAt: World.epoch
              }
            })
            yield* call({ method: "DELETE", path: `/api/cal/connections/${World.user(2)}` })
            yield* world.noOutage
            yield* TestClock.adjust("2 minutes")
          }
          yield* call({ path: "/api/cal/ensure-token", body })
        })
      ),
      // What a driver dies of is its own: spans and causes hold it as it is, and say its message.
      outage === "dies" ? ["span.failure", "log.cause"] : []
    )
  }
})
