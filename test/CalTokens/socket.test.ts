/**
 * The service against the sandbox behind a real socket, on the real clock: what becomes of a refresh when connections
 * and answers break, and that no refresh token is sent twice but for the one probe.
 */
import * as Http from "node:http"
import type * as Net from "node:net"
import { HttpServer } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Logger, Schedule } from "effect"
import * as CalClient from "../../src/CalClient.js"
import type { TokenHttp } from "../../src/CalHttp/HttpClients.js"
import * as CalClientNode from "../../src/CalHttp/Node.js"
import * as CalTokens from "../../src/CalTokens.js"
import * as Sandbox from "../../src/Sandbox.js"
import { hash } from "../../src/Token.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import type { TokenError } from "../../src/TokenError.js"
import { layerMemory } from "../../src/TokenStorage/Memory.js"
import * as OtherHttp from "../support/OtherHttp.js"
import { freePort } from "../support/Ports.js"
import * as World from "../support/World.js"

const user = World.user()
const kinds = ["managed", "oauth2"] as const
type Kind = (typeof kinds)[number]
const refreshKind = { managed: "refresh", oauth2: "oauth2Refresh" } as const

/** Short enough to wait for, and long enough for a busy machine. */
const config: Partial<TokenConfig.Options> = {
  callTimeout: Duration.seconds(3),
  lateAnswerWait: Duration.seconds(5),
  attemptTimeout: Duration.seconds(8),
  lease: Duration.seconds(10),
  callerWait: Duration.seconds(20),
  pollInterval: Duration.millis(20),
  probeDelayExpired: Duration.millis(200),
  probeDelayValid: Duration.millis(200),
  latePairWait: Duration.millis(500),
  maxAttempts: 10,
  backoffMin: Duration.millis(50),
  backoffMax: Duration.millis(100),
  circuitInterval: Duration.millis(100),
  // Room for many users is laid out at once.
  memoryMaxEntries: 10
}

/** The sandbox listening, on a port of its own unless one is given. */
const serve = (port = 0) =>
  Layer.unwrapEffect(Effect.map(Sandbox.Sandbox, (sandbox) => HttpServer.serve(sandbox.app))).pipe(
    Layer.provideMerge(NodeHttpServer.layer(() => Http.createServer(), { port, host: "127.0.0.1" }))
  )

const portOf = (address: HttpServer.Address) => (address._tag === "TcpAddress" ? address.port : 0)

const tokensAt = (
  port: number,
  changes: Partial<TokenConfig.Options> = {},
  http: Layer.Layer<TokenHttp> = CalClientNode.layerTokenHttp
) =>
  CalTokens.layer.pipe(
    Layer.provideMerge(CalClient.layer({ ...World.clientOptions(), apiUrl: `http://127.0.0.1:${port}/v2` })),
    Layer.provide(http),
    Layer.provide(Logger.remove(Logger.defaultLogger)),
    Layer.provide(TokenConfig.layer({ ...config, ...changes }))
  )

const layer = (changes?: Partial<TokenConfig.Options>) =>
  Layer.unwrapEffect(Effect.map(HttpServer.HttpServer, ({ address }) => tokensAt(portOf(address), changes))).pipe(
    Layer.provideMerge(serve()),
    Layer.provideMerge(Layer.merge(Sandbox.layer(), layerMemory))
  )

/** A user whose access token has just expired. */
const connectExpired = (kind: Kind) =>
  Effect.gen(function* () {
    const sandbox = yield* Sandbox.Sandbox
    const tokens = yield* CalTokens.CalTokens
    const grant = yield* kind === "managed" ? sandbox.grantManaged() : sandbox.grantOAuth2()
    const { accessToken, calUserId, refreshToken } = grant
    const pair = { accessToken, refreshToken, accessTokenExpiresAt: (yield* sandbox.now) - 1000 }
    yield* tokens.connect(user, { _tag: kind === "managed" ? "ManagedUser" : "OAuth2", calUserId }, pair)
    return { calUserId, refreshHash: hash(refreshToken) }
  })

const until = <R>(condition: Effect.Effect<boolean, TokenError, R>) =>
  condition.pipe(
    Effect.repeat({ until: (holds) => holds, schedule: Schedule.spaced("10 millis") }),
    Effect.timeout("10 seconds")
  )

/** A token that Cal.com takes, however many tries it needs. */
const recover = (tokens: typeof CalTokens.CalTokens.Service) =>
  tokens.ensureValid(user).pipe(
    Effect.retry({
      while: (error) => error._tag !== "ReauthorizationRequired",
      schedule: Schedule.spaced("50 millis").pipe(Schedule.upTo("20 seconds"))
    })
  )

/** No token was sent to an end that took effect more than once, nor at all more than twice: the second is the probe. */
const assertSentOnce = (probeDelay = 200) =>
  Effect.gen(function* () {
    const sandbox = yield* Sandbox.Sandbox
    const byToken = new Map<string, Array<Sandbox.Call>>()
    for (const call of yield* sandbox.calls) {
      if (call.refreshTokenHash === undefined) continue
      byToken.set(call.refreshTokenHash, [...(byToken.get(call.refreshTokenHash) ?? []), call])
    }
    for (const calls of byToken.values()) {
      assert.isAtMost(calls.length, 2, JSON.stringify(calls))
      assert.isAtMost(calls.filter(({ status }) => status === 200).length, 1)
      const [first, probe] = calls
      if (first !== undefined && probe !== undefined) assert.isAtLeast(probe.at - first.at, probeDelay)
    }
    return byToken
  })

interface Mishap {
  readonly name: string
  readonly fault: (script: { readonly kind: Sandbox.Kind }) => Sandbox.Fault
  /** Whether the token was spent, although nobody heard of it. */
  readonly spent: boolean
  /** Whether the first caller is told to come back instead of being helped. */
  readonly fails?: TokenError["_tag"]
}

const { Fault } = Sandbox

const mishaps: ReadonlyArray<Mishap> = [
  { name: "a drop before", fault: Fault.dropBefore, spent: false },
  { name: "a drop after", fault: Fault.dropAfter, spent: true },
  { name: "a truncated answer", fault: Fault.truncated, spent: true },
  { name: "garbage", fault: Fault.garbage, spent: true },
  { name: "garbage and nothing done", fault: (script) => Fault.garbage({ ...script, committed: false }), spent: false },
  { name: "a web page", fault: Fault.html, spent: true },
  { name: "a web page and nothing done", fault: (script) => Fault.html({ ...script, committed: false }), spent: false },
  ...[500, 502, 503, 504].flatMap((status): ReadonlyArray<Mishap> => [
    { name: `${status} and nothing done`, fault: (script) => Fault.status(status, script), spent: false },
    { name: `${status}`, fault: (script) => Fault.status(status, { ...script, committed: true }), spent: true }
  ]),
  {
    name: "429",
    fault: (script) => Fault.status(429, { ...script, headers: { "x-ratelimit-reset-default": "1" } }),
    spent: false,
    fails: "CalRateLimited"
  }
]

// They wait for each other's timers rather than each for its own.
describe("over a real socket", { concurrent: true }, () => {
  for (const kind of kinds) {
    for (const { fails, fault, name, spent } of mishaps) {
      it.scopedLive(`${name}: ${kind}`, () =>
        Effect.gen(function* () {
          const sandbox = yield* Sandbox.Sandbox
          const tokens = yield* CalTokens.CalTokens
          const { refreshHash } = yield* connectExpired(kind)
          yield* sandbox.inject(fault({ kind: refreshKind[kind] }))
          const first = yield* Effect.either(tokens.ensureValid(user))

          if (kind === "oauth2" && spent) {
            assert.strictEqual(first._tag, "Left")
            const error = yield* Effect.flip(recover(tokens))
            assert.isTrue(error._tag === "ReauthorizationRequired" && error.cause === "rotationLost", error.message)
          } else {
            assert.strictEqual(first._tag === "Left" ? first.left._tag : undefined, fails)
            const { accessToken } = yield* recover(tokens)
            assert.isTrue(yield* sandbox.isAccessLive(accessToken))
          }
          const sends = yield* assertSentOnce()
          assert.strictEqual(sends.get(refreshHash)?.length, 2)
          assert.strictEqual(yield* sandbox.count("forceRefresh"), kind === "managed" && spent ? 1 : 0)
        }).pipe(Effect.provide(layer()))
      )
    }

    it.scopedLive(`a port that is closed and opens: ${kind}`, () =>
      Effect.gen(function* () {
        const sandbox = yield* Sandbox.Sandbox
        const port = yield* Effect.promise(freePort)
        yield* Effect.gen(function* () {
          const tokens = yield* CalTokens.CalTokens
          const { refreshHash } = yield* connectExpired(kind)
          const error = yield* Effect.flip(tokens.ensureValid(user))
          assert.strictEqual(error._tag, "CalUnavailable")
          assert.include(error.message, "connection refused")
          assert.strictEqual((yield* tokens.info(user)).status._tag, "Active")
          yield* Layer.build(serve(port))
          const { accessToken } = yield* recover(tokens)
          assert.isTrue(yield* sandbox.isAccessLive(accessToken))
          // Nothing left this process before, so nothing was probed.
          assert.strictEqual((yield* assertSentOnce()).get(refreshHash)?.length, 1)
        }).pipe(Effect.provide(tokensAt(port)))
      }).pipe(Effect.provide(Layer.merge(Sandbox.layer(), layerMemory)))
    )

    it.scopedLive(`an answer after the timeout and before the probe is used: ${kind}`, () =>
      Effect.gen(function* () {
        const sandbox = yield* Sandbox.Sandbox
        const tokens = yield* CalTokens.CalTokens
        const { refreshHash } = yield* connectExpired(kind)
        yield* sandbox.inject(Fault.delayAfter("600 millis", { kind: refreshKind[kind] }))
        const { accessToken } = yield* recover(tokens)
        assert.isTrue(yield* sandbox.isAccessLive(accessToken))
        assert.strictEqual((yield* assertSentOnce()).get(refreshHash)?.length, 1)
        assert.strictEqual(yield* sandbox.count("forceRefresh"), 0)
      }).pipe(Effect.provide(layer({ callTimeout: Duration.millis(300), probeDelayExpired: Duration.seconds(10) })))
    )

    it.scopedLive(`an answer after the probe is still worth something: ${kind}`, () =>
      Effect.gen(function* () {
        const sandbox = yield* Sandbox.Sandbox
        const tokens = yield* CalTokens.CalTokens
        const { refreshHash } = yield* connectExpired(kind)
        yield* sandbox.inject(Fault.delayAfter("4 seconds", { kind: refreshKind[kind] }))
        // Nobody has to reconnect for an answer that was only late.
        yield* tokens.ensureValid(user)
        yield* until(Effect.map(tokens.info(user), ({ isExpired, status }) => status._tag === "Active" && !isExpired))
        const { accessToken } = yield* recover(tokens)
        assert.isTrue(yield* sandbox.isAccessLive(accessToken))
        assert.strictEqual((yield* assertSentOnce()).get(refreshHash)?.length, 2)
        const { refreshed } = yield* tokens.refresh(user, { forceRefresh: true })
        assert.isTrue(refreshed)
      }).pipe(Effect.provide(layer({ callTimeout: Duration.millis(1500), latePairWait: Duration.seconds(8) })))
    )

    it.scopedLive(`a hundred callers while everything breaks once: ${kind}`, () =>
      Effect.gen(function* () {
        const sandbox = yield* Sandbox.Sandbox
        const tokens = yield* CalTokens.CalTokens
        yield* connectExpired(kind)
        yield* sandbox.inject(Fault.dropBefore({ kind: refreshKind[kind] }))
        const answers = yield* Effect.all(
          Array.from({ length: 100 }, () => tokens.ensureValid(user)),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(new Set(answers.map(({ accessToken }) => World.reveal(accessToken))).size, 1)
        assert.strictEqual(yield* sandbox.count(refreshKind[kind]), 2)
        yield* assertSentOnce()
      }).pipe(Effect.provide(layer()))
    )
  }

  it.scopedLive("a managed user survives a lost answer to the reissue as well", () =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox.Sandbox
      const tokens = yield* CalTokens.CalTokens
      yield* connectExpired("managed")
      yield* sandbox.inject(Fault.dropAfter({ kind: "refresh" }))
      yield* sandbox.inject(Fault.dropAfter({ kind: "forceRefresh" }))
      const { accessToken } = yield* recover(tokens)
      assert.isTrue(yield* sandbox.isAccessLive(accessToken))
      assert.strictEqual(yield* sandbox.count("forceRefresh"), 2)
      yield* assertSentOnce()
    }).pipe(Effect.provide(layer()))
  )
})

/** Answers each first request of a connection and keeps it open; resets the connection when a second one comes. */
const closesIdleConnections = Effect.gen(function* () {
  const sandbox = yield* Sandbox.Sandbox
  const seen = { connections: 0, reused: 0 }
  const used = new WeakSet<Net.Socket>()
  const server = Http.createServer({ keepAliveTimeout: 60_000 })
  server.on("connection", () => seen.connections++)
  server.prependListener("request", (request) => {
    if (used.has(request.socket)) {
      seen.reused++
      request.socket.resetAndDestroy()
    }
    used.add(request.socket)
  })
  const { address } = yield* Effect.provide(
    HttpServer.HttpServer,
    yield* Layer.build(
      HttpServer.serve(sandbox.app).pipe(
        Layer.provideMerge(NodeHttpServer.layer(() => server, { port: 0, host: "127.0.0.1" }))
      )
    )
  )
  yield* Effect.addFinalizer(() => Effect.sync(() => server.closeAllConnections()))
  return { seen, port: portOf(address) }
})

describe("a connection that died idle", () => {
  const threeRefreshes = Effect.gen(function* () {
    const tokens = yield* CalTokens.CalTokens
    yield* connectExpired("oauth2")
    yield* Effect.repeatN(tokens.refresh(user, { forceRefresh: true }), 2)
  })
  const services = Layer.merge(Sandbox.layer(), layerMemory)

  it.scopedLive("is not used for a token call", () =>
    Effect.gen(function* () {
      const { port, seen } = yield* closesIdleConnections
      yield* Effect.provide(threeRefreshes, tokensAt(port))
      assert.deepStrictEqual(seen, { connections: 3, reused: 0 })
      const sandbox = yield* Sandbox.Sandbox
      assert.strictEqual(yield* sandbox.count("oauth2Refresh"), 3)
    }).pipe(Effect.provide(services))
  )

  it.scopedLive("would be, by a client for ordinary requests", () =>
    Effect.gen(function* () {
      const { port, seen } = yield* closesIdleConnections
      yield* Effect.ignore(Effect.provide(threeRefreshes, tokensAt(port, {}, OtherHttp.reusing)))
      assert.isAbove(seen.reused, 0)
    }).pipe(Effect.provide(services))
  )
})
