/** Deliveries on the test clock, to a receiver on a real socket that checks signatures as receivers do. */
import * as Http from "node:http"
import { assert, it } from "@effect/vitest"
import {
  Context,
  Duration,
  Effect,
  Exit,
  Layer,
  Redacted,
  Schedule,
  Scope,
  Stream,
  TestClock,
  TestServices
} from "effect"
import { Webhook as Verifier } from "standardwebhooks"
import { CalTokens } from "../src/CalTokens.js"
import { StorageUnavailable } from "../src/TokenError.js"
import * as TokenStorage from "../src/TokenStorage.js"
import { layerMemory } from "../src/TokenStorage/Memory.js"
import type { ChangeLog } from "../src/TokenStorage/ChangeLog.js"
import * as Webhook from "../src/Webhook.js"
import { recording } from "./support/Leaks.js"
import * as Fixture from "./support/StorageFixture.js"

const secret = `whsec_${Buffer.alloc(32, 9).toString("base64")}`

interface Received {
  readonly id: string
  readonly path: string | undefined
  readonly body: string
  readonly isSigned: boolean
  readonly at: number
}

/** Waits on the real clock, for what other tasks of this process do. */
const until = (condition: () => boolean) =>
  Effect.whileLoop({
    while: () => !condition(),
    body: () => TestServices.provideLive(Effect.sleep("5 millis")),
    step: () => {}
  }).pipe(
    Effect.raceFirst(
      TestServices.provideLive(Effect.sleep("20 seconds")).pipe(Effect.zipRight(Effect.dieMessage("waited in vain")))
    )
  )

/** Long enough on the real clock that what should not come would have come. */
const pause = TestServices.provideLive(Effect.sleep("100 millis"))

const world = Effect.gen(function* () {
  const received: Array<Received> = []
  let answer: number | undefined = 200
  const verifier = new Verifier(secret)
  const server = yield* Effect.acquireRelease(
    Effect.async<Http.Server>((resume) => {
      const server = Http.createServer((request, response) => {
        let body = ""
        request.on("data", (chunk) => (body += String(chunk)))
        request.on("end", () => {
          const headers = request.headers as Record<string, string>
          const seconds = Number(headers["webhook-timestamp"])
          // Its clock is the machine's; what is signed is the test's.
          const id = headers["webhook-id"] ?? ""
          const isSigned = verifier.sign(id, new Date(seconds * 1000), body) === headers["webhook-signature"]
          received.push({ id, path: request.url, body, isSigned, at: seconds })
          if (answer !== undefined) response.writeHead(answer, { location: "/elsewhere" }).end("x".repeat(100_000))
        })
      })
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.sync(() => {
        server.closeAllConnections()
        server.close()
      })
  )
  const address = server.address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  const storage = Context.get(yield* Layer.build(layerMemory), TokenStorage.TokenStorage)
  /** Deliveries whose end is written down. */
  let ended = 0
  let begun = 0
  let isSettleLost = false
  const count = <A, E>(effect: Effect.Effect<A, E>) => Effect.tap(effect, () => Effect.sync(() => (ended += 1)))
  const log: ChangeLog = {
    ...storage.log,
    settle: (id) =>
      Effect.suspend(() =>
        count(
          isSettleLost
            ? Effect.fail(new StorageUnavailable({ operation: "x", reason: "away" }))
            : storage.log.settle(id)
        )
      ),
    claim: (request) => Effect.tap(storage.log.claim(request), (some) => Effect.sync(() => (begun += some.length))),
    postpone: (request) => count(storage.log.postpone(request))
  }
  const recorded = yield* recording
  const process = (pollInterval: Duration.DurationInput = "2 seconds") =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
      const url = Redacted.make(`http://user:SECRET@127.0.0.1:${port}/hook?key=SECRET`)
      yield* Webhook.layer({ url, secret: Redacted.make(secret), pollInterval }).pipe(
        Layer.provide([
          Layer.succeed(TokenStorage.TokenStorage, { ...storage, log }),
          Layer.mock(CalTokens, { changes: Stream.never, peek: () => undefined })
        ]),
        Layer.provide(recorded.layer),
        Layer.buildWithScope(scope)
      )
      return Scope.close(scope, Exit.void)
    })
  const { calUserId, userUlid } = Fixture.newUser()
  yield* storage.connect({ userUlid, connection: Fixture.managed(calUserId), pair: Fixture.pair("one") })
  return {
    storage,
    userUlid,
    received,
    process,
    text: recorded.text,
    logLine: (line: string) => Effect.provide(Effect.logInfo(line), recorded.layer),
    /** What this instant began, which the clock has waited for, is done. */
    settled: until(() => begun === ended),
    answerWith: (status: number | undefined) => Effect.sync(() => (answer = status)),
    loseSettling: (lost: boolean) => Effect.sync(() => (isSettleLost = lost)),
    /** Waits for so many to have come, and for as many of them to be written down. */
    arrived: (n: number, done = n) => until(() => received.length >= n && ended >= done),
    revoke: Effect.zipRight(
      storage.claim(Fixture.claimOf(userUlid, { purpose: Fixture.reissue(calUserId) })),
      storage.fail({ userUlid, attemptId: "mine", failure: Fixture.terminal(["one", "two"].map(Fixture.refreshHash)) })
    ),
    reconnect: Fixture.update(storage, userUlid, Fixture.pair("two"))
  }
})

const typesOf = (received: ReadonlyArray<Received>) =>
  received.map(({ body }) => (JSON.parse(body) as { readonly type: string }).type)

it.scoped("of two processes one tells of a transition, once, signed, in order", () =>
  Effect.gen(function* () {
    const { arrived, process, received, reconnect, revoke, userUlid } = yield* world
    yield* TestClock.setTime(Date.UTC(2026, 0, 2))
    yield* process()
    yield* process()
    yield* pause
    yield* revoke
    yield* TestClock.adjust("2 seconds")
    yield* arrived(1)
    yield* TestClock.adjust("58 seconds")
    yield* reconnect
    yield* TestClock.adjust("2 seconds")
    yield* arrived(2)
    yield* TestClock.adjust("2 minutes")
    yield* pause
    assert.deepStrictEqual(
      received.map(({ body }): unknown => JSON.parse(body)),
      [
        {
          type: "connection.reauthorization_required",
          timestamp: "2026-01-02T00:00:00.000Z",
          data: { userUlid, cause: "revoked", since: "2026-01-02T00:00:00.000Z" }
        },
        {
          type: "connection.reauthorized",
          timestamp: "2026-01-02T00:01:00.000Z",
          data: { userUlid, cause: "revoked", since: "2026-01-02T00:00:00.000Z" }
        }
      ]
    )
    assert.isTrue(received.every(({ isSigned, path }) => isSigned && path === "/hook?key=SECRET"))
    assert.strictEqual(new Set(received.map(({ id }) => id)).size, 2)
    assert.closeTo(received[0]?.at ?? 0, Date.UTC(2026, 0, 2) / 1000, 2)
  })
)

it("names a second system as the likely cause where the user was imported shortly before, and only there", () => {
  const since = Date.UTC(2026, 0, 2)
  const { userUlid } = Fixture.newUser()
  const bodyOf = (importedAt: number | undefined) =>
    Webhook.bodyOf({
      id: "id",
      kind: "reauthorizationRequired",
      userUlid,
      at: since,
      cause: "revoked",
      since,
      ...(importedAt === undefined ? {} : { importedAt }),
      attempt: 1
    })
  const { data } = JSON.parse(bodyOf(since - 5 * 60_000)) as { readonly data: unknown }
  const hint = "The user was imported 5 min before that: a second system may still refresh this user."
  assert.deepStrictEqual(data, { userUlid, cause: "revoked", since: "2026-01-02T00:00:00.000Z", hint })
  assert.notInclude(bodyOf(since - 25 * 3_600_000), "hint")
  assert.notInclude(bodyOf(undefined), "hint")
})

it.scopedLive("a receiver's own library accepts it", () =>
  Effect.gen(function* () {
    const headers: Array<Record<string, string>> = []
    const bodies: Array<string> = []
    const server = Http.createServer((request, response) => {
      request.on("data", (chunk) => bodies.push(String(chunk)))
      request.on("end", () => {
        headers.push(request.headers as Record<string, string>)
        response.end()
      })
    })
    yield* Effect.async<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void)))
    yield* Effect.addFinalizer(() => Effect.sync(() => void server.close()))
    const address = server.address()
    const port = typeof address === "object" && address !== null ? address.port : 0
    const { revoke, storage } = yield* world
    const secrets = [`whsec_${Buffer.alloc(32, 8).toString("base64")}`]
    const now = () => Redacted.make(secrets.at(-1) ?? "")
    yield* Webhook.run({ url: Redacted.make(`http://127.0.0.1:${port}`), secret: now }).pipe(
      Effect.provideService(TokenStorage.TokenStorage, storage),
      Effect.provide(Layer.mock(CalTokens, { changes: Stream.make(undefined as never), peek: () => undefined }))
    )
    secrets.push(secret)
    yield* revoke
    yield* until(() => headers.length > 0)
    const [header = {}] = headers
    const accepted = new Verifier(secret).verify(bodies.join(""), header) as { readonly type: string }
    assert.strictEqual(accepted.type, "connection.reauthorization_required")
    assert.throws(() => new Verifier(secret).verify(`${bodies.join("")} `, header))
  })
)

it.scoped("what is not taken is posted again on schedule, later ones of the user behind it, then given up", () =>
  Effect.gen(function* () {
    const { answerWith, logLine, process, received, reconnect, revoke, settled, text } = yield* world
    yield* answerWith(500)
    yield* process("10 minutes")
    yield* settled
    yield* revoke
    yield* reconnect
    // From one poll to the next, so that no time passes while a receiver answers.
    const step = Effect.zipRight(TestClock.adjust("10 minutes"), settled)
    yield* Effect.repeat(step, { until: () => received.length >= 10, schedule: Schedule.recurs(600) })
    for (const [index, delay] of Webhook.schedule.entries()) {
      const gap = (received[index + 1]?.at ?? 0) - (received[index]?.at ?? 0)
      // At most a tenth of jitter, and a poll.
      assert.isAtLeast(gap, Duration.toSeconds(delay), String(index))
      assert.isAtMost(gap, 1.1 * Duration.toSeconds(delay) + 601, String(index))
    }
    assert.strictEqual(new Set(received.slice(0, 10).map(({ id }) => id)).size, 1)
    assert.isTrue(received.every(({ isSigned }) => isSigned))
    yield* answerWith(204)
    yield* Effect.repeat(step, { until: () => received.length >= 12, schedule: Schedule.recurs(3) })
    const types = typesOf(received)
    assert.deepStrictEqual(new Set(types.slice(0, 10)), new Set(["connection.reauthorization_required"]))
    assert.deepStrictEqual(types.slice(10), ["connection.reauthorized", "connection.reauthorized"])
    yield* logLine("One line")
    const log = yield* text
    const count = (line: string) => log.split(line).length - 1
    // Each line is recorded in several formats.
    assert.isAbove(count("One line"), 0)
    assert.strictEqual(count("A webhook is given up"), count("One line"))
    assert.strictEqual(count("A webhook was not taken"), 10 * count("One line"))
    assert.notMatch(log, /SECRET|whsec_|CQkJCQkJ|127\.0\.0\.1/)
  })
)

it.scoped("a receiver that is gone for good is not asked again; a redirect is not followed", () =>
  Effect.gen(function* () {
    const { answerWith, arrived, process, received, reconnect, revoke } = yield* world
    yield* answerWith(410)
    yield* process()
    yield* revoke
    yield* TestClock.adjust("2 seconds")
    yield* arrived(1)
    yield* answerWith(302)
    yield* reconnect
    yield* TestClock.adjust("2 seconds")
    yield* arrived(2)
    yield* TestClock.adjust("8 seconds")
    yield* arrived(3)
    assert.deepStrictEqual(typesOf(received), [
      "connection.reauthorization_required",
      "connection.reauthorized",
      "connection.reauthorized"
    ])
    assert.isTrue(received.every(({ path }) => path === "/hook?key=SECRET"))
  })
)

it.scoped("a process that dies after it delivered leaves it to another, which uses the same id", () =>
  Effect.gen(function* () {
    const { arrived, loseSettling, process, received, revoke } = yield* world
    yield* loseSettling(true)
    const stop = yield* process()
    yield* revoke
    yield* TestClock.adjust("2 seconds")
    yield* arrived(1, 0)
    yield* pause
    yield* stop
    yield* loseSettling(false)
    yield* process()
    yield* TestClock.adjust("56 seconds")
    yield* pause
    assert.lengthOf(received, 1)
    yield* TestClock.adjust("6 seconds")
    yield* arrived(2, 1)
    assert.strictEqual(received[0]?.id, received[1]?.id)
    assert.strictEqual(received[0]?.body, received[1]?.body)
  })
)

it.scoped("a receiver that does not answer is left after 15 s, and holds up no shutdown", () =>
  Effect.gen(function* () {
    const { answerWith, arrived, process, received, reconnect, revoke, text } = yield* world
    yield* answerWith(undefined)
    const stop = yield* process()
    yield* revoke
    yield* TestClock.adjust("2 seconds")
    yield* arrived(1, 0)
    yield* reconnect
    yield* TestClock.adjust("15 seconds")
    yield* arrived(1)
    assert.include(yield* text, "no answer within 15 s")
    yield* TestClock.adjust("8 seconds")
    yield* arrived(2, 1)
    const [took] = yield* TestServices.provideLive(Effect.timed(stop))
    // Far below the 15 s.
    assert.isBelow(Duration.toMillis(took), 8000)
    yield* TestClock.adjust("1 day")
    yield* pause
    assert.lengthOf(received, 2)
  })
)
