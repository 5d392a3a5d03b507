/** A short answer of which Cal.com tells the length: read whole where it can be, and else handed on as far as it came. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Ref, TestClock } from "effect"
import { Fake, keys, layer, raw, userUlid } from "../support/HttpFakes.js"

const path = `/api/cal/proxy/${userUlid}/me`
const get = `GET ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${keys.proxy}\r\nConnection: close\r\n\r\n`

const answer = (make: () => Response) => Effect.flatMap(Fake, (fake) => Ref.set(fake.answer, make))

const untilSleeping = Effect.promise(() => new Promise((resolve) => setImmediate(resolve))).pipe(Effect.repeatN(50))

const piece = new TextEncoder().encode("half")

describe("a short answer with a length", () => {
  it.effect("is not cut where it is only slow", () =>
    Effect.gen(function* () {
      const body = yield* Deferred.make<ReadableStreamDefaultController<Uint8Array>>()
      yield* answer(
        () =>
          new Response(new ReadableStream({ start: (it) => Deferred.unsafeDone(body, Effect.succeed(it)) }), {
            headers: { "content-length": "12" }
          })
      )
      const fiber = yield* Effect.fork(raw(get))
      const controller = yield* Deferred.await(body)
      for (const seconds of [40, 40, 0]) {
        // Nobody takes it any more once the answer was cut.
        yield* Effect.ignore(Effect.try(() => controller.enqueue(piece)))
        yield* untilSleeping
        yield* TestClock.adjust(Duration.seconds(seconds))
      }
      yield* Effect.ignore(Effect.try(() => controller.close()))
      const text = yield* Fiber.join(fiber)
      const { logs } = yield* Fake
      assert.deepStrictEqual(
        logs.map(({ message }) => message),
        []
      )
      assert.match(text, /^HTTP\/1\.1 200 [^]*halfhalfhalf$/)
    }).pipe(Effect.provide(layer))
  )

  it.effect("that breaks off has the headers of every answer", () =>
    Effect.gen(function* () {
      for (const headers of [{}, { "content-length": "12" }]) {
        let pulls = 0
        yield* answer(
          () =>
            new Response(
              new ReadableStream({
                pull: async (it) => {
                  if (pulls++ === 0) return it.enqueue(piece)
                  for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve))
                  it.error(new Error("SECRET"))
                }
              }),
              { headers }
            )
        )
        const text = yield* raw(get)
        assert.match(text, /^HTTP\/1\.1 200 [^]*half/)
        const missing = ["x-request-id:", "cache-control: no-store", "x-content-type-options: nosniff"].filter(
          (header) => !text.toLowerCase().includes(header)
        )
        assert.deepStrictEqual([headers, missing], [headers, []])
      }
    }).pipe(Effect.provide(layer))
  )
})
