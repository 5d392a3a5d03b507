/**
 * Any sequence of operations has the answers of the storage in memory, and leaves the side tables in step with the rows.
 */
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import {
  Context,
  Duration,
  Effect,
  Either,
  Exit,
  FastCheck,
  Layer,
  Option,
  Redacted,
  Scope,
  TestClock,
  TestContext
} from "effect"
import { afterAll, beforeAll } from "vitest"
import type { Connection, UserUlid } from "../../src/Token.js"
import { isTokenError } from "../../src/TokenError.js"
import { type AttemptFailure, TokenStorage } from "../../src/TokenStorage.js"
import { layerMemory } from "../../src/TokenStorage/Memory.js"
import { strays } from "./StorageAccounts.js"
import * as Fixture from "./StorageFixture.js"

/** What a run is about: three users, two accounts and a nameless one, a handful of tokens, all its own. */
interface World {
  readonly users: ReadonlyArray<UserUlid>
  readonly connections: ReadonlyArray<Connection>
  /** A user's own: Cal.com never gives two users one token, and storages may count on it. */
  readonly token: (user: number, index: number) => string
}

const makeWorld = (): World => {
  const [a, b, c] = [Fixture.newUser(), Fixture.newUser(), Fixture.newUser()]
  return {
    users: [a.userUlid, b.userUlid, c.userUlid],
    connections: [
      Fixture.managed(a.calUserId),
      Fixture.oauth(a.calUserId, "A"),
      Fixture.oauth(b.calUserId),
      Fixture.oauth(undefined, "B")
    ],
    token: (user, index) => `${at([a, b, c], user).userUlid} ${index}`
  }
}

type Step = (world: World) => (storage: Fixture.Storage) => Effect.Effect<unknown, unknown>

const at = <A>(list: ReadonlyArray<A>, index: number): A => {
  const value = list[index % list.length]
  assert(value !== undefined)
  return value
}

const index = FastCheck.nat(5)
const attemptId = FastCheck.constantFrom("mine", "other")
const optional = (values: ReadonlyArray<Duration.Duration>) =>
  FastCheck.option(FastCheck.constantFrom(...values), { nil: undefined })
const durations = [0, 1, 999, 1000, 5000, 29_999, 30_000, 60_000].map((ms) => Duration.millis(ms))
const duration = FastCheck.constantFrom(...durations)
const tokens = FastCheck.array(index, { maxLength: 3 })

const failure = (world: World, user: number): FastCheck.Arbitrary<AttemptFailure> =>
  FastCheck.oneof(
    duration.map((backoff) => Fixture.notSpent(backoff)),
    FastCheck.tuple(duration, duration).map(([probeIn, backoff]) => Fixture.unknown(probeIn, backoff)),
    tokens.map((dead) => Fixture.terminal(hashes(world, user, dead))),
    FastCheck.option(index).map((token) =>
      Fixture.released(Option.map(Option.fromNullable(token), (n) => Fixture.refreshHash(world.token(user, n))))
    )
  )

const hashes = (world: World, user: number, dead: ReadonlyArray<number>) =>
  dead.map((n) => Fixture.refreshHash(world.token(user, n)))

const steps: FastCheck.Arbitrary<{ readonly name: string; readonly run: Step }> = FastCheck.oneof(
  {
    weight: 4,
    arbitrary: FastCheck.record({
      user: index,
      attemptId,
      older: FastCheck.boolean(),
      maxAttempts: FastCheck.integer({ min: 1, max: 4 }),
      expiredFor: optional(durations),
      rejectedInterval: optional(durations),
      reissue: FastCheck.boolean()
    }).map(({ older, user, ...request }) => ({
      name: `claim ${JSON.stringify({ user, older, ...request })}`,
      run: (world: World) => (storage: Fixture.Storage) =>
        storage.claim(
          Fixture.claimOf(at(world.users, user), { ...request, knownVersion: older ? 0 : Number.MAX_SAFE_INTEGER })
        )
    }))
  },
  FastCheck.tuple(index, attemptId, index, tokens).map(([user, attempt, next, dead]) => ({
    name: `spend ${JSON.stringify([user, attempt, next, dead])}`,
    run: (world: World) => (storage: Fixture.Storage) =>
      storage.spend({
        userUlid: at(world.users, user),
        attemptId: attempt,
        next: Fixture.refreshHash(world.token(user, next)),
        dead: hashes(world, user, dead)
      })
  })),
  {
    weight: 4,
    arbitrary: FastCheck.tuple(index, attemptId, index, index, index, tokens).map(
      ([user, attempt, connection, pair, seen, dead]) => ({
        name: `commit ${JSON.stringify([user, attempt, connection, pair, seen, dead])}`,
        run: (world: World) => (storage: Fixture.Storage) =>
          storage.commit({
            userUlid: at(world.users, user),
            attemptId: attempt,
            connection: at(world.connections, connection),
            pair: Fixture.pair(world.token(user, pair)),
            seen: Fixture.refreshHash(world.token(user, seen)),
            dead: hashes(world, user, dead)
          })
      })
    )
  },
  {
    weight: 2,
    arbitrary: FastCheck.tuple(index, attemptId, FastCheck.nat(), FastCheck.nat(3)).map(
      ([user, attempt, seed, size]) => ({
        name: `fail ${JSON.stringify([user, attempt, seed, size])}`,
        run: (world: World) => (storage: Fixture.Storage) => {
          const [chosen] = FastCheck.sample(failure(world, user), { seed, numRuns: 1 })
          assert(chosen !== undefined)
          return storage.fail({ userUlid: at(world.users, user), attemptId: attempt, failure: chosen })
        }
      })
    )
  },
  {
    weight: 3,
    arbitrary: FastCheck.tuple(index, index, index, FastCheck.boolean()).map(([user, connection, pair, replace]) => ({
      name: `connect ${JSON.stringify([user, connection, pair, replace])}`,
      run: (world: World) => (storage: Fixture.Storage) =>
        storage.connect({
          userUlid: at(world.users, user),
          connection: at(world.connections, connection),
          pair: Fixture.pair(world.token(user, pair)),
          replace
        })
    }))
  },
  FastCheck.tuple(index, index).map(([user, pair]) => ({
    name: `update ${JSON.stringify([user, pair])}`,
    run: (world: World) => (storage: Fixture.Storage) =>
      storage.update(at(world.users, user), Fixture.pair(world.token(user, pair)))
  })),
  index.map((user) => ({
    name: `disconnect ${user}`,
    run: (world: World) => (storage: Fixture.Storage) => storage.disconnect(at(world.users, user))
  }))
)

/** What an answer says, with secrets shown and versions left out, for storages count those differently. */
const plain = (value: unknown): unknown => {
  if (Redacted.isRedacted(value)) return Redacted.value(value)
  if (Duration.isDuration(value)) return Duration.toMillis(value)
  if (Option.isOption(value)) return Option.match(value, { onNone: () => "none", onSome: (some) => [plain(some)] })
  if (Either.isEither(value)) return Either.match(value, { onLeft: (left) => ({ left: plain(left) }), onRight: plain })
  if (isTokenError(value)) return `${value._tag}: ${value.message}`
  if (Array.isArray(value)) return value.map(plain)
  return typeof value === "object" && value !== null
    ? Object.fromEntries(
        Object.entries(value).flatMap(([key, field]) => (key === "version" ? [] : [[key, plain(field)]]))
      )
    : value
}

const everyone = [0, 1, 2]

/** What can be seen of some users, and of some tokens of each user; of versions, their order. */
const look = (storage: Fixture.Storage, world: World, users: ReadonlyArray<number>, tokens: ReadonlyArray<number>) =>
  Effect.gen(function* () {
    const rows = yield* Effect.forEach(users, (user) => storage.find(at(world.users, user)))
    const owners = yield* Effect.forEach(
      everyone.flatMap((user) => tokens.map((n) => world.token(user, n))),
      (token) => storage.findByAccessToken(Fixture.accessHash(token))
    )
    const versions = rows.flatMap(Option.toArray).map((row) => row.version)
    const order = versions.map((one) => versions.filter((other) => other < one).length)
    return plain({ rows, owners, order })
  })

export const compare = (
  name: string,
  layer: Layer.Layer<TokenStorage | SqlClient.SqlClient, unknown>,
  numRuns: number
) => {
  describe(name, () => {
    const scope = Effect.runSync(Scope.make())
    let real: Fixture.Storage
    let model: Fixture.Storage
    let sql: SqlClient.SqlClient
    beforeAll(async () => {
      const built = await Effect.runPromise(Layer.buildWithScope(layer, scope))
      real = Context.get(built, TokenStorage)
      sql = Context.get(built, SqlClient.SqlClient)
      model = await Effect.runPromise(Effect.map(Layer.buildWithScope(layerMemory, scope), Context.get(TokenStorage)))
    }, 300_000)
    afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

    it(
      "answers any sequence of operations as the memory does",
      () =>
        FastCheck.assert(
          FastCheck.asyncProperty(
            FastCheck.array(FastCheck.tuple(steps, duration), { minLength: 1, maxLength: 20, size: "max" }),
            (sequence) =>
              Effect.gen(function* () {
                const world = makeWorld()
                for (const [step, [{ name, run }, wait]] of sequence.entries()) {
                  const observe = (storage: Fixture.Storage) =>
                    Effect.all([
                      Effect.map(Effect.either(run(world)(storage)), plain),
                      look(storage, world, [step], [step % 6])
                    ])
                  assert.deepStrictEqual(yield* observe(real), yield* observe(model), name)
                  yield* TestClock.adjust(wait)
                }
                const all = (storage: Fixture.Storage) => look(storage, world, everyone, [0, 1, 2, 3, 4, 5])
                assert.deepStrictEqual(yield* all(real), yield* all(model))
                assert.deepStrictEqual(yield* strays(sql), [])
              }).pipe(Effect.provide(TestContext.TestContext), Effect.runPromise)
          ),
          { numRuns }
        ),
      300_000
    )
  })
}
