/** What a token costs the database, counted where the driver sends it. */
import { assert, it } from "@effect/vitest"
import { Duration, Effect, Layer, Logger } from "effect"
import Pg from "pg"
import { vi } from "vitest"
import * as CalTokens from "../../src/CalTokens.js"
import * as Sandbox from "../../src/Sandbox.js"
import { layer as layerPostgres } from "../../src/TokenStorage/Postgres.js"
import { layerKeys } from "../support/Keys.js"
import { layerDatabase } from "../support/Postgres.js"
import * as World from "../support/World.js"

/** What nobody waits for: a process' first look for answers to be read, what tells others of writes, and who was asked for. */
const aside: ReadonlyArray<string> = ["sealed_1", "pg_notify", "used_1", "handed_out_1"]

/** The functions that are called, in their order. */
const counted = <A, E, R>(work: Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => vi.spyOn(Pg.Client.prototype, "query")),
    (spy) =>
      Effect.map(work, () =>
        spy.mock.calls
          .map(([text]) => /(\w+)\(/.exec(typeof text === "string" ? text : "")?.[1] ?? String(text))
          .filter((name) => !aside.includes(name))
      ),
    (spy) => Effect.sync(() => spy.mockRestore())
  )

/** The service on PostgreSQL; nothing that it remembers is recent. */
const node = World.node({ memoryMaxAge: Duration.zero })

const connect = (tokens: typeof CalTokens.CalTokens.Service, n: number, left: number) =>
  Effect.gen(function* () {
    const sandbox = yield* Sandbox.Sandbox
    const { accessToken, calUserId, refreshToken } = yield* sandbox.grantOAuth2({ email: `${n}@example.com` })
    const pair = { accessToken, refreshToken, accessTokenExpiresAt: (yield* sandbox.now) + left }
    yield* tokens.connect(World.user(n), { _tag: "OAuth2", calUserId }, pair)
  })

/** A test with the service on a PostgreSQL of its own. */
const onPostgres = node.pipe(
  Layer.provideMerge(layerPostgres()),
  Layer.provide([layerDatabase(), layerKeys()]),
  Layer.provideMerge(Sandbox.layer()),
  Layer.provide(Logger.remove(Logger.defaultLogger))
)

it.scopedLive("a refresh is a claim and a commit, a fresh token one read", () =>
  Effect.gen(function* () {
    const here = yield* CalTokens.CalTokens
    const elsewhere = yield* Effect.provide(CalTokens.CalTokens, yield* Layer.build(Layer.fresh(node)))
    const ensure = (tokens: typeof here, n: number) => counted(tokens.ensureValid(World.user(n), { handsOut: false }))
    for (const n of [1, 2]) yield* connect(here, n, -1000)

    assert.deepStrictEqual(yield* ensure(here, 1), ["claim_1", "commit_1"])
    assert.deepStrictEqual(yield* ensure(here, 1), ["find_1"])
    // Of a user whom a process has never met it has to learn first that the token has expired.
    assert.deepStrictEqual(yield* ensure(elsewhere, 2), ["find_1", "claim_1", "commit_1"])
    // Who remembers a token that has expired meanwhile claims, and is answered the newer one.
    assert.deepStrictEqual(yield* ensure(here, 2), ["claim_1"])
  }).pipe(Effect.provide(onPostgres))
)

it.scopedLive(
  "many users who are asked for at once, and whom nobody remembers, are one read, and each gets their own",
  () =>
    Effect.gen(function* () {
      const here = yield* CalTokens.CalTokens
      const elsewhere = yield* Effect.provide(CalTokens.CalTokens, yield* Layer.build(Layer.fresh(node)))
      const numbers = Array.from({ length: 20 }, (_, n) => n + 1)
      yield* Effect.forEach(numbers, (n) => connect(here, n, 3_600_000))
      const all = (tokens: typeof here) =>
        Effect.forEach([...numbers, 99], (n) => Effect.either(tokens.info(World.user(n))), { concurrency: "unbounded" })
      assert.deepStrictEqual(yield* counted(all(elsewhere)), ["find_1"])
      const users = (yield* all(elsewhere)).map((each) =>
        each._tag === "Right" ? each.right.userUlid : each.left._tag
      )
      assert.deepStrictEqual(users, [...numbers.map((n) => World.user(n)), "TokensNotFound"])
    }).pipe(Effect.provide(onPostgres))
)

it.scopedLive("many users whose tokens have expired are one claim, and each is refreshed", () =>
  Effect.gen(function* () {
    const tokens = yield* CalTokens.CalTokens
    const numbers = Array.from({ length: 20 }, (_, n) => n + 1)
    yield* Effect.forEach(numbers, (n) => connect(tokens, n, -1000))
    const all = Effect.forEach(numbers, (n) => tokens.ensureValid(World.user(n), { handsOut: false }), {
      concurrency: "unbounded"
    })
    const statements = yield* counted(
      Effect.tap(all, (valid) => assert.isTrue(valid.every(({ refreshed }) => refreshed)))
    )
    const claims = statements.filter((name) => name.startsWith("claim"))
    assert.deepStrictEqual(claims, ["claim_many_1"])
    assert.isBelow(statements.length, 1 + numbers.length)
  }).pipe(Effect.provide(onPostgres))
)
