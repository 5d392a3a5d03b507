import { createServer } from "node:http"
import { FetchHttpClient, HttpClient, HttpServerRequest } from "@effect/platform"
import { NodeHttpClient } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Either, Fiber, Layer, Redacted, type Scope, TestClock } from "effect"
import { Fault, Sandbox, layer as sandboxLayer } from "../../src/Sandbox.js"
import { at, C, layer, listeningWith, options, request, toAnswer, type Answer } from "../support/SandboxWorld.js"

/** What became of a refresh, as a caller sees it. */
interface Seen {
  readonly outcome: "answered" | "requestError" | "responseError"
  readonly answer?: Answer
  readonly codes?: ReadonlyArray<unknown>
}

const refresh = (origin: string, token: Redacted.Redacted | string) =>
  Effect.gen(function* () {
    const client = yield* HttpClient.HttpClient
    const response = yield* client.execute(
      request("POST", `${origin}/v2/oauth/${C}/refresh`, {
        headers: { "x-cal-secret-key": "secret" },
        json: { refreshToken: typeof token === "string" ? token : Redacted.value(token) }
      })
    )
    return toAnswer(response.status, response.headers, yield* response.text)
  }).pipe(
    Effect.either,
    Effect.map(
      Either.match({
        onRight: (answer): Seen => ({ outcome: "answered", answer }),
        onLeft: (error): Seen => ({
          outcome: error._tag === "RequestError" ? "requestError" : "responseError",
          codes: codesOf(error.cause)
        })
      })
    )
  )

/** The system's codes in a chain of causes. */
const codesOf = (cause: unknown): ReadonlyArray<unknown> =>
  cause instanceof Error ? [at(cause, "code"), ...codesOf(cause.cause)] : []

type Env = Sandbox | HttpClient.HttpClient | Scope.Scope

/** Each fault once, for any way to reach the simulator. `origin` is where it listens. */
const suite = (
  name: string,
  options: {
    readonly origin: Effect.Effect<string, unknown, Env>
    readonly resets: ReadonlyArray<string>
    readonly refused: ReadonlyArray<string>
    readonly it: (name: string, test: Effect.Effect<void, unknown, Env>) => void
  }
) =>
  describe(name, () => {
    const struck = (fault: Fault) =>
      Effect.gen(function* () {
        const sandbox = yield* Sandbox
        const origin = yield* options.origin
        const grant = yield* sandbox.grantManaged()
        yield* sandbox.inject(fault)
        // A broken connection shows at once, not when some keep-alive ends.
        const seen = yield* Effect.timeout(refresh(origin, grant.refreshToken), "3 seconds")
        const spent = !(yield* sandbox.isLive(grant.refreshToken))
        // A fault strikes once.
        const next = yield* sandbox.grantManaged()
        assert.strictEqual((yield* refresh(origin, next.refreshToken)).answer?.status, 200)
        const [call] = yield* sandbox.calls
        return { seen, spent, call }
      })
    const lost = (seen: Seen, codes: ReadonlyArray<string>) => {
      assert.strictEqual(seen.outcome, "requestError")
      assert.isTrue(
        seen.codes?.some((code) => codes.some((expected) => code === expected)),
        `${JSON.stringify(seen.codes)}`
      )
    }

    options.it(
      "refuses the connection",
      Effect.gen(function* () {
        const { seen, spent } = yield* struck(Fault.refuseConnection())
        lost(seen, options.refused)
        assert.isFalse(spent)
        assert.strictEqual(yield* Effect.flatMap(Sandbox, (sandbox) => sandbox.count("refresh")), 1)
      })
    )

    options.it(
      "drops the connection before anything happened",
      Effect.gen(function* () {
        const { call, seen, spent } = yield* struck(Fault.dropBefore())
        lost(seen, options.resets)
        assert.isFalse(spent)
        assert.deepInclude(call, { status: 0, fault: "DropBefore" })
      })
    )

    options.it(
      "drops the connection after it happened",
      Effect.gen(function* () {
        const { call, seen, spent } = yield* struck(Fault.dropAfter())
        lost(seen, options.resets)
        assert.isTrue(spent)
        assert.deepInclude(call, { status: 200, fault: "DropAfter" })
        assert.isString(call?.issuedRefreshTokenHash)
      })
    )

    options.it(
      "cuts the body",
      Effect.gen(function* () {
        const { seen, spent } = yield* struck(Fault.truncated())
        assert.strictEqual(seen.outcome, "responseError")
        assert.isTrue(spent)
      })
    )

    options.it(
      "answers with another status",
      Effect.gen(function* () {
        for (const status of [429, 500, 502, 503, 504]) {
          const { call, seen, spent } = yield* struck(Fault.status(status, { headers: { "x-test": "yes" } }))
          assert.strictEqual(seen.answer?.status, status)
          assert.strictEqual(seen.answer?.headers["x-test"], "yes")
          assert.isString(seen.answer?.headers.date)
          assert.strictEqual(seen.answer?.at("error.code"), status === 429 ? "ThrottlerException" : codeOf(status))
          assert.isFalse(spent)
          assert.strictEqual(call?.status, 0)
          yield* Effect.flatMap(Sandbox, (sandbox) => sandbox.resetCalls)
        }
        const { spent } = yield* struck(Fault.status(500, { committed: true }))
        assert.isTrue(spent)
      })
    )

    options.it(
      "answers with rubbish",
      Effect.gen(function* () {
        const garbage = yield* struck(Fault.garbage())
        assert.strictEqual(garbage.seen.answer?.status, 200)
        assert.strictEqual(garbage.seen.answer?.body, undefined)
        assert.isTrue(garbage.spent)
        const html = yield* struck(Fault.html({ committed: false }))
        assert.match(html.seen.answer?.headers["content-type"] ?? "", /^text\/html/)
        assert.isFalse(html.spent)
      })
    )
  })

const codeOf = (status: number) => (status === 500 ? "INTERNAL_SERVER_ERROR" : undefined)

const origin = "https://api.cal.com"

suite("faults in process", {
  origin: Effect.succeed(origin),
  resets: ["ECONNRESET"],
  refused: ["ECONNREFUSED"],
  it: (name, test) => it.scoped(name, () => Effect.provide(test, layer()))
})

const listening = Effect.flatMap(Sandbox, ({ app }) => listeningWith(app))

for (const [name, client, resets] of [
  ["undici", NodeHttpClient.layerUndici, ["ECONNRESET", "UND_ERR_SOCKET"]],
  ["fetch", FetchHttpClient.layer, ["ECONNRESET", "UND_ERR_SOCKET"]],
  ["node:http", NodeHttpClient.layer, ["ECONNRESET"]]
] as const) {
  suite(`faults over a socket, ${name}`, {
    origin: listening,
    resets,
    refused: resets,
    it: (name, test) =>
      it.scopedLive(name, () => Effect.provide(test, Layer.merge(client, sandboxLayer(options))), { timeout: 10_000 })
  })
}

describe("scripting faults", () => {
  const api = (path = "/v2/me") =>
    Effect.map(
      Effect.flatMap(HttpClient.HttpClient, (client) => client.execute(request("GET", `${origin}${path}`))),
      (response) => response.status
    )

  it.effect("matches by kind, user, method and path, in order, as often as asked", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const one = yield* sandbox.grantManaged()
      const two = yield* sandbox.grantManaged()
      yield* sandbox.inject(Fault.status(503, { kind: "refresh", calUserId: two.calUserId }))
      yield* sandbox.inject(Fault.status(500, { method: "GET", pathPrefix: "/v2/bookings", times: 2 }))
      assert.strictEqual((yield* refresh(origin, one.refreshToken)).answer?.status, 200)
      assert.strictEqual((yield* refresh(origin, two.refreshToken)).answer?.status, 503)
      assert.strictEqual((yield* refresh(origin, two.refreshToken)).answer?.status, 200)
      assert.deepStrictEqual(
        yield* Effect.all([api(), api("/v2/bookings"), api("/v2/bookings/x"), api("/v2/bookings")]),
        [401, 500, 500, 403]
      )
      yield* sandbox.inject(Fault.status(500, { times: Infinity }))
      assert.deepStrictEqual(yield* Effect.all([api(), api()]), [500, 500])
      yield* sandbox.clearFaults
      assert.strictEqual(yield* api(), 401)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("delays before or after it took effect", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      for (const [fault, spentMeanwhile] of [
        [Fault.delayBefore("10 seconds"), false],
        [Fault.delayAfter("10 seconds"), true]
      ] as const) {
        const { refreshToken } = yield* sandbox.grantManaged()
        yield* sandbox.inject(fault)
        const call = yield* Effect.fork(refresh(origin, refreshToken))
        yield* TestClock.adjust("9 seconds")
        assert.strictEqual(!(yield* sandbox.isLive(refreshToken)), spentMeanwhile)
        assert.isTrue((yield* Fiber.poll(call))._tag === "None")
        yield* TestClock.adjust("1 second")
        assert.strictEqual((yield* Fiber.join(call)).answer?.status, 200)
      }
    }).pipe(Effect.provide(layer()))
  )

  it.effect("goes on when the caller gives up", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const { refreshToken } = yield* sandbox.grantManaged()
      yield* sandbox.inject(Fault.delayBefore("10 seconds"))
      const call = yield* Effect.fork(Effect.timeoutOption(refresh(origin, refreshToken), "8 seconds"))
      yield* TestClock.adjust("8 seconds")
      assert.strictEqual((yield* Fiber.join(call))._tag, "None")
      assert.isTrue(yield* sandbox.isLive(refreshToken))
      yield* TestClock.adjust("2 seconds")
      assert.isFalse(yield* sandbox.isLive(refreshToken))
      assert.strictEqual((yield* sandbox.calls)[0]?.status, 200)
    }).pipe(Effect.provide(layer()))
  )
})

describe("over a socket", () => {
  it.scoped("goes on when the caller hangs up", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const { refreshToken } = yield* sandbox.grantManaged()
      yield* sandbox.inject(Fault.delayBefore("10 seconds"))
      const arrived = yield* Deferred.make<void>()
      const hungUp = yield* Deferred.make<void>()
      // Whole: a request that breaks off is none.
      const arrival = Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ text }) =>
        Effect.zipRight(Effect.orDie(text), Deferred.succeed(arrived, undefined))
      )
      const server = createServer().on("connection", (socket) =>
        socket.once("close", () => Deferred.unsafeDone(hungUp, Effect.void))
      )
      // As a router has it, where the sandbox is mounted: a server alone interrupts nobody.
      const app = Effect.zipRight(arrival, Effect.interruptible(sandbox.app))
      const origin = yield* listeningWith(app, server)
      const call = yield* Effect.fork(refresh(origin, refreshToken))
      yield* Deferred.await(arrived)
      yield* Fiber.interrupt(call)
      yield* Deferred.await(hungUp)
      assert.isTrue(yield* sandbox.isLive(refreshToken))
      yield* TestClock.adjust("10 seconds")
      assert.isFalse(yield* sandbox.isLive(refreshToken))
      assert.strictEqual((yield* sandbox.calls)[0]?.status, 200)
    }).pipe(Effect.provide(Layer.merge(NodeHttpClient.layerUndici, sandboxLayer(options))))
  )
})
