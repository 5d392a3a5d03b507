/** Several processes of the service on one database and one Cal.com, and what must be true of them after every test. */
import { randomBytes } from "node:crypto"
import { PgClient } from "@effect/sql-pg"
import { assert } from "@effect/vitest"
import { Clock, Context, Duration, Effect, Layer, Option, Redacted, type Scope } from "effect"
import * as Token from "../../src/Token.js"
import * as KeyRing from "../../src/KeyRing.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import { type StoredRow, TokenStorage } from "../../src/TokenStorage.js"
import * as PgBouncer from "../support/PgBouncer.js"
import * as Bundle from "./Bundle.js"
import * as Cal from "./Cal.js"
import * as Node from "./Node.js"
import { slowness, speedVariable } from "./Speed.js"
import { deathVariable, type Signal, signalVariable, type Step } from "./Step.js"

const everyRoute = [
  { name: "direct", isPooled: false, isMissing: false },
  PgBouncer.isInstalled
    ? { name: "through PgBouncer", isPooled: true, isMissing: false }
    : { name: "through PgBouncer (SKIPPED: pgbouncer is not installed)", isPooled: true, isMissing: true }
] as const

export type Route = (typeof everyRoute)[number]

/**
 * The ways from a process to PostgreSQL, each with a reason why it cannot be tried here, if there is one. With
 * `TEST_FLEET_ROUTES=direct` that one only.
 */
export const routes: ReadonlyArray<Route> = everyRoute.filter(
  ({ isPooled }) => !isPooled || process.env["TEST_FLEET_ROUTES"] !== "direct"
)

export interface Options {
  readonly route: Route
  /** The database itself, whatever is before it. */
  readonly database: Effect.Effect<Redacted.Redacted, never, Scope.Scope>
  /** How many processes; they start at once. */
  readonly nodes: number
  /** What the times of `TokenConfig` are divided by, on a machine of the usual speed. */
  readonly speed: number
  /** Whether processes refresh what is due, by themselves. Default: no, tests say who refreshes. */
  readonly refreshAhead?: boolean
  /** How many seconds a process waits for the database. Default 2. */
  readonly databaseTimeout?: number
}

export class Fleet extends Context.Tag("test/Fleet")<
  Fleet,
  {
    readonly nodes: ReadonlyArray<Node.Node>
    readonly cal: Cal.Cal
    /** The database as the service sees it, though past a pooler. */
    readonly storage: typeof TokenStorage.Service
    readonly sql: PgClient.PgClient
    /** One more process, with these changes to its environment, or of another release. */
    readonly start: (
      changes?: Readonly<Record<string, string>>,
      release?: Bundle.Release
    ) => Effect.Effect<Node.Node, never, Scope.Scope>
    /** One more process, which dies (or falls asleep) at this step. */
    readonly startDoomed: (step: Step, signal?: Signal) => Effect.Effect<Node.Node, never, Scope.Scope>
    /** So many users of Cal.com that are connected here; `isExpired`: with access tokens that are past their time. */
    readonly newUsers: (
      kind: Cal.User["kind"],
      count: number,
      isExpired?: boolean
    ) => Effect.Effect<ReadonlyArray<Cal.User>, Node.NoAnswer>
    /** Connects somebody with the pair given, as one that is past its time or not. */
    readonly connect: (user: Cal.User, isExpired: boolean) => Effect.Effect<void, Node.NoAnswer>
  }
>() {}

const secret = () => randomBytes(32).toString("base64url")

const make = (options: Options) =>
  Effect.gen(function* () {
    const database = yield* options.database
    const url = options.route.isPooled ? yield* PgBouncer.through(database) : database
    const cal = yield* Cal.make
    const encryptionKeys = `k1:${randomBytes(32).toString("base64")}`
    const key = secret()
    const env = {
      ...cal.env,
      PORT: "0",
      LOG_FORMAT: "json",
      DATABASE_URL: Redacted.value(url),
      ...(options.route.isPooled ? { DATABASE_DIRECT_URL: Redacted.value(database) } : {}),
      DATABASE_STATEMENT_TIMEOUT: `${(options.databaseTimeout ?? 2) * slowness} s`,
      DATABASE_CONNECT_TIMEOUT: `${(options.databaseTimeout ?? 2) * slowness} s`,
      CAL_TOKENS_REFRESH_AHEAD: options.refreshAhead === true ? "1" : "0",
      CAL_TOKENS_ENCRYPTION_KEYS: encryptionKeys,
      CAL_TOKENS_API_KEYS: `fleet:${key}:manage+read-token+proxy`,
      [speedVariable]: String(options.speed / slowness)
    }
    const start = (changes: Readonly<Record<string, string>> = {}, release: Bundle.Release = "current") =>
      Effect.flatMap(Bundle.make(release), (program) => Node.make({ program, key, env: { ...env, ...changes } }))
    const nodes = yield* Effect.all(
      Array.from({ length: options.nodes }, () => start()),
      { concurrency: "unbounded" }
    )

    // The test's own storage only looks on: no test is about how long that may take.
    const patience = Duration.seconds(10 * slowness)
    const context = yield* Layer.build(
      Postgres.layer({ statementTimeout: patience }).pipe(
        Layer.provideMerge(Postgres.layerConnection({ url: database, poolSize: 2, connectTimeout: patience })),
        Layer.provide(KeyRing.layer(Redacted.make(encryptionKeys)))
      )
    ).pipe(Effect.orDie)

    const connect = (user: Cal.User, isExpired: boolean) =>
      Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        const [node] = nodes
        const { status } = yield* (node ?? (yield* Effect.dieMessage("there is no process"))).ask(
          "PUT",
          `/api/cal/connections/${user.userUlid}`,
          {
            kind: user.kind,
            calUserId: user.calUserId,
            accessToken: user.accessToken,
            refreshToken: user.refreshToken,
            accessTokenExpiresAt: now + (isExpired ? -1000 : Duration.toMillis("20 minutes"))
          }
        )
        assert.strictEqual(status, 200, "the user is connected")
      })

    return Fleet.of({
      nodes,
      cal,
      storage: Context.get(context, TokenStorage),
      sql: Context.get(context, PgClient.PgClient),
      connect,
      start,
      startDoomed: (step, signal = "SIGKILL") => start({ [deathVariable]: step, [signalVariable]: signal }),
      newUsers: (kind, count, isExpired = false) =>
        Effect.forEach(
          Array.from({ length: count }),
          () => Effect.tap(cal.newUser(kind), (user) => connect(user, isExpired)),
          { concurrency: 8 }
        )
    })
  })

export const layer = (options: Options): Layer.Layer<Fleet> => Layer.scoped(Fleet, make(options))

/** The user's row; one without a row fails the test. */
export const stored = (user: Cal.User): Effect.Effect<StoredRow, never, Fleet> =>
  Effect.flatMap(Fleet, ({ storage }) =>
    storage
      .find(user.userUlid)
      .pipe(
        Effect.orDie,
        Effect.flatMap(
          Option.match({ onNone: () => Effect.dieMessage("the user's row is gone"), onSome: Effect.succeed })
        )
      )
  )

export const all200 = (answers: ReadonlyArray<Node.Answer>) => {
  assert.isNotEmpty(answers)
  for (const answer of answers) assert.strictEqual(answer.status, 200, JSON.stringify(answer.body))
}

/** Whether Cal.com would still take one of the refresh tokens in the user's row. */
export const holdsLivePair = (user: Cal.User) =>
  Effect.gen(function* () {
    const { cal } = yield* Fleet
    const { fallbacks, pair } = yield* stored(user)
    return yield* Effect.exists([pair, ...fallbacks], ({ refreshToken }) => cal.isLive(refreshToken))
  })

/** The promise of it all: Cal.com would still take what is stored, and nobody has to reconnect. */
export const nothingLost = (users: ReadonlyArray<Cal.User>) =>
  Effect.gen(function* () {
    for (const user of users) {
      const { status } = yield* stored(user)
      assert.strictEqual(status._tag, "Active", `${user.kind} user`)
      assert.isTrue(yield* holdsLivePair(user), `a stored refresh token of a ${user.kind} user works`)
    }
  })

/** Cal.com granted one pair for a user's refresh token, and that is the stored one. */
export const refreshedOnce = (users: ReadonlyArray<Cal.User>) =>
  Effect.gen(function* () {
    const { cal } = yield* Fleet
    for (const user of users) {
      assert.deepStrictEqual(yield* cal.refreshes(user), { presented: 1, granted: 1, reissued: 0 }, user.kind)
      const { pair } = yield* stored(user)
      assert.isTrue(yield* cal.isAccessLive(pair.accessToken))
      assert.isTrue(yield* cal.isLive(pair.refreshToken))
      assert.notStrictEqual(Token.hash(pair.refreshToken), Token.hash(Redacted.make(user.refreshToken)))
    }
  })
