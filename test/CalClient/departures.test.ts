/** What an operator hears of answers that depart from the contract, and what the client does with what is kept. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger, Metric, Option, Redacted, TestClock } from "effect"
import * as CalClient from "../../src/CalClient.js"
import { hash } from "../../src/Token.js"
import * as ScriptedCal from "../support/ScriptedCal.js"
import { m, now, o, refresh, stored, token, without } from "../support/TokenAnswers.js"

const managed = { _tag: "ManagedUser", clientId: "C", calUserId: 7 } as const
const nameless = { _tag: "OAuth2", clientId: "K" } as const

const layer = CalClient.layer({
  apiUrl: "https://api.cal.com/v2",
  managed: { clientId: "C", clientSecret: Redacted.make("s") },
  oauth2: { clientId: "K", clientSecret: Redacted.make("s") }
}).pipe(Layer.provideMerge(ScriptedCal.layer))

const answer = (body: unknown) =>
  Effect.flatMap(ScriptedCal.ScriptedCal, (http) =>
    http.reply({ status: 200, body, headers: { date: new Date(now).toUTCString() } })
  )

const begin = Effect.zipRight(TestClock.setTime(now), CalClient.CalClient)

/** Warnings, with the client they are about. */
const recordingWarnings = () => {
  const lines: Array<string> = []
  const logger = Logger.make(({ annotations, logLevel, message }) => {
    if (logLevel.label !== "WARN") return
    const text = Array.isArray(message) ? message.join(" ") : String(message)
    lines.push(`${JSON.stringify(Object.fromEntries(annotations))} ${text}`)
  })
  return { lines, layer: Logger.add(logger) }
}

const counted = (kind: string) =>
  Effect.map(
    Metric.value(
      Metric.counter("cal_tokens_cal_departures_total", {
        description:
          "Answers of Cal.com's token endpoints that depart from its contract and were read nevertheless, by kind.",
        incremental: true
      }).pipe(Metric.tagged("kind", kind))
    ),
    ({ count }) => count
  )

describe("a departure", () => {
  it.effect("is logged once per client and kind, and counted each time", () => {
    const warnings = recordingWarnings()
    return Effect.gen(function* () {
      const client = yield* begin
      const before = yield* counted("expiry")
      for (let i = 0; i < 3; i++) {
        yield* answer(without(o(), "expires_in"))
        yield* client.refresh(nameless, Redacted.make("sent"))
      }
      assert.strictEqual(warnings.lines.length, 1)
      assert.include(warnings.lines[0] ?? "", '{"clientId":"K","departure":"expiry"}')
      assert.strictEqual((yield* counted("expiry")) - before, 3)
      yield* answer(m({ accessTokenExpiresAt: null }))
      yield* client.refresh(managed, Redacted.make("sent"))
      assert.strictEqual(warnings.lines.length, 2)
      yield* answer({ data: without(o(), "expires_in") })
      yield* client.refresh(nameless, Redacted.make("sent"))
      assert.strictEqual(warnings.lines.length, 3)
      assert.include(warnings.lines[2] ?? "", '"departure":"wrapped"')
    }).pipe(Effect.provide(Layer.merge(layer, warnings.layer)))
  })

  it.effect("is not seen in an answer of the contract", () => {
    const warnings = recordingWarnings()
    return Effect.gen(function* () {
      const client = yield* begin
      yield* answer(o())
      assert.deepStrictEqual((yield* client.refresh(nameless, Redacted.make("sent"))).departures, [])
      yield* answer(m())
      assert.deepStrictEqual((yield* client.refresh(managed, Redacted.make("sent"))).departures, [])
      assert.deepStrictEqual(warnings.lines, [])
    }).pipe(Effect.provide(Layer.merge(layer, warnings.layer)))
  })
})

describe("what is kept of a user", () => {
  it.effect("stands beside a refresh token that comes alone, after a refresh and after a reissue", () =>
    Effect.gen(function* () {
      const client = yield* begin
      for (const call of [
        client.refresh(managed, stored.managed.refreshToken, { stored: stored.managed }),
        client.reissue(managed, { stored: stored.managed })
      ]) {
        yield* answer(m({ accessToken: null }))
        const { news, pair } = yield* call
        assert.strictEqual(news, "refreshToken")
        assert.strictEqual(pair.accessToken, stored.managed.accessToken)
        assert.strictEqual(Redacted.value(pair.refreshToken), refresh.managed)
      }
    }).pipe(Effect.provide(layer))
  )

  it.effect("names a user whom the connection does not name", () =>
    Effect.gen(function* () {
      const client = yield* begin
      const foreign = { access_token: token("oauth2", "access", { userId: 8 }), refresh_token: "opaque-refresh" }
      yield* answer(foreign)
      assert.strictEqual((yield* client.refresh(nameless, Redacted.make("sent"))).calUserId, 8)
      yield* answer(foreign)
      const call = client.refresh(nameless, Redacted.make("sent"), { stored: stored.oauth2 })
      const failure = yield* Effect.flip(call)
      assert(failure._tag === "Unreadable")
      assert.strictEqual(failure.answer.drift, "secondUser")
      assert.notInclude(JSON.stringify(failure), "opaque-refresh")
    }).pipe(Effect.provide(layer))
  )

  it.effect("is no news when it comes again", () =>
    Effect.gen(function* () {
      const client = yield* begin
      const known = [hash(Redacted.make("a-fallback"))]
      yield* answer(o({ refresh_token: "a-fallback" }))
      const grant = yield* client.refresh(nameless, Redacted.make("sent"), { known })
      assert.strictEqual(grant.news, "accessToken")
      assert.strictEqual(Redacted.value(grant.pair.refreshToken), "sent")
      assert.isUndefined(grant.unread)
    }).pipe(Effect.provide(layer))
  )
})

describe("an answer that was kept", () => {
  it.effect("is read again with what is known by then", () =>
    Effect.gen(function* () {
      const client = yield* begin
      const body = without(o(), "access_token")
      yield* answer(body)
      const failure = yield* Effect.flip(client.refresh(nameless, stored.oauth2.refreshToken))
      assert(failure._tag === "Unreadable")
      const { bytes } = failure.answer
      const known = [hash(stored.oauth2.refreshToken)]
      const grant = CalClient.readAgain(nameless, bytes, { at: now, stored: stored.oauth2, known })
      assert.strictEqual(Redacted.value(Option.getOrThrow(grant).pair.refreshToken), refresh.oauth2)
      // Still nothing can be made of it, or nothing that would be news.
      assert.isTrue(Option.isNone(CalClient.readAgain(nameless, bytes, { at: now })))
      const next = [hash(Redacted.make(refresh.oauth2))]
      assert.isTrue(
        Option.isNone(CalClient.readAgain(nameless, bytes, { at: now, stored: stored.oauth2, known: next }))
      )
      const alone = Redacted.make(new TextEncoder().encode(JSON.stringify({ access_token: "opaque-access" })))
      const sent = Redacted.make("sent")
      assert.isTrue(Option.isNone(CalClient.readAgain(nameless, alone, { at: now, sent, stored: stored.oauth2 })))
    }).pipe(Effect.provide(layer))
  )
})
