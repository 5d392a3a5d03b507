/** What a request leaves in the log: who reads it finds each failure once, and all that belongs to one request. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, HashMap, Layer, Logger, LogLevel, TestClock } from "effect"
import * as Sandbox from "../../src/Sandbox.js"
import * as Fakes from "../support/HttpFakes.js"
import * as HttpWorld from "../support/HttpWorld.js"
import * as World from "../support/World.js"

interface Line {
  readonly level: string
  readonly message: string
  readonly annotations: Readonly<Record<string, unknown>>
}

/** The service on the real core, and all that it logs. */
const withLines = (
  test: (
    lines: () => ReadonlyArray<Line>
  ) => Effect.Effect<void, unknown, Layer.Layer.Success<ReturnType<typeof HttpWorld.layer>>>
) =>
  Effect.suspend(() => {
    const lines: Array<Line> = []
    const logger = Logger.make(({ annotations, cause, logLevel, message }) => {
      assert.isTrue(Cause.isEmpty(cause))
      lines.push({
        level: logLevel.label,
        message: String(message),
        annotations: Object.fromEntries(HashMap.entries(annotations))
      })
    })
    return test(() => lines.splice(0)).pipe(
      Effect.provide(HttpWorld.layer({ logger }).pipe(Layer.provide(Logger.minimumLogLevel(LogLevel.Info))))
    )
  })

const ensure = (id?: string) =>
  HttpWorld.call({
    method: "POST",
    path: "/api/cal/ensure-token",
    key: HttpWorld.keys.manage,
    body: { userUlid: World.user() },
    headers: id === undefined ? {} : { "x-request-id": id }
  })

const codes = (lines: ReadonlyArray<Line>) => lines.map(({ annotations }) => annotations["code"])

describe("a failure has one line", () => {
  it.effect("of a user who is lost", () =>
    withLines((lines) =>
      Effect.gen(function* () {
        const { grant, sandbox } = yield* World.expired("oauth2")
        yield* sandbox.revokeRefreshTokens(grant.calUserId)
        lines()
        for (const id of ["first", "second"]) {
          assert.strictEqual((yield* ensure(id)).status, 409)
          const [line, ...others] = lines()
          assert.deepStrictEqual(others, [])
          assert.deepInclude(line?.annotations, {
            code: "ReauthorizationRequired",
            requestId: id,
            userUlid: World.user()
          })
        }
      })
    )
  )

  it.effect("of a refresh that failed, and of a caller who comes too early after that", () =>
    withLines((lines) =>
      Effect.gen(function* () {
        const { refresh, sandbox } = yield* World.expired("managed")
        yield* sandbox.inject(Sandbox.Fault.status(429, { ...refresh, times: 9 }))
        lines()
        assert.strictEqual((yield* ensure()).status, 429)
        assert.deepStrictEqual(codes(lines()), ["CalRateLimited"])
        assert.strictEqual((yield* ensure()).status, 429)
        assert.strictEqual(lines().length, 1)
      })
    )
  )

  for (const state of ["due", "expiringSoon"] as const) {
    it.effect(`also where the token goes on and nobody else is told: ${state}`, () =>
      withLines((lines) =>
        Effect.gen(function* () {
          const { refresh, sandbox } = yield* World[state]("managed")
          yield* sandbox.inject(Sandbox.Fault.status(429, { ...refresh, times: 9 }))
          lines()
          for (const what of ["it fails", "it is held back"]) {
            assert.strictEqual((yield* ensure()).status, 200, what)
            // What goes on behind the caller's back.
            yield* TestClock.adjust("1 second")
          }
          const [line, ...others] = lines()
          assert.deepStrictEqual(others, [])
          assert.strictEqual(line?.message, "Refresh failed")
          assert.deepInclude(line?.annotations, {
            code: "CalRateLimited",
            operation: "refresh",
            userUlid: World.user()
          })
        })
      )
    )
  }

  it.effect("and no line says that something is undefined", () =>
    withLines((lines) =>
      Effect.gen(function* () {
        yield* World.expired("managed")
        assert.strictEqual((yield* ensure()).status, 200)
        const all = lines()
        assert.include(
          all.map(({ message }) => message),
          "Tokens refreshed"
        )
        for (const { annotations } of all) assert.notInclude(Object.values(annotations), undefined)
      })
    )
  )
})

describe("a request has an id", () => {
  const ids: Record<string, boolean> = {
    "01HZY9TEST": true,
    "7f0c:a_b.c-D": true,
    ["x".repeat(128)]: true,
    ["x".repeat(129)]: false,
    "": false,
    "a b": false,
    "a, b": false,
    "a\tb": false,
    "a/b": false,
    'a"b': false,
    "{${jndi}": false
  }

  it.effect("in its answer, its lines and the audit trail: its caller's, if that is one", () =>
    Effect.gen(function* () {
      const { audit, logs } = yield* Fakes.Fake
      for (const [id, isTaken] of Object.entries(ids)) {
        const { headers } = yield* Fakes.call({
          path: "/api/cal/ensure-token",
          key: "x".repeat(40),
          body: "{}",
          headers: { "X-Request-Id": id }
        })
        const told = headers["x-request-id"] ?? ""
        if (isTaken) assert.strictEqual(told, id)
        else assert.match(told, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
        const found = [...logs.splice(0), ...audit.splice(0)]
        assert.isAbove(found.length, 0)
        for (const { annotations } of found) {
          assert.strictEqual(annotations["requestId"] ?? annotations["request.id"], told)
        }
      }
      const twice = yield* Fakes.raw(
        "GET /health/live HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\r\nX-Request-Id: b\r\nConnection: close\r\n\r\n"
      )
      assert.match(twice, /\r\nx-request-id: [0-9a-f-]{36}\r\n/i)
    }).pipe(Effect.provide(Fakes.layerWith({ limits: { failuresPerAddress: 1000 } })))
  )

  it.effect("whatever the answer is", () =>
    Effect.gen(function* () {
      const requests: ReadonlyArray<Fakes.Call> = [
        { method: "GET", path: "/health/live" },
        { method: "GET", path: "/docs" },
        { method: "GET", path: "/nowhere" },
        { method: "DELETE", path: "/api/cal/ensure-token" },
        { path: "/api/cal/ensure-token", key: Fakes.keys.all, body: "[" },
        { method: "GET", path: "/api/cal/connections?limit=x", key: Fakes.keys.all },
        { method: "GET", path: "/api/cal/oauth/callback" },
        { method: "GET", path: "/api/cal/me/bookings" },
        { method: "HEAD", path: `/api/cal/proxy/${Fakes.userUlid}/me`, key: Fakes.keys.all }
      ]
      for (const request of requests) {
        const { headers, status } = yield* Fakes.call({ ...request, headers: { "x-request-id": "mine" } })
        assert.strictEqual(headers["x-request-id"], "mine", `${request.path} ${status}`)
      }
    }).pipe(Effect.provide(Fakes.layer))
  )
})
