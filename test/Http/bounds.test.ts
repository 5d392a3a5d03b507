/** What Cal.com sends does not decide how much memory a process takes: measured in one, as users start it. */
import { randomBytes } from "node:crypto"
import * as Fs from "node:fs"
import * as Http from "node:http"
import { afterAll, assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer, ManagedRuntime, Redacted, type Scope } from "effect"
import * as Bundle from "../fleet/Bundle.js"
import * as Node from "../fleet/Node.js"
import { portOf } from "../fleet/Port.js"
import { makeDatabase } from "../support/Postgres.js"

const userUlid = "01HZY9TESTSAAAAAAAAAAAAAAA"
const expired = "01HZY9TESTSAAAAAAAAAAAAAAB"
const mebibyte = 1024 * 1024
const chunk = randomBytes(mebibyte)

class Bounds extends Context.Tag("test/Bounds")<
  Bounds,
  {
    readonly node: Node.Node
    readonly key: string
    /** How Cal.com answers from now on. */
    readonly answer: (handler: Http.RequestListener) => Effect.Effect<void>
  }
>() {}

const make = Effect.gen(function* () {
  let handler: Http.RequestListener = (_, response) => void response.end()
  const server = Http.createServer((request, response) => handler(request, response))
  yield* Effect.addFinalizer(() => Effect.sync(() => void server.close().closeAllConnections()))
  const port = yield* portOf(server)
  const key = randomBytes(32).toString("base64url")
  const node = yield* Node.make({
    program: yield* Bundle.make(),
    key,
    env: {
      // A test says itself what is refreshed.
      CAL_TOKENS_REFRESH_AHEAD: "0",
      PORT: "0",
      LOG_FORMAT: "json",
      DATABASE_URL: Redacted.value(yield* makeDatabase),
      CAL_API_URL: `http://127.0.0.1:${port}/v2`,
      CAL_CLIENT_ID: "client",
      CAL_CLIENT_SECRET: randomBytes(24).toString("base64url"),
      CAL_TOKENS_ENCRYPTION_KEYS: `k1:${randomBytes(32).toString("base64")}`,
      CAL_TOKENS_API_KEYS: `bounds:${key}:manage+read-token+proxy`
    }
  })
  for (const [user, calUserId, year] of [
    [userUlid, 1, 1],
    [expired, 2, 0]
  ] as const) {
    const { status } = yield* node.ask("PUT", `/api/cal/connections/${user}`, {
      kind: "managed",
      calUserId,
      accessToken: randomBytes(200).toString("base64url"),
      refreshToken: randomBytes(200).toString("base64url"),
      accessTokenExpiresAt: new Date(new Date().getTime() + (year === 0 ? -1000 : year * 31_536_000_000)).toISOString()
    })
    assert.strictEqual(status, 200)
  }
  return Bounds.of({ node, key, answer: (next) => Effect.sync(() => void (handler = next)) })
})

interface Got {
  readonly status: number
  readonly headers: Http.IncomingHttpHeaders
  readonly body: Http.IncomingMessage
}

/** The head of an answer; its body is not read yet. It is hung up when the scope ends. */
const get = (path: string, headers: Http.OutgoingHttpHeaders = {}, method = "GET") =>
  Effect.flatMap(Bounds, ({ key, node }) =>
    Effect.acquireRelease(
      Effect.async<{ readonly request: Http.ClientRequest; readonly got: Got }, Error>((resume) => {
        const request = Http.request(
          `${node.url}/api/cal/proxy/${userUlid}${path}`,
          { method, agent: false, headers: { authorization: `Bearer ${key}`, ...headers } },
          (body) => {
            body.on("error", () => undefined)
            resume(Effect.succeed({ request, got: { status: body.statusCode ?? 0, headers: body.headers, body } }))
          }
        )
        request.on("error", (error) => resume(Effect.fail(error)))
        request.end()
      }),
      ({ request }) => Effect.sync(() => request.destroy())
    ).pipe(Effect.map(({ got }) => got))
  )

/** How long a body is, and whether it came to its end. */
const drained = ({ body }: Got) =>
  Effect.async<{ readonly length: number; readonly isWhole: boolean }>((resume) => {
    let length = 0
    body.on("data", (bytes: Buffer) => (length += bytes.length))
    body.once("close", () => resume(Effect.succeed({ length, isWhole: body.complete })))
  })

const textOf = ({ body }: Got) =>
  Effect.async<string>((resume) => {
    let text = ""
    body.setEncoding("utf8").on("data", (more: string) => (text += more))
    body.once("close", () => resume(Effect.succeed(text)))
  })

/** The next piece of a body. */
const next = ({ body }: Got) =>
  Effect.async<string>((resume) => void body.once("data", (bytes: Buffer) => resume(Effect.succeed(bytes.toString()))))

/** So many mebibytes, as fast as they are taken; how many were, is counted. */
const sends =
  (mebibytes: number, status = 200, headers: Http.OutgoingHttpHeaders = {}, sent = { mebibytes: 0 }) =>
  (_: unknown, response: Http.ServerResponse) => {
    response.writeHead(status, { "content-length": mebibytes * mebibyte, ...headers })
    let left = mebibytes
    const more = () => {
      while (left > 0 && !response.destroyed) {
        left--
        sent.mebibytes++
        if (!response.write(chunk)) return void response.once("drain", more)
      }
      if (left === 0) response.end()
    }
    more()
  }

const residentMebibytes = (pid: number) => {
  const [, kibibytes = ""] = /^VmRSS:\s+(\d+) kB/m.exec(Fs.readFileSync(`/proc/${pid}/status`, "utf8")) ?? []
  return Number(kibibytes) / 1024
}

/** By how many mebibytes the process grows at most while something happens. */
const growth = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const { node } = yield* Bounds
    const start = residentMebibytes(node.pid)
    let most = start
    const watch = Effect.sync(() => (most = Math.max(most, residentMebibytes(node.pid)))).pipe(
      Effect.zipRight(Effect.sleep("20 millis")),
      Effect.forever
    )
    const result = yield* Effect.raceFirst(effect, watch)
    assert.isAbove(start, 20, "it was measured")
    return { growth: most - start, result }
  })

const limit = 150

// Not `layer` of @effect/vitest: it changes `it` for the files that come after this one in the same worker.
const runtime = ManagedRuntime.make(Layer.scoped(Bounds, make))
afterAll(() => runtime.dispose())

/** Real time, and the process that all tests of this file share. */
const live =
  <A, E>(test: Effect.Effect<A, E, Bounds | Scope.Scope>) =>
  () =>
    runtime.runPromise(Effect.scoped(test))

describe("memory", () => {
  it(
    "holds nothing of an answer of 300 MiB but what is on its way",
    live(
      Effect.gen(function* () {
        const { answer } = yield* Bounds
        yield* answer(sends(300, 200, { "content-type": "video/mp4" }))
        const measured = yield* growth(
          Effect.gen(function* () {
            const got = yield* get("/recordings/1")
            assert.deepStrictEqual(
              [
                got.status,
                got.headers["content-type"],
                got.headers["content-length"],
                got.headers["transfer-encoding"]
              ],
              [200, "video/mp4", String(300 * mebibyte), undefined]
            )
            return yield* drained(got)
          })
        )
        assert.deepStrictEqual(measured.result, { length: 300 * mebibyte, isWhole: true })
        assert.isBelow(measured.growth, limit)
      })
    )
  )

  it(
    "holds as little of eight answers of 150 MiB whose callers let them wait",
    live(
      Effect.gen(function* () {
        const { answer } = yield* Bounds
        const sent = { mebibytes: 0 }
        yield* answer(sends(150, 200, {}, sent))
        const measured = yield* growth(
          Effect.gen(function* () {
            const all = yield* Effect.all(
              Array.from({ length: 8 }, () => get("/recordings/1")),
              { concurrency: "unbounded" }
            )
            yield* Effect.sleep("1 second")
            // What fits into buffers of the system's is sent and no more.
            assert.isBelow(sent.mebibytes, 400)
            return yield* Effect.forEach(all, drained, { concurrency: "unbounded" })
          })
        )
        assert.deepStrictEqual(
          measured.result,
          Array.from({ length: 8 }, () => ({ length: 150 * mebibyte, isWhole: true }))
        )
        assert.isBelow(measured.growth, limit)
      })
    )
  )

  it(
    "does not grow with an error of 300 MiB, of which one is read",
    live(
      Effect.gen(function* () {
        const { answer } = yield* Bounds
        const sent = { mebibytes: 0 }
        const hungUp = yield* Deferred.make<void>()
        yield* answer((request, response) => {
          response.once("close", () => Deferred.unsafeDone(hungUp, Effect.void))
          sends(300, 404, { "content-type": "application/json" }, sent)(request, response)
        })
        const measured = yield* growth(Effect.zip(Effect.flatMap(get("/x"), textOf), Deferred.await(hungUp)))
        assert.include(measured.result[0], `"code":"CalProtocolError"`)
        assert.isBelow(measured.growth, limit)
        assert.isBelow(sent.mebibytes, 50)
      })
    )
  )

  it(
    "does not grow with an answer of 400 MiB to a refresh, nor with that to its probe",
    live(
      Effect.gen(function* () {
        const { answer, node } = yield* Bounds
        const sent = { mebibytes: 0 }
        const asked: Array<string | undefined> = []
        yield* answer((request, response) => {
          asked.push(request.url)
          sends(400, 200, { "content-type": "application/json" }, sent)(request, response)
        })
        const measured = yield* growth(node.ask("POST", "/api/cal/ensure-token", { userUlid: expired }))
        assert.deepInclude(measured.result.body, { success: false })
        assert.deepStrictEqual(asked, ["/v2/oauth/client/refresh", "/v2/oauth/client/refresh"])
        assert.isBelow(measured.growth, limit)
        assert.isBelow(sent.mebibytes, 50)
      })
    )
  )
})

describe("a relayed answer", () => {
  it(
    "comes in the range that was asked for, or not at all if it has not changed",
    live(
      Effect.gen(function* () {
        const { answer } = yield* Bounds
        const seen: Array<Http.IncomingHttpHeaders> = []
        yield* answer((request, response) => {
          seen.push(request.headers)
          const headers = {
            etag: `"1"`,
            "accept-ranges": "bytes",
            "cache-control": "public, max-age=600",
            expires: "x"
          }
          if (request.headers["if-none-match"] !== undefined) return void response.writeHead(304, headers).end()
          if (request.headers.range !== undefined) {
            return void response.writeHead(206, { ...headers, "content-range": "bytes 2-4/10" }).end("234")
          }
          response.writeHead(200, { ...headers, "content-length": 10, "content-type": "text/x" }).end("0123456789")
        })
        const shown = ({ headers, status }: Got) => [
          status,
          ...["etag", "accept-ranges", "content-range", "content-length", "cache-control", "expires"].map(
            (name) => headers[name]
          )
        ]
        const whole = yield* get("/x")
        assert.deepStrictEqual(shown(whole), [200, `"1"`, "bytes", undefined, "10", "no-store", undefined])
        assert.strictEqual(yield* textOf(whole), "0123456789")
        const part = yield* get("/x", { range: "bytes=2-4", "if-range": `"1"` })
        assert.deepStrictEqual(shown(part).slice(0, 4), [206, `"1"`, "bytes", "bytes 2-4/10"])
        assert.strictEqual(yield* textOf(part), "234")
        const same = yield* get("/x", { "if-none-match": `"1"` })
        assert.deepStrictEqual(shown(same), [304, `"1"`, "bytes", undefined, undefined, "no-store", undefined])
        assert.deepStrictEqual([same.headers["content-type"], yield* textOf(same)], [undefined, ""])
        const head = yield* get("/x", {}, "HEAD")
        assert.deepStrictEqual(shown(head), [200, `"1"`, "bytes", undefined, "10", "no-store", undefined])
        assert.strictEqual(head.headers["content-type"], "text/x")
        assert.deepStrictEqual(
          seen.map((headers) => [headers.range, headers["if-range"], headers["if-none-match"]]),
          [
            [undefined, undefined, undefined],
            ["bytes=2-4", `"1"`, undefined],
            [undefined, undefined, `"1"`],
            [undefined, undefined, undefined]
          ]
        )
      })
    )
  )

  it(
    "of events is told event by event, and ends at Cal.com when its caller hangs up",
    live(
      Effect.gen(function* () {
        const { answer } = yield* Bounds
        const hungUp = yield* Deferred.make<void>()
        const responses: Array<Http.ServerResponse> = []
        yield* answer((_, response) => {
          responses.push(response)
          response.once("close", () => Deferred.unsafeDone(hungUp, Effect.void))
          response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" }).flushHeaders()
        })
        yield* Effect.scoped(
          Effect.gen(function* () {
            // Before there is any event.
            const got = yield* get("/events")
            assert.deepStrictEqual([got.status, got.headers["x-accel-buffering"]], [200, "no"])
            for (const event of ["data: 1\n\n", "data: 2\n\n"]) {
              const told = yield* Effect.fork(next(got))
              responses[0]?.write(event)
              assert.strictEqual(yield* Fiber.join(told), event)
            }
            assert.isFalse(yield* Deferred.isDone(hungUp))
          })
        )
        yield* Effect.timeout(Deferred.await(hungUp), "10 seconds")
      })
    )
  )

  it(
    "that nobody reads any more ends at Cal.com",
    live(
      Effect.gen(function* () {
        const { answer } = yield* Bounds
        const hungUp = yield* Deferred.make<void>()
        yield* answer((request, response) => {
          response.once("close", () => Deferred.unsafeDone(hungUp, Effect.void))
          sends(200)(request, response)
        })
        yield* Effect.scoped(Effect.flatMap(get("/recordings/1"), next))
        yield* Effect.timeout(Deferred.await(hungUp), "10 seconds")
      })
    )
  )

  it(
    "that breaks off at Cal.com is no whole one, with a length or without",
    live(
      Effect.gen(function* () {
        const { answer, node } = yield* Bounds
        for (const headers of [{ "content-length": 1000 }, {}, { "content-type": "text/event-stream" }]) {
          yield* answer((_, response) => {
            response.writeHead(200, headers).write("half", () => void response.destroy())
          })
          const got = yield* get("/x")
          assert.deepStrictEqual([got.status, yield* drained(got)], [200, { length: 4, isWhole: false }])
        }
        const cut = node
          .output()
          .split("\n")
          .find((line) => line.includes("Cal.com's answer was cut: it broke off"))
        // Of which request, is told when its answer is long on its way, too.
        assert.match(cut ?? "", /"requestId":"[0-9a-f-]{36}"/)
        assert.notInclude(node.output(), "Unexpected fault")
      })
    )
  )

  it(
    "of events does not keep a process from stopping",
    live(
      Effect.gen(function* () {
        const { answer, node } = yield* Bounds
        yield* answer((_, response) => {
          response.writeHead(200, { "content-type": "text/event-stream" }).write("data: 1\n\n")
        })
        const got = yield* get("/events")
        const end = yield* Effect.fork(drained(got))
        yield* node.kill("SIGTERM")
        assert.deepStrictEqual(yield* Effect.timeout(Fiber.join(end), "10 seconds"), { length: 9, isWhole: true })
        assert.deepInclude(yield* Effect.timeout(node.exit, "10 seconds"), { signal: null })
      })
    )
  )
})
