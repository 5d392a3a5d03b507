/** The client against the simulator of Cal.com: its answers, refusals and mishaps, by what they mean here. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Redacted, Ref, TestClock } from "effect"
import * as CalClient from "../../src/CalClient.js"
import * as Sandbox from "../../src/Sandbox.js"

const start = Date.UTC(2026, 2, 14, 9, 26, 0)
const options = (changes: Partial<CalClient.Options> = {}): CalClient.Options => ({
  apiUrl: "https://api.cal.com/v2",
  managed: Sandbox.demoManaged,
  oauth2: { ...Sandbox.demoOAuth2, redirectUrl: Sandbox.demoOAuth2.redirectUris[0] },
  ...changes
})
const layer = (changes: Partial<CalClient.Options> = {}, sandbox: Sandbox.Options = {}) =>
  Layer.provideMerge(
    CalClient.layer(options(changes)).pipe(Layer.provide(Sandbox.layerHttpClient)),
    Layer.unwrapEffect(Effect.as(TestClock.setTime(start), Sandbox.layer(sandbox)))
  )

const managed = (calUserId: number) =>
  ({ _tag: "ManagedUser", clientId: Sandbox.demoManaged.clientId, calUserId }) as const
const oauth2 = { _tag: "OAuth2", clientId: Sandbox.demoOAuth2.clientId } as const
const tagOf = <A>(effect: Effect.Effect<A, CalClient.CallFailure>) =>
  Effect.match(effect, { onFailure: ({ _tag, error }) => `${_tag}/${error._tag}`, onSuccess: () => "granted" })

describe("managed users of the sandbox", () => {
  it.effect("are created, found again, refreshed, reissued and lost", () =>
    Effect.gen(function* () {
      const client = yield* CalClient.CalClient
      const sandbox = yield* Sandbox.Sandbox
      const person = { email: "ada@example.com", name: "Ada", timeZone: "Europe/Rome" }
      const created = yield* client.createManagedUser(person)
      assert(created._tag === "Created")
      const { calUserId, pair } = created
      assert.deepStrictEqual(yield* client.createManagedUser(person), { _tag: "Exists", calUserId })
      assert.strictEqual((yield* client.me(pair.accessToken)).id, calUserId)

      const first = yield* client.refresh(managed(calUserId), pair.refreshToken)
      assert.strictEqual(first.calUserId, calUserId)
      assert.strictEqual(first.pair.issuedAt, start)
      assert.strictEqual(first.pair.accessTokenExpiresAt, start + 3_600_000)
      assert.strictEqual(
        yield* tagOf(client.refresh(managed(calUserId), pair.refreshToken)),
        "Rejected/CalRequestRejected"
      )

      const second = yield* client.reissue(managed(calUserId))
      assert.isTrue(yield* sandbox.isLive(second.pair.refreshToken))
      assert.isFalse(yield* sandbox.isLive(first.pair.refreshToken))

      yield* sandbox.deleteUser(calUserId)
      assert.strictEqual(yield* tagOf(client.reissue(managed(calUserId))), "UserGone/CalRequestRejected")
      assert.strictEqual(
        yield* tagOf(client.refresh(managed(calUserId), second.pair.refreshToken)),
        "Rejected/CalRequestRejected"
      )
    }).pipe(Effect.provide(layer()))
  )

  it.effect("with a wrong secret are nobody's fault", () =>
    Effect.gen(function* () {
      const client = yield* CalClient.CalClient
      const grant = yield* (yield* Sandbox.Sandbox).grantManaged()
      assert.strictEqual(
        yield* tagOf(client.refresh(managed(grant.calUserId), grant.refreshToken)),
        "ClientWide/CalClientMisconfigured"
      )
      assert.isTrue(yield* (yield* Sandbox.Sandbox).isLive(grant.refreshToken))
    }).pipe(Effect.provide(layer({ managed: { ...Sandbox.demoManaged, clientSecret: Redacted.make("wrong") } })))
  )

  it.effect("below a wrong URL too", () =>
    Effect.gen(function* () {
      const client = yield* CalClient.CalClient
      const grant = yield* (yield* Sandbox.Sandbox).grantManaged()
      assert.strictEqual(
        yield* tagOf(client.refresh(managed(grant.calUserId), grant.refreshToken)),
        "ClientWide/CalClientMisconfigured"
      )
    }).pipe(Effect.provide(layer({ apiUrl: "https://api.cal.com/v2/v3" })))
  )
})

describe("OAuth2 accounts of the sandbox", () => {
  it.effect("are exchanged, refreshed and revoked", () =>
    Effect.gen(function* () {
      const client = yield* CalClient.CalClient
      const sandbox = yield* Sandbox.Sandbox
      const code = Redacted.make(yield* sandbox.authorizationCode({ scope: "PROFILE_READ BOOKING_READ" }))
      const granted = yield* client.exchange({ code })
      assert.strictEqual(granted.pair.accessTokenExpiresAt, start + 1_800_000)
      assert.strictEqual(granted.scope, "PROFILE_READ BOOKING_READ")
      assert.isNumber(granted.calUserId)
      assert.strictEqual((yield* Effect.flip(client.exchange({ code })))._tag, "CalRequestRejected")

      const next = yield* client.refresh(oauth2, granted.pair.refreshToken)
      assert.strictEqual(next.calUserId, granted.calUserId)
      assert.strictEqual(yield* tagOf(client.refresh(oauth2, granted.pair.refreshToken)), "Rejected/CalRequestRejected")
      assert.strictEqual(yield* tagOf(client.refresh(oauth2, Redacted.make("garbage"))), "Rejected/CalRequestRejected")
      yield* sandbox.revokeRefreshTokens(granted.calUserId ?? 0)
      assert.strictEqual(yield* tagOf(client.refresh(oauth2, next.pair.refreshToken)), "Rejected/CalRequestRejected")
    }).pipe(Effect.provide(layer()))
  )

  it.effect("of a client with a wrong secret are nobody's fault", () =>
    Effect.gen(function* () {
      const client = yield* CalClient.CalClient
      const grant = yield* (yield* Sandbox.Sandbox).grantOAuth2()
      assert.strictEqual(yield* tagOf(client.refresh(oauth2, grant.refreshToken)), "ClientWide/CalClientMisconfigured")
      assert.isTrue(yield* (yield* Sandbox.Sandbox).isLive(grant.refreshToken))
    }).pipe(Effect.provide(layer({ oauth2: { clientId: oauth2.clientId, clientSecret: Redacted.make("wrong") } })))
  )
})

describe("the sandbox's clock", () => {
  it.effect("is followed when it differs from ours", () =>
    Effect.gen(function* () {
      const client = yield* CalClient.CalClient
      const sandbox = yield* Sandbox.Sandbox
      const grant = yield* sandbox.grantManaged()
      yield* Ref.update(sandbox.switches, (switches) => ({ ...switches, clockSkewMillis: 3_600_000 }))
      yield* client.me(grant.accessToken).pipe(Effect.exit)
      assert.strictEqual(yield* client.now, yield* sandbox.now)
    }).pipe(Effect.provide(layer()))
  )
})
