/**
 * What a refresh costs the storage: a claim, a commit and the commit's notification, one refresh after the other, on a
 * connection to PostgreSQL and through PgBouncer in transaction mode, where that is installed. On Linux:
 * `npm run bench:storage -- [refreshes]`. The server is one that does not wait for its disk.
 */
import { readdirSync, readFileSync } from "node:fs"
import { loadavg } from "node:os"
import { PgClient } from "@effect/sql-pg"
import { Clock, Context, Effect, Layer, Redacted, type Scope } from "effect"
import { TokenStorage } from "../../src/TokenStorage.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import { layerKeys } from "../support/Keys.js"
import * as PgBouncer from "../support/PgBouncer.js"
import { makeServer } from "../support/PostgresServer.js"
import * as Fixture from "../support/StorageFixture.js"

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
    const request = { attemptId, pair: pair(attemptId), seen: "" }
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

/** The processor time of a server so far, in ms: `utime` and `stime` of its processes, and of those that have ended. */
const serverTimeOf = (postmaster: number) => (): number => {
  const ticks = readdirSync("/proc").map((name) => {
    const pid = Number(name)
    if (Number.isNaN(pid)) return 0
    // The name before it, in brackets, may contain anything: counted is what is behind it.
    const [, parent, ...rest] = statOf(pid)
      .replace(/^.*\) /s, "")
      .split(" ")
      .map(Number)
    const [utime = 0, stime = 0, endedUtime = 0, endedStime = 0] = rest.slice(9)
    if (pid === postmaster) return utime + stime + endedUtime + endedStime
    return parent === postmaster ? utime + stime : 0
  })
  // Linux counts in hundredths of a second, whatever the kernel was built for.
  return ticks.reduce((sum, own) => sum + own, 0) * 10
}

const statOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/stat`, "utf8")
  } catch {
    // It has just ended.
    return ""
  }
}

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
  const url = Redacted.make(started.url)
  const [row] = yield* Effect.flatMap(
    PgClient.PgClient,
    (sql) => sql<{ pid: number }>`select split_part(pg_read_file('postmaster.pid'), E'\n', 1)::integer as pid`
  ).pipe(Effect.provide(PgClient.layer({ url, maxConnections: 1 })))
  if (row === undefined) return yield* Effect.dieMessage("no process")
  return { url, serverTime: serverTimeOf(row.pid) }
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
