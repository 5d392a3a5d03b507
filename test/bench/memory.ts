/** What a user in memory takes, in KiB: 100,000 of them, read from a storage that holds none. Run with `--expose-gc`. */
import { Clock, Duration, Effect, Layer, Logger, Option, Redacted, Stream } from "effect"
import * as CalClient from "../../src/CalClient.js"
import * as CalTokens from "../../src/CalTokens.js"
import * as Sandbox from "../../src/Sandbox.js"
import { UserUlid } from "../../src/Token.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import { TokenStorage, type StoredRow } from "../../src/TokenStorage.js"

const count = 100_000

/** As they come from a database: texts of their own. */
const text = (name: string, length: number) => Buffer.from(name.padEnd(length, "x")).toString("latin1")

const rowOf = (userUlid: UserUlid, now: number): StoredRow => ({
  userUlid,
  connection: {
    _tag: "ManagedUser",
    clientId: Sandbox.demoManaged.clientId,
    calUserId: Number(userUlid.slice(-8)) + 1
  },
  pair: {
    accessToken: Redacted.make(text(`access-${userUlid}`, 330)),
    refreshToken: Redacted.make(text(`refresh-${userUlid}`, 420)),
    accessTokenExpiresAt: now + 3_600_000,
    issuedAt: now
  },
  status: { _tag: "Active" },
  version: 1,
  sessionsAfter: 1,
  updatedAt: now,
  handedOutAt: now,
  fallbacks: [],
  lookups: []
})

const storage = Layer.mock(TokenStorage, {
  find: (userUlid) => Effect.map(Clock.currentTimeMillis, (now) => Option.some(rowOf(userUlid, now))),
  sealed: () => Effect.succeed([]),
  notices: Stream.never,
  log: {} as never
})

const layer = CalTokens.layer.pipe(
  Layer.provide(CalClient.layer({ apiUrl: "https://api.cal.com/v2", managed: Sandbox.demoManaged })),
  Layer.provide(Sandbox.layerHttpClient),
  Layer.provide(Sandbox.layer()),
  Layer.provide([
    storage,
    TokenConfig.layer({ memoryMaxAge: Duration.hours(1), memoryMaxEntries: count }),
    Logger.remove(Logger.defaultLogger),
    Layer.setTracerEnabled(false)
  ])
)

const users = (from: number) =>
  Array.from({ length: count }, (_, n) => UserUlid.make(`01ARZ3NDEKTSV4RRFF${String(from + n).padStart(8, "0")}`))

const used = Effect.sync(() => {
  globalThis.gc?.()
  globalThis.gc?.()
  return process.memoryUsage().heapUsed
})

const measure = Effect.gen(function* () {
  const tokens = yield* CalTokens.CalTokens
  const readAll = (some: ReadonlyArray<UserUlid>) =>
    Effect.forEach(some, (user) => tokens.ensureValid(user), { discard: true })
  // A few, until the code is compiled and the maps have grown.
  const first = users(0)
  yield* readAll(first.slice(0, 1000))
  const before = yield* used
  yield* readAll(first)
  const full = yield* used
  // Tables grow to twice their size with the first who come instead, and stay like that.
  yield* readAll(users(count))
  const others = users(2 * count)
  const between = yield* used
  yield* readAll(others)
  const evicted = yield* used
  return { perUser: (full - before) / (count - 1000) / 1024, grown: (evicted - between) / count / 1024 }
})

Effect.runPromise(Effect.provide(measure, layer)).then(
  (figures) => console.log(JSON.stringify(figures)),
  (error: unknown) => {
    console.error(error)
    process.exitCode = 1
  }
)
