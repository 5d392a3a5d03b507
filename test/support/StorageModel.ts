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
import * as History from "../../src/History.js"
import type { Connection, UserUlid } from "../../src/Token.js"
import { isTokenError } from "../../src/TokenError.js"
import {
  AttemptFailure,
  type CircuitRequest,
  type NewSealedAnswer,
  Purpose,
  type Schedule,
  TokenStorage
} from "../../src/TokenStorage.js"
import * as Lookups from "../../src/TokenStorage/Lookups.js"
import { layerMemory } from "../../src/TokenStorage/Memory.js"
import { strays } from "./StorageAccounts.js"
import * as Fixture from "./StorageFixture.js"
import { strayLookups } from "./StorageLookups.js"

/** What a run is about: three users, two accounts and a nameless one, a handful of tokens, all its own. */
interface World {
  readonly users: ReadonlyArray<UserUlid>
  /** The last one before them. */
  readonly before: UserUlid
  readonly connections: ReadonlyArray<Connection>
  /** Of the client of them all, as two processes are configured. */
  readonly circuit: (fingerprint: string | undefined) => CircuitRequest | undefined
  /** A user's own, or one that all of them may have: a team's, or those of one second. */
  readonly token: (user: number, index: number) => string
}

const makeWorld = (): World => {
  const [before, a, b, c] = [Fixture.newUser(), Fixture.newUser(), Fixture.newUser(), Fixture.newUser()]
  const clientId = `client of ${a.userUlid}`
  return {
    users: [a.userUlid, b.userUlid, c.userUlid],
    before: before.userUlid,
    connections: [
      Fixture.managed(a.calUserId),
      Fixture.oauth(a.calUserId, "A"),
      Fixture.oauth(b.calUserId),
      Fixture.oauth(undefined, "B")
    ].map((connection) => ({ ...connection, clientId })),
    circuit: (fingerprint) =>
      fingerprint === undefined ? undefined : { clientId, fingerprint, interval: Duration.seconds(30) },
    token: (user, index) =>
      index < 3 ? `${a.userUlid} shared ${index % 2}` : `${at([a, b, c], user).userUlid} ${index}`
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
const optional = <A>(values: ReadonlyArray<A>) =>
  FastCheck.option(FastCheck.constantFrom(...values), { nil: undefined })
const durations = [0, 1, 999, 1000, 5000, 29_999, 30_000, 60_000].map((ms) => Duration.millis(ms))
const duration = FastCheck.constantFrom(...durations)
/** Between two steps; now and then so long that superseded tokens are forgotten. */
const pause = FastCheck.oneof(
  { weight: 19, arbitrary: duration },
  { weight: 1, arbitrary: FastCheck.constant(Duration.millis(Lookups.superseded.millis)) }
)
const tokens = FastCheck.array(index, { maxLength: 3 })

/** What may be said beside an event: whose circuit it is, and what an answer told. */
const beside = FastCheck.record({
  circuit: optional(["one", "two"]),
  brake: optional([{ users: 2, window: Duration.seconds(60) }]),
  drift: optional([1, 2] as const).map((users) => (users === undefined ? undefined : { users, reason: "changed" })),
  answer: FastCheck.option(index, { nil: undefined }),
  flag: FastCheck.boolean(),
  wait: duration
})

/** Instants of a day that claims of what is due go through. */
const schedule: FastCheck.Arbitrary<Schedule | undefined> = FastCheck.option(
  FastCheck.record({
    aheadAt: FastCheck.constantFrom(100_000, 200_000, 300_000),
    keepAt: optional([200_000, 400_000]),
    usedAt: optional([50_000, 150_000])
  }),
  { nil: undefined }
)

const sealedAnswer = (world: World, user: number, answer: number): NewSealedAnswer => ({
  spentHash: Fixture.refreshHash(world.token(user, answer)),
  operation: "refresh",
  connection: at(world.connections, user),
  answer: Redacted.make(new TextEncoder().encode(`answer ${answer}`)),
  issuedAt: answer,
  isWhole: true
})

const granted = (world: World, user: number, pair: number) => Lookups.granted(Fixture.pair(world.token(user, pair)))

const failure = (world: World, user: number): FastCheck.Arbitrary<AttemptFailure> =>
  FastCheck.oneof(
    duration.map((backoff) => Fixture.notSpent(backoff)),
    FastCheck.tuple(duration, duration).map(([probeIn, backoff]) => Fixture.unknown(probeIn, backoff)),
    FastCheck.tuple(duration, index, beside).map(([probeIn, answer, { drift }]) =>
      AttemptFailure.Unknown({
        error: Fixture.error,
        probeIn,
        backoff: Duration.zero,
        sealed: sealedAnswer(world, user, answer),
        drift
      })
    ),
    tokens.map((dead) => Fixture.terminal(hashes(world, user, dead))),
    index.map((token) =>
      AttemptFailure.Released({
        probe: Option.some(Fixture.refreshHash(world.token(user, token))),
        refusal: "status 401"
      })
    ),
    FastCheck.option(index).map((token) =>
      Fixture.released(Option.map(Option.fromNullable(token), (n) => Fixture.refreshHash(world.token(user, n))))
    )
  )

const nameOf = (world: World, user: number, token: number) =>
  History.nameOf(Fixture.refreshHash(world.token(user, token)))

const hashes = (world: World, user: number, dead: ReadonlyArray<number>) =>
  dead.map((n) => Fixture.refreshHash(world.token(user, n)))

interface Named {
  readonly name: string
  readonly run: Step
}

const connect: FastCheck.Arbitrary<Named> = FastCheck.tuple(
  ...[index, index, index],
  FastCheck.boolean(),
  FastCheck.boolean(),
  optional([1000, 2000]),
  schedule
).map(([user, connection, pair, replace, granted, handedOutAt, schedule]) => ({
  name: `connect ${JSON.stringify([user, connection, pair, replace, granted, handedOutAt, schedule])}`,
  run: (world: World) => (storage: Fixture.Storage) =>
    storage.connect({
      userUlid: at(world.users, user),
      connection: at(world.connections, connection),
      pair: Fixture.pair(world.token(user, pair)),
      replace,
      granted,
      handedOutAt,
      schedule,
      history: { _tag: "Connected", process: "p1", token: nameOf(world, user, pair), isGranted: granted }
    })
}))

/** Several at once, among them rows of one user. */
const takeOver: FastCheck.Arbitrary<Named> = FastCheck.array(
  FastCheck.record({
    user: index,
    connection: index,
    pair: index,
    expiresAt: FastCheck.constantFrom(3_599_999, 3_600_000),
    issuedAt: optional([1000, 2000]),
    schedule
  }),
  { maxLength: 4 }
).map((rows) => ({
  name: `import ${JSON.stringify(rows)}`,
  run: (world: World) => (storage: Fixture.Storage) =>
    storage.import(
      rows.map(({ connection, expiresAt, issuedAt, pair, schedule, user }) => ({
        userUlid: at(world.users, user),
        connection: at(world.connections, connection),
        pair: Fixture.pair(world.token(user, pair), {
          accessTokenExpiresAt: expiresAt,
          ...(issuedAt === undefined ? {} : { issuedAt })
        }),
        schedule,
        history: { _tag: "Imported", process: "p1", token: nameOf(world, user, pair) }
      }))
    )
}))

const steps: FastCheck.Arbitrary<Named> = FastCheck.oneof(
  {
    weight: 4,
    arbitrary: FastCheck.record({
      user: index,
      attemptId,
      older: FastCheck.boolean(),
      maxAttempts: FastCheck.integer({ min: 1, max: 4 }),
      expiredFor: optional(durations),
      rejectedInterval: optional(durations),
      purpose: FastCheck.constantFrom("refresh", "refresh", "reissue", "hold"),
      account: index,
      client: optional(["one", "two"])
    }).map(({ account, client: circuit, older, purpose, rejectedInterval, user, ...request }) => ({
      name: `claim ${JSON.stringify({ user, older, purpose, account, circuit, rejectedInterval, ...request })}`,
      run: (world: World) => (storage: Fixture.Storage) => {
        const known = older ? 0 : Number.MAX_SAFE_INTEGER
        const connection = at(world.connections, account)
        return storage.claim(
          Fixture.claimOf(at(world.users, user), {
            ...request,
            circuit: world.circuit(circuit),
            purpose:
              purpose === "hold"
                ? Purpose.Hold()
                : purpose === "reissue" && connection._tag === "ManagedUser"
                  ? Purpose.Reissue({ account: connection, knownVersion: known })
                  : Fixture.refresh(known, rejectedInterval)
          })
        )
      }
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
    arbitrary: FastCheck.tuple(index, attemptId, index, index, index, tokens, beside, schedule).map(
      ([user, attempt, connection, pair, seen, dead, { answer, circuit, drift, flag, wait }, schedule]) => ({
        name: `commit ${JSON.stringify([user, attempt, connection, pair, seen, dead, circuit, flag, answer, schedule])}`,
        run: (world: World) => (storage: Fixture.Storage) =>
          Fixture.refreshing(storage, at(world.users, user), at(world.connections, connection), {
            attemptId: attempt,
            pair: Fixture.pair(world.token(user, pair)),
            seen: Fixture.refreshHash(world.token(user, seen)),
            dead: hashes(world, user, dead),
            circuit: world.circuit(circuit),
            reissued: flag,
            schedule,
            ...(flag && wait === durations[0] ? {} : { history: Fixture.attempted(world.token(user, pair)) }),
            // What somebody thought before it was changed.
            ...(wait === durations[0] ? { lookups: { before: [], after: granted(world, user, pair) } } : {}),
            ...(answer === undefined
              ? {}
              : flag
                ? { unsealed: sealedAnswer(world, user, answer).spentHash }
                : { unread: { sealed: sealedAnswer(world, user, answer), drift, probeIn: wait } })
          })
      })
    )
  },
  FastCheck.tuple(index, index, beside).map(([user, answer, { circuit, drift }]) => ({
    name: `seal ${JSON.stringify([user, answer, drift, circuit])}`,
    run: (world: World) => (storage: Fixture.Storage) => {
      const whose = world.circuit(circuit)
      return storage.seal({
        userUlid: at(world.users, user),
        ...sealedAnswer(world, user, answer),
        history: Fixture.attempted(world.token(user, answer), { end: "unknown" }),
        ...(drift === undefined || whose === undefined ? {} : { drift: { ...drift, circuit: whose } })
      })
    }
  })),
  {
    weight: 4,
    arbitrary: FastCheck.tuple(index, attemptId, FastCheck.nat(), FastCheck.nat(3), beside).map(
      ([user, attempt, seed, size, { brake, circuit }]) => ({
        name: `fail ${JSON.stringify([user, attempt, seed, size, circuit, brake])}`,
        run: (world: World) => (storage: Fixture.Storage) => {
          const [chosen] = FastCheck.sample(failure(world, user), { seed, numRuns: 1 })
          assert(chosen !== undefined)
          return storage.fail({
            userUlid: at(world.users, user),
            attemptId: attempt,
            failure: chosen,
            circuit: world.circuit(circuit),
            brake,
            ...(seed % 4 === 0 ? {} : { history: Fixture.attempted(world.token(user, seed), { end: "notSpent" }) })
          })
        }
      })
    )
  },
  { weight: 3, arbitrary: connect },
  { weight: 3, arbitrary: takeOver },
  {
    weight: 3,
    arbitrary: FastCheck.record({
      client: FastCheck.constantFrom("one", "two"),
      limit: FastCheck.constantFrom(1, 2, 8),
      now: FastCheck.constantFrom(100_000, 150_000, 200_000, 250_000, 330_000, 400_000),
      usedSince: FastCheck.constantFrom(0, 50_000, 100_000, 200_000),
      lease: duration,
      maxAttempts: FastCheck.integer({ min: 1, max: 4 })
    }).map(({ client, ...request }) => ({
      name: `claim due ${JSON.stringify({ client, ...request })}`,
      run: (world: World) => (storage: Fixture.Storage) => {
        const circuit = world.circuit(client)
        assert(circuit !== undefined)
        return storage.claimDue({ ...request, process: "p2", circuit, cooldownWindow: Duration.seconds(30) })
      }
    }))
  },
  FastCheck.tuple(index, index, FastCheck.constantFrom(40_000, 120_000, 180_000), FastCheck.nat(80_000)).map(
    ([user, other, usedAt, precision]) => ({
      name: `used ${JSON.stringify([user, other, usedAt, precision])}`,
      run: (world: World) => (storage: Fixture.Storage) =>
        storage.used(
          [user, ...(user % 3 === other % 3 ? [] : [other])].map((each, n) => ({
            userUlid: at(world.users, each),
            at: usedAt + n
          })),
          precision
        )
    })
  ),
  FastCheck.tuple(index, index).map(([user, pair]) => ({
    name: `update ${JSON.stringify([user, pair])}`,
    run: (world: World) => (storage: Fixture.Storage) =>
      Fixture.update(storage, at(world.users, user), Fixture.pair(world.token(user, pair)))
  })),
  FastCheck.tuple(index, index, FastCheck.constantFrom(500, 1500, 2500)).map(([user, other, handedOutAt]) => ({
    name: `handed out ${JSON.stringify([user, other, handedOutAt])}`,
    run: (world: World) => (storage: Fixture.Storage) =>
      storage.handedOut([user, other].map((each, n) => ({ userUlid: at(world.users, each), at: handedOutAt + n })))
  })),
  index.map((user) => ({
    name: `disconnect ${user}`,
    run: (world: World) => (storage: Fixture.Storage) => storage.disconnect(at(world.users, user))
  })),
  index.map((user) => ({
    name: `end sessions ${user}`,
    run: (world: World) => (storage: Fixture.Storage) => storage.endSessions(at(world.users, user))
  }))
)

/** Storages count, and name attempts, differently. */
const unlike: ReadonlySet<string> = new Set(["version", "sessionsAfter", "attemptId"])

/** What an answer says, with secrets shown and what storages say differently left out. */
const plain = (value: unknown): unknown => {
  if (Redacted.isRedacted(value)) return Redacted.value(value)
  if (Duration.isDuration(value)) return Duration.toMillis(value)
  if (Option.isOption(value)) return Option.match(value, { onNone: () => "none", onSome: (some) => [plain(some)] })
  if (Either.isEither(value)) return Either.match(value, { onLeft: (left) => ({ left: plain(left) }), onRight: plain })
  if (isTokenError(value)) return `${value._tag}: ${value.message}`
  if (value instanceof Uint8Array) return new TextDecoder().decode(value)
  if (Array.isArray(value)) return value.map(plain)
  return typeof value === "object" && value !== null
    ? Object.fromEntries(
        Object.entries(value).flatMap(([key, field]) => (unlike.has(key) ? [] : [[key, plain(field)]]))
      )
    : value
}

/** Most begin with users who are connected: without, there is little to see. */
const sequences = FastCheck.tuple(
  FastCheck.array(FastCheck.tuple(FastCheck.oneof(connect, connect, takeOver), pause), { maxLength: 5, size: "max" }),
  FastCheck.array(FastCheck.tuple(steps, pause), { minLength: 1, maxLength: 20, size: "max" })
).map((parts) => parts.flat())

const everyone = [0, 1, 2]

/** What can be seen of some users, and of some tokens of each user; of numbers, their order. */
const look = (storage: Fixture.Storage, world: World, users: ReadonlyArray<number>, tokens: ReadonlyArray<number>) =>
  Effect.gen(function* () {
    const rows = yield* Effect.forEach(users, (user) => storage.find(at(world.users, user)))
    const owners = yield* Effect.forEach(
      new Set(everyone.flatMap((user) => tokens.map((n) => world.token(user, n)))),
      (token) => storage.findByAccessToken(Fixture.accessHash(token))
    )
    const numbersOf = (kind: "version" | "sessionsAfter") => {
      const numbers = rows.flatMap(Option.toArray).map((row) => row[kind])
      return numbers.map((one) => numbers.filter((other) => other < one).length)
    }
    const order = [numbersOf("version"), numbersOf("sessionsAfter")]
    const sealed = yield* storage.sealed({ after: world.before, limit: 2 })
    const histories = yield* Effect.forEach(users, (user) => storage.history(at(world.users, user)))
    return plain({ rows, owners, order, sealed, histories })
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
          FastCheck.asyncProperty(sequences, (sequence) =>
            Effect.gen(function* () {
              const world = makeWorld()
              for (const [step, [{ name, run }, wait]] of sequence.entries()) {
                const observe = (storage: Fixture.Storage) =>
                  Effect.all([
                    Effect.map(Effect.either(run(world)(storage)), plain),
                    look(storage, world, [step], [0, 1, step % 6])
                  ])
                assert.deepStrictEqual(yield* observe(real), yield* observe(model), name)
                yield* TestClock.adjust(wait)
              }
              const all = (storage: Fixture.Storage) => look(storage, world, everyone, [0, 1, 2, 3, 4, 5])
              assert.deepStrictEqual(yield* all(real), yield* all(model))
              assert.deepStrictEqual(yield* strays(sql), [])
              assert.deepStrictEqual(yield* strayLookups(sql), [])
            }).pipe(Effect.provide(TestContext.TestContext), Effect.runPromise)
          ),
          { numRuns }
        ),
      300_000
    )
  })
}
