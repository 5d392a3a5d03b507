/** The service on the real PostgreSQL: a process knows of another one's refresh long before it would look for itself. */
import { assert, it } from "@effect/vitest"
import { Context, Deferred, Duration, Effect, Fiber, Layer, type Redacted, Ref, Schedule, Stream } from "effect"
import { CalTokens } from "../../src/CalTokens.js"
import * as Sandbox from "../../src/Sandbox.js"
import { TokenStorage } from "../../src/TokenStorage.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import { layerKeys } from "../support/Keys.js"
import { makeDatabase } from "../support/Postgres.js"
import { connectOAuth2, node, reveal, user } from "../support/World.js"

const long = Duration.minutes(10)

/** Nothing here lasts that long (a lease neither): whoever knows of a write was told of it. */
const never = { pollInterval: long, memoryMaxAge: long, callerWait: long }

/** A process: its own memory and its own connections, of which one listens if there is an address for it. */
const processAt = (url: Redacted.Redacted, listenUrl?: Redacted.Redacted) =>
  Effect.gen(function* () {
    let reads = 0
    const claims: Array<string> = []
    const listens = yield* Deferred.make<void>()
    const observed = Layer.map(Postgres.layer({ listenUrl }), (context) => {
      const storage = Context.get(context, TokenStorage)
      return Context.add(context, TokenStorage, {
        ...storage,
        find: (userUlid) => Effect.suspend(() => (reads++, storage.find(userUlid))),
        claim: (request) => Effect.tap(storage.claim(request), ({ _tag }) => Effect.sync(() => claims.push(_tag))),
        // The service asks for the next notice when it is done with the first, which makes it read everything again.
        notices: Stream.flatMap(storage.notices, (notice) =>
          Stream.concat(Stream.succeed(notice), Stream.execute(Deferred.succeed(listens, undefined)))
        )
      })
    })
    const context = yield* Layer.build(
      node(never).pipe(
        Layer.provide(observed),
        Layer.provide(Postgres.layerConnection({ url, poolSize: 2 })),
        Layer.provide(layerKeys())
      )
    )
    if (listenUrl !== undefined) yield* Effect.timeout(Deferred.await(listens), "10 seconds")
    const tokens = Context.get(context, CalTokens)
    return {
      tokens,
      accessToken: Effect.map(tokens.ensureValid(user()), (valid) => reveal(valid.accessToken)),
      reads: () => reads,
      claims: () => claims
    }
  })

/** Asks until this is the answer, for at most 10 s. */
const until = <A, E>(expected: A, ask: Effect.Effect<A, E>) =>
  ask.pipe(
    Effect.repeat({ until: (answer) => answer === expected, schedule: Schedule.spaced("20 millis") }),
    Effect.timeout("10 seconds")
  )

/** Connects the user with a pair of a minute ago: one of the same second would be the same token. */
const connect = (tokens: typeof CalTokens.Service) =>
  Effect.gen(function* () {
    const { switches } = yield* Sandbox.Sandbox
    const skewed = (clockSkewMillis: number) => Ref.update(switches, (all) => ({ ...all, clockSkewMillis }))
    yield* skewed(-60_000)
    const { accessToken } = yield* Effect.provideService(connectOAuth2(), CalTokens, tokens)
    yield* skewed(0)
    return reveal(accessToken)
  })

const inSandbox = Effect.provide(Sandbox.layer())

it.scopedLive("a token that another process refreshed is served soon; who does not listen serves the old one on", () =>
  Effect.gen(function* () {
    const url = yield* makeDatabase
    const writer = yield* processAt(url, url)
    const listener = yield* processAt(url, url)
    const deaf = yield* processAt(url)
    const old = yield* connect(writer.tokens)
    for (const { accessToken, reads } of [listener, deaf]) {
      assert.deepStrictEqual([yield* accessToken, yield* accessToken, reads()], [old, old, 1], "it is in memory")
    }

    const refreshed = reveal((yield* writer.tokens.refresh(user(), { forceRefresh: true })).accessToken)
    assert.notStrictEqual(refreshed, old)
    yield* until(refreshed, listener.accessToken)
    assert.strictEqual(listener.reads(), 2, "it has read the row again, once")

    assert.deepStrictEqual([yield* deaf.accessToken, deaf.reads()], [old, 1])
    const sandbox = yield* Sandbox.Sandbox
    assert.isTrue(yield* sandbox.isAccessLive(old), "which is still a valid one")
  }).pipe(inSandbox)
)

it.scopedLive("a caller that waits for another process' refresh is answered when that one is done", () =>
  Effect.gen(function* () {
    const url = yield* makeDatabase
    const sandbox = yield* Sandbox.Sandbox
    const writer = yield* processAt(url, url)
    const listener = yield* processAt(url, url)
    yield* connect(writer.tokens)
    yield* listener.accessToken

    // Long enough for the second to find the first one's claim, and less than a call to Cal.com may take.
    yield* sandbox.inject(Sandbox.Fault.delayAfter("4 seconds", { kind: "oauth2Refresh" }))
    const first = yield* Effect.fork(writer.tokens.refresh(user(), { forceRefresh: true }))
    yield* until(
      "Claimed",
      Effect.sync(() => writer.claims().at(-1))
    )
    const second = yield* Effect.fork(listener.tokens.refresh(user(), { forceRefresh: true }))
    const { accessToken } = yield* Fiber.join(first)
    const waited = yield* Effect.timeout(Fiber.join(second), "20 seconds")
    assert.strictEqual(reveal(waited.accessToken), reveal(accessToken))
    assert.deepStrictEqual(listener.claims(), ["Busy", "Newer"], "it has looked again when it was told")
  }).pipe(inSandbox)
)
