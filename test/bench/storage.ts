/**
 * What a refresh costs the storage: a claim, a commit and the commit's notification, one refresh after the other, on a
 * connection to PostgreSQL and through PgBouncer in transaction mode, where that is installed. On Linux:
 * `npm run bench:storage -- [refreshes]`. The server is one that does not wait for its disk.
 */
import { loadavg } from "node:os"
import { Clock, Context, Effect, Layer, Redacted, type Scope } from "effect"
import { TokenStorage } from "../../src/TokenStorage.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import { layerKeys } from "../support/Keys.js"
import * as PgBouncer from "../support/PgBouncer.js"
import { makeServer } from "../support/PostgresServer.js"
import * as Fixture from "../support/StorageFixture.js"
import { serverTime } from "./ServerTime.js"

const refreshes = Number(process.argv[2] ?? 3000)

/** Until plans are kept, the code is compiled, and rows have their fallbacks and superseded tokens. */
const warmUp = 500

const users = Array.from({ length: 50 }, () => Fixture.newUser())

/** As long as Cal.com's. */
const pair = (name: string) =>
  Fixture.pair(name, {
    accessToken: Redacted.make(`access-${name}`.padEnd(330, "a")),
    refreshToken: Redacted.make(`refresh-${name}`.padEnd(420, "r"))
  })

const refresh = (storage: Fixture.Storage, n: number) =>
  Effect.gen(function* () {
    const { calUserId, userUlid } = users[n % users.length] ?? Fixture.newUser()
    const attemptId = `attempt ${n}`
    const claimed = yield* storage.claim(Fixture.claimOf(userUlid, { attemptId, maxAttempts: 1e9 }))
    const connection = Fixture.managed(calUserId)
    const history = Fixture.attempted(attemptId, { brought: "12345678" })
    const request = { attemptId, pair: pair(attemptId), seen: "", history }
    const committed = yield* storage.commit(Fixture.commitOf(userUlid, connection, request))
    const went = `${claimed._tag}, ${committed._tag}`
    if (went !== "Claimed, Stored") return yield* Effect.dieMessage(`not a refresh: ${went}`)
  })

/** In ms of one refresh. */
interface Cost {
  readonly wall: number
  readonly server: number
  readonly own: number
}

const measure = (url: Redacted.Redacted, serverTime: () => number): Effect.Effect<Cost, unknown> =>
  Effect.gen(function* () {
    // One connection, so that a notification is over before the next claim.
    const connection = Postgres.layerConnection({ url, poolSize: 1 })
    const context = yield* Layer.build(Postgres.layer().pipe(Layer.provide(connection), Layer.provide(layerKeys())))
    const storage = Context.get(context, TokenStorage)
    for (const { calUserId, userUlid } of users) {
      yield* storage.connect({ userUlid, connection: Fixture.managed(calUserId), pair: pair(userUlid) })
    }
    const loop = (from: number, count: number) =>
      Effect.forEach(
        Array.from({ length: count }, (_, n) => from + n),
        (n) => refresh(storage, n),
        { discard: true }
      )
    yield* loop(0, warmUp)
    const before = { wall: yield* Clock.currentTimeMillis, server: serverTime(), own: process.cpuUsage() }
    yield* loop(warmUp, refreshes)
    const own = process.cpuUsage(before.own)
    return {
      wall: ((yield* Clock.currentTimeMillis) - before.wall) / refreshes,
      server: (serverTime() - before.server) / refreshes,
      own: (own.user + own.system) / 1000 / refreshes
    }
  }).pipe(Effect.scoped)

/** A server of its own for each way, as new. */
const server: Effect.Effect<
  { readonly url: Redacted.Redacted; readonly serverTime: () => number },
  unknown,
  Scope.Scope
> = Effect.gen(function* () {
  const started = yield* Effect.acquireRelease(
    Effect.promise(() => makeServer()),
    (started) => Effect.promise(() => started.remove())
  )
  return { url: Redacted.make(started.url), serverTime: yield* Effect.promise(() => serverTime(started.url)) }
})

const ways = {
  directly: Effect.flatMap(server, ({ serverTime, url }) => measure(url, serverTime)),
  "through PgBouncer": Effect.flatMap(server, ({ serverTime, url }) =>
    Effect.flatMap(PgBouncer.through(url), (pooled) => measure(pooled, serverTime))
  )
}

void Effect.gen(function* () {
  console.log(`${refreshes} refreshes, ms each; load ${loadavg()[0]?.toFixed(1)}`)
  console.log("                     wall  PostgreSQL's CPU  our CPU")
  for (const [way, run] of Object.entries(ways)) {
    if (way !== "directly" && !PgBouncer.isInstalled) continue
    const { own, server, wall } = yield* Effect.scoped(run)
    console.log(
      way.padEnd(19) + wall.toFixed(2).padStart(6) + server.toFixed(2).padStart(18) + own.toFixed(2).padStart(9)
    )
  }
}).pipe(Effect.runPromise)
