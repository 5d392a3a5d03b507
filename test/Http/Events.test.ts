/** Server-sent events over real sockets. */
import * as Http from "node:http"
import { HttpServer } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Duration, Effect, Exit, Layer, Option, Schedule, Scope, Stream, Struct } from "effect"
import { CalTokens, type TokenChange } from "../../src/CalTokens.js"
import * as HttpService from "../../src/Http.js"
import * as ApiKeys from "../../src/ApiKeys.js"
import * as EventFeed from "../../src/Http/EventFeed.js"
import * as Lifecycle from "../../src/Http/Lifecycle.js"
import * as Server from "../../src/Http/Server.js"
import { StorageUnavailable } from "../../src/TokenError.js"
import * as TokenStorage from "../../src/TokenStorage.js"
import { layerMemory } from "../../src/TokenStorage/Memory.js"
import type { ChangeLog, LoggedChange } from "../../src/TokenStorage/ChangeLog.js"
import { keys, layerFake, layerServices } from "../support/HttpFakes.js"
import * as Fixture from "../support/StorageFixture.js"
import { make as twoProcesses } from "../support/TwoProcesses.js"

const apiKeys = ApiKeys.parse(`manage:${keys.manage}:manage,proxy:${keys.proxy}:proxy+read-token+metrics`)

const memory = Effect.map(Layer.build(layerMemory), Context.get(TokenStorage.TokenStorage))

/** Looks often, so that a test need not wait. */
const quick: Partial<EventFeed.Options> = { pollInterval: Duration.millis(20), gather: Duration.millis(1) }

/** A process that serves what a storage holds. */
const serve = (
  storage: Fixture.Storage,
  options: Partial<EventFeed.Options> = quick,
  changes: Stream.Stream<TokenChange> = Stream.never
) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
    const context = yield* Server.layer({ host: "127.0.0.1", port: 0 }, HttpService.layer).pipe(
      Layer.provide([
        Layer.succeed(TokenStorage.TokenStorage, storage),
        Layer.mock(CalTokens, { changes, peek: () => undefined }),
        Layer.succeed(EventFeed.EventConfig, { ...EventFeed.defaults, ...options })
      ]),
      Layer.provide(layerServices),
      Layer.provide(ApiKeys.layer(apiKeys._tag === "Right" ? apiKeys.right : [])),
      Layer.provide(Lifecycle.layer),
      Layer.provide(layerFake),
      Layer.buildWithScope(scope)
    )
    const { address } = Context.get(context, HttpServer.HttpServer)
    return { port: address._tag === "TcpAddress" ? address.port : 0, close: Scope.close(scope, Exit.void) }
  })

interface Connection {
  readonly status: number
  readonly headers: Http.IncomingHttpHeaders
  /** What came so far, once that satisfies a condition or is all that comes. */
  readonly until: (condition: (text: string) => boolean) => Effect.Effect<string>
  readonly ended: Effect.Effect<string>
  /** Whether the answer came to its end and was not cut off. */
  readonly isWhole: () => boolean
  readonly close: Effect.Effect<void>
}

/** `reads: false`: takes the headers and nothing more. */
const open = (
  port: number,
  {
    headers = {},
    key = keys.manage,
    query = "",
    reads = true
  }: { headers?: object; key?: string; query?: string; reads?: boolean } = {}
) =>
  Effect.acquireRelease(
    Effect.async<Connection>((resume) => {
      const request = Http.get(
        {
          port,
          path: `/api/cal/events${query}`,
          agent: false,
          headers: { authorization: `Bearer ${key}`, ...headers }
        },
        (response) => {
          let text = ""
          let isOver = false
          const checks = new Set<() => void>()
          const check = () => checks.forEach((one) => one())
          if (reads) response.setEncoding("utf8").on("data", (chunk: string) => ((text += chunk), check()))
          else response.pause()
          response.on("error", () => undefined)
          response.on("close", () => ((isOver = true), check()))
          const until = (condition: (text: string) => boolean) =>
            Effect.async<string>((resume) => {
              const look = () => {
                if (isOver || condition(text)) resume(Effect.succeed(text))
              }
              checks.add(look)
              look()
            }).pipe(Effect.timeout("20 seconds"), Effect.orDie)
          const { headers, statusCode: status = 0 } = response
          const close = Effect.sync(() => void request.destroy())
          const isWhole = () => response.complete
          resume(Effect.succeed({ status, headers, until, ended: until(() => false), isWhole, close }))
        }
      )
      request.on("error", () => undefined)
    }),
    ({ close }) => close
  )

interface Event {
  readonly id: string | undefined
  readonly event: string | undefined
  readonly data: Record<string, unknown>
}

/** As EventSource would dispatch them. */
const eventsIn = (text: string): ReadonlyArray<Event> =>
  text
    .split("\n\n")
    .slice(0, -1)
    .map((block) => Object.fromEntries(block.split("\n").map((line) => line.split(/: ?(.*)/, 2) as [string, string])))
    .filter((fields) => fields["data"] !== undefined)
    .map(({ data = "", event, id }) => ({ id, event, data: JSON.parse(data) as Record<string, unknown> }))

const events = (connection: Connection, count: number) =>
  Effect.map(
    connection.until((text) => eventsIn(text).length >= count),
    eventsIn
  )

const lastId = (text: string) => /(?:[^]*\n)?id: (.*)\n/.exec(text)?.[1] ?? ""

const connect = (storage: Fixture.Storage) => {
  const { calUserId, userUlid } = Fixture.newUser()
  return Effect.as(
    storage.connect({ userUlid, connection: Fixture.managed(calUserId), pair: Fixture.pair(`${userUlid} one`) }),
    userUlid
  )
}

const usersOf = (all: ReadonlyArray<Event>) => all.map(({ data }) => data["userUlid"])

it.scopedLive("changes come as they happen, as JSON without tokens, to keys that may manage", () =>
  Effect.gen(function* () {
    const storage = yield* memory
    const { port } = yield* serve(storage)
    const refused = yield* open(port, { key: keys.proxy })
    assert.strictEqual(refused.status, 403)
    assert.strictEqual((yield* open(port, { key: "x".repeat(40) })).status, 401)

    const stream = yield* open(port)
    assert.strictEqual(stream.status, 200)
    assert.deepInclude(stream.headers, {
      "content-type": "text/event-stream",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
      "x-content-type-options": "nosniff"
    })
    assert.match(
      yield* stream.until((text) => text.includes("id: ")),
      /^retry: 2000\n\n: nothing new\nid: \d+-\d+-\d+\n\n/
    )
    const userUlid = yield* connect(storage)
    assert.deepStrictEqual(usersOf(yield* events(stream, 1)), [userUlid])
    yield* storage.claim(Fixture.claimOf(userUlid))
    yield* storage.fail({ userUlid, attemptId: "mine", failure: Fixture.terminal([]) })
    yield* Fixture.update(storage, userUlid, Fixture.pair(`${userUlid} two`))
    yield* storage.disconnect(userUlid)
    const text = yield* stream.until((text) => eventsIn(text).length >= 4)
    const all = eventsIn(text)
    assert.deepStrictEqual(
      all.map(({ data: { at, since, ...data }, event }): unknown => [
        event,
        { ...Struct.omit(data, "version"), hasSince: since === at }
      ]),
      [
        ["connected", { userUlid, kind: "connected", hasSince: false }],
        ["reauthorizationRequired", { userUlid, kind: "reauthorizationRequired", cause: "revoked", hasSince: true }],
        ["updated", { userUlid, kind: "updated", reauthorized: true, hasSince: false }],
        ["disconnected", { userUlid, kind: "disconnected", hasSince: false }]
      ]
    )
    assert.deepStrictEqual(
      all.map(({ data }) => data["version"] === undefined),
      [false, false, false, true]
    )
    assert.match(String(all[0]?.data["at"]), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/)
    assert.notMatch(text, /access-|refresh-|pair|hash/)
  })
)

it.scopedLive("who comes back goes on after the last event, or is told that some are missing", () =>
  Effect.gen(function* () {
    const storage = yield* memory
    const { port } = yield* serve(storage, { ...quick, pageSize: 2 })
    const first = yield* open(port)
    const start = lastId(yield* first.until((text) => text.includes("id: ")))
    const users = yield* Effect.forEach([1, 2, 3, 4, 5], () => connect(storage))
    const seen = yield* events(first, 5)
    assert.deepStrictEqual(usersOf(seen), users)
    yield* first.close
    const later = yield* connect(storage)
    for (const [index, { id = "" }] of [{ id: start }, ...seen].entries()) {
      const expected = [...users.slice(index), later]
      for (const options of [{ headers: { "last-event-id": id } }, { query: `?lastEventId=${id}` }]) {
        const again = yield* open(port, options)
        assert.deepStrictEqual(usersOf(yield* events(again, expected.length)), expected)
        yield* again.close
      }
    }
    const both = yield* open(port, { headers: { "last-event-id": seen[4]?.id }, query: `?lastEventId=${start}` })
    assert.deepStrictEqual(usersOf(yield* events(both, 1)), [later])

    for (const id of ["gone", "1-1-1", `${start}999`]) {
      const lost = yield* open(port, { headers: { "last-event-id": id } })
      const [reset] = yield* events(lost, 1)
      assert.deepInclude(reset, { event: "reset", data: { reset: true } })
      const next = yield* connect(storage)
      assert.deepStrictEqual(usersOf((yield* events(lost, 2)).slice(1)), [next])
      const resumed = yield* open(port, { headers: { "last-event-id": reset?.id } })
      assert.deepStrictEqual(usersOf(yield* events(resumed, 1)), [next])
    }
  })
)

it.scopedLive("changes of one process are told by another, where the stream also goes on", () =>
  Effect.gen(function* () {
    const { one, two } = yield* twoProcesses({})
    const [a, b] = [yield* serve(one), yield* serve(two)]
    const stream = yield* open(a.port)
    yield* stream.until((text) => text.includes("id: "))
    const [first, second] = [yield* connect(two), yield* connect(one)]
    const seen = yield* events(stream, 2)
    assert.deepStrictEqual(usersOf(seen), [first, second])
    yield* a.close
    yield* stream.ended
    const third = yield* connect(one)
    const again = yield* open(b.port, { headers: { "last-event-id": seen[0]?.id } })
    const resumed = usersOf(eventsIn(yield* again.until((text) => usersOf(eventsIn(text)).includes(third))))
    // A position that a client kept may show a change twice if somebody was writing to the server meanwhile.
    assert.deepStrictEqual(
      resumed.filter((userUlid) => userUlid !== first),
      [second, third]
    )
  })
)

it.scopedLive("entries that somebody wrote into the database with instants of no calendar end nobody's stream", () =>
  Effect.gen(function* () {
    const { one, sql } = yield* twoProcesses({})
    const { port } = yield* serve(one)
    const stream = yield* open(port)
    yield* stream.until((text) => text.includes("id: "))
    const { userUlid } = Fixture.newUser()
    for (const instant of ["9223372036854775807", "-9223372036854775808", "8640000000000001"]) {
      yield* sql.unsafe(`
        insert into cal_tokens.change (at, user_ulid, kind, version, since, reauthorized)
        values (${instant}, '${userUlid}', 'refreshed', ${instant}, ${instant}, false)`)
    }
    const real = yield* connect(one)
    const told = usersOf(eventsIn(yield* stream.until((text) => usersOf(eventsIn(text)).includes(real))))
    assert.strictEqual(told.at(-1), real)
    assert.include(told, userUlid)
  })
)

describe("news", () => {
  const change: TokenChange = { userUlid: Fixture.newUser().userUlid, kind: "refreshed", at: 0 }
  const notice = TokenStorage.Notice.Missed()
  for (const source of ["changes", "notices"] as const) {
    it.scopedLive(`of ${source} are looked at long before the next poll`, () =>
      Effect.gen(function* () {
        const storage = yield* memory
        const tick = <A>(value: A) => Stream.repeatEffect(Effect.as(Effect.sleep("10 millis"), value))
        const { port } = yield* serve(
          source === "notices" ? { ...storage, notices: tick(notice) } : storage,
          { pollInterval: Duration.hours(1), heartbeat: Duration.hours(1) },
          source === "changes" ? tick(change) : Stream.never
        )
        const stream = yield* open(port)
        yield* stream.until((text) => text.includes("id: "))
        const users = [yield* connect(storage)]
        yield* events(stream, 1)
        users.push(yield* connect(storage))
        assert.deepStrictEqual(usersOf(yield* events(stream, 2)), users)
      })
    )
  }
})

it.scopedLive("a stream that has nothing to tell shows that it lives, and moves its place along", () =>
  Effect.gen(function* () {
    const storage = yield* memory
    const heartbeat = 150
    const { port } = yield* serve(storage, { ...quick, heartbeat: Duration.millis(heartbeat) })
    const startedAt = yield* Clock.currentTimeMillis
    const stream = yield* open(port)
    const text = yield* stream.until((text) => text.split(": nothing new").length > 4)
    const took = (yield* Clock.currentTimeMillis) - startedAt
    const ids = Array.from(text.matchAll(/id: (.*)\n/g), ([, id = ""]) => Number(id.split("-")[0]))
    assert.isAtLeast(ids.length, 4)
    // Far fewer than looks. A place is that of the look before, so the time between two says nothing of when they were told.
    assert.isAtLeast(took, (ids.length - 1) * heartbeat)
    for (const [index, id] of ids.slice(1).entries()) assert.isAtLeast(id, ids[index] ?? 0)
    assert.isAbove(ids.at(-1) ?? 0, ids[0] ?? 0)
    const user = yield* connect(storage)
    const again = yield* open(port, { headers: { "last-event-id": lastId(text) } })
    assert.deepStrictEqual(usersOf(yield* events(again, 1)), [user])
  })
)

// Far above what it takes, and far below the drain of a server that waits for them.
const soon = 10_000

it.scopedLive("a shutdown ends a stream at its end", () =>
  Effect.gen(function* () {
    const { port, close } = yield* serve(yield* memory)
    const stream = yield* open(port)
    yield* stream.until((text) => text.includes("id: "))
    const [took] = yield* Effect.timed(close)
    assert.isBelow(Duration.toMillis(took), soon)
    assert.match(yield* stream.ended, /^retry: 2000\n\n: nothing new\nid: .*\n\n$/)
    assert.isTrue(stream.isWhole())
  })
)

it.scopedLive("a shutdown ends streams that have more to tell, also those that nobody reads", () =>
  Effect.gen(function* () {
    const storage = yield* memory
    const { port, close } = yield* serve({ ...storage, log: flood(() => undefined) })
    const reading = yield* open(port, {})
    yield* reading.until((text) => text.length > 1000)
    const stalled = yield* open(port, { headers: { "last-event-id": "x" }, reads: false })
    assert.strictEqual(stalled.status, 200)
    const [took] = yield* Effect.timed(close)
    assert.isBelow(Duration.toMillis(took), soon)
  })
)

it.scopedLive("there are so many streams at most, and one that its client leaves is free again", () =>
  Effect.gen(function* () {
    const storage = yield* memory
    const { port } = yield* serve(storage, { ...quick, maxReaders: 2 })
    const [first] = [yield* open(port), yield* open(port)]
    const refused = yield* open(port)
    assert.strictEqual(refused.status, 429)
    assert.strictEqual(refused.headers["retry-after"], "5")
    assert.include(yield* refused.ended, `"code":"RateLimited"`)
    yield* first.close
    let status = 0
    yield* Effect.repeat(open(port), {
      until: (again) => (status = again.status) === 200,
      schedule: Schedule.intersect(Schedule.spaced("20 millis"), Schedule.recurs(200))
    })
    assert.strictEqual(status, 200)
    const last = yield* open(port)
    assert.strictEqual(last.status, 429)
  })
)

it.scopedLive("a storage that is away refuses new streams and pauses others", () =>
  Effect.gen(function* () {
    const storage = yield* memory
    let isAway = false
    const guard = <A>(effect: Effect.Effect<A, StorageUnavailable>) =>
      Effect.suspend(() =>
        isAway ? Effect.fail(new StorageUnavailable({ operation: "changes", reason: "away" })) : effect
      )
    const log: ChangeLog = {
      ...storage.log,
      end: guard(storage.log.end),
      read: (...args) => guard(storage.log.read(...args))
    }
    const { port } = yield* serve({ ...storage, log }, { ...quick, heartbeat: Duration.millis(50) })
    const stream = yield* open(port)
    yield* stream.until((text) => text.includes("id: "))
    isAway = true
    const user = yield* connect(storage)
    for (const options of [{}, { headers: { "last-event-id": "1-1-1" } }]) {
      const refused = yield* open(port, options)
      assert.strictEqual(refused.status, 503)
      assert.include(yield* refused.ended, `"code":"StorageUnavailable"`)
    }
    const beats = yield* stream.until((text) => text.split(": nothing new").length > 3)
    assert.deepStrictEqual(eventsIn(beats), [])
    isAway = false
    assert.deepStrictEqual(usersOf(yield* events(stream, 1)), [user])
  })
)

/** Always has more to tell. */
const flood = (told: () => void): ChangeLog => ({
  end: Effect.succeed({ position: "0-0-0" }),
  read: () =>
    Effect.sync(() => {
      told()
      const { userUlid } = Fixture.newUser()
      const change: LoggedChange = {
        userUlid,
        kind: "refreshed",
        at: 0,
        version: 1,
        cause: undefined,
        since: undefined,
        reauthorized: false,
        position: "0-0-0".padEnd(1000, "0")
      }
      return Option.some({
        changes: Array.from({ length: 100 }, () => change),
        next: { position: "0-0-0" },
        position: "0-0-0"
      })
    }),
  claim: () => Effect.succeed([]),
  settle: () => Effect.void,
  postpone: () => Effect.void
})

it.scopedLive("a client that does not read holds its place and nothing else, and holds up nobody", () =>
  Effect.gen(function* () {
    const storage = yield* memory
    let pages = 0
    const { port } = yield* serve({ ...storage, log: flood(() => (pages += 1)) })
    yield* open(port, { reads: false })
    // The sockets' buffers fill, and then it rests.
    const still = Effect.suspend(() => {
      const before = pages
      return Effect.map(Effect.sleep("300 millis"), () => pages === before && pages > 0)
    })
    yield* Effect.repeat(still, { until: (isStill) => isStill })
    const before = pages
    const other = yield* open(port)
    yield* other.until((text) => text.length > 1_000_000)
    assert.isAbove(pages, before)
  })
)

it.scopedLive("who is behind when the storage goes away asks again at leisure, and is told that the stream lives", () =>
  Effect.gen(function* () {
    const storage = yield* memory
    const { end, ...rest } = flood(() => undefined)
    let reads = 0
    let isSilent = false
    const log: ChangeLog = {
      ...rest,
      end,
      read: (cursor, limit) =>
        Effect.suspend(() => {
          if (++reads === 1) return rest.read(cursor, limit)
          if (isSilent) return Effect.never
          const away = new StorageUnavailable({ operation: "changes", reason: "away" })
          return Effect.delay(Effect.fail(away), "1 millis")
        })
    }
    const options = { pollInterval: Duration.millis(100), heartbeat: Duration.millis(200) }
    const { port } = yield* serve({ ...storage, log }, { ...options, readTimeout: Duration.millis(50) })
    const stream = yield* open(port, { headers: { "last-event-id": "x" } })
    const beats = (text: string) => text.split(": nothing new").length - 1
    const refused = yield* stream.until((text) => beats(text) >= 3)
    assert.isAtLeast(beats(refused), 3)
    assert.isBelow(reads, 50)
    isSilent = true
    const silent = yield* stream.until((text) => beats(text) >= beats(refused) + 3)
    assert.isAtLeast(beats(silent), beats(refused) + 3)
  })
)
