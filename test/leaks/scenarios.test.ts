/** No token and no secret is seen anywhere, whatever Cal.com, the network, the storage or the caller does. */
import { HttpClientRequest } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted, Ref, Schema, TestClock } from "effect"
import { CalApi } from "../../src/CalApi.js"
import { CalClient } from "../../src/CalClient.js"
import { CalTokens } from "../../src/CalTokens.js"
import * as Sandbox from "../../src/Sandbox.js"
import type { TokenError } from "../../src/TokenError.js"
import { errorOf, type Interference, LeakWorld, type Outage, type Services, watch } from "../support/LeakWorld.js"
import * as World from "../support/World.js"

const user = World.user()
const kinds = ["managed", "oauth2"] as const
type Kind = (typeof kinds)[number]

const connect = (
  kind: Kind,
  userUlid = user
): Effect.Effect<Sandbox.ManagedGrant | Sandbox.OAuth2Grant, TokenError, CalTokens | Sandbox.Sandbox> =>
  kind === "managed" ? World.connectManaged(userUlid) : World.connectOAuth2(userUlid)

const refreshKind = { managed: "refresh", oauth2: "oauth2Refresh" } as const

/** One that only the act can tell about: nothing of it may come back. */
const bad = "eyJub3QtYS10b2tlbi1idXQtYS1zZWNyZXQ"

const faults: Readonly<
  Record<
    string,
    (script: {
      readonly kind: "refresh" | "forceRefresh" | "oauth2Refresh" | "oauth2Code" | "createManaged" | "api"
    }) => Sandbox.Fault
  >
> = {
  "a refused connection": (script) => Sandbox.Fault.refuseConnection(script),
  "a connection that drops before": (script) => Sandbox.Fault.dropBefore(script),
  "a connection that drops after": (script) => Sandbox.Fault.dropAfter(script),
  "an answer that comes too late": (script) => Sandbox.Fault.delayAfter("12 seconds", script),
  "a request that arrives too late": (script) => Sandbox.Fault.delayBefore("12 seconds", script),
  "a status 429": (script) => Sandbox.Fault.status(429, script),
  "a status 500": (script) => Sandbox.Fault.status(500, script),
  "a status 500 after it was done": (script) => Sandbox.Fault.status(500, { ...script, committed: true }),
  "a status 502": (script) => Sandbox.Fault.status(502, script),
  "a status 503": (script) => Sandbox.Fault.status(503, script),
  "a status 504": (script) => Sandbox.Fault.status(504, script),
  "a status 418": (script) => Sandbox.Fault.status(418, script),
  garbage: (script) => Sandbox.Fault.garbage(script),
  "a web page": (script) => Sandbox.Fault.html(script),
  "an answer that breaks off": (script) => Sandbox.Fault.truncated(script)
}

/** Answers of something that means us ill, or does not know better: all of them quote what they know. */
const answers: Readonly<Record<string, Interference>> = {
  "a validation error that echoes the body": ({ body, url }) =>
    Response.json(
      {
        status: "error",
        timestamp: "2026-01-15T12:00:00.000Z",
        path: url,
        error: {
          code: "BadRequestException",
          message: "Bad Request Exception",
          details: {
            message: "Bad Request Exception",
            errors: [
              {
                target: JSON.parse(body.startsWith("{") ? body : "{}") as unknown,
                value: body,
                property: "refreshToken",
                children: [],
                constraints: { isString: `refreshToken ${body} must be a string` }
              }
            ]
          }
        }
      },
      { status: 400 }
    ),
  "a refusal that quotes all of the request": ({ authorization, body, secretKey, url }) =>
    Response.json(
      { status: "error", error: { code: "X", message: `${url} ${authorization} ${secretKey} ${body}`, details: body } },
      { status: 403 }
    ),
  "an invalid refresh token, quoted": ({ body }) =>
    Response.json({ status: "error", error: { code: "X", message: `Invalid refresh token ${body}` } }, { status: 400 }),
  "an OAuth2 error that quotes the form": ({ body }) =>
    Response.json({ error: "invalid_grant", error_description: `refresh_token_revoked ${body}` }, { status: 400 }),
  "an OAuth2 error whose code is a quotation": ({ body }) =>
    Response.json({ error: body, error_description: body }, { status: 401 }),
  "a status 500 with a stack trace of the request": ({ authorization, body, secretKey }) =>
    new Response(`Error: ${authorization} ${secretKey} ${body}`, { status: 500 }),
  "a redirect that takes the token along": ({ authorization, body }) =>
    new Response(null, {
      status: 302,
      headers: { location: `https://elsewhere.example/?${encodeURIComponent(`${authorization}${body}`)}` }
    }),
  "headers that quote": ({ authorization, body }) =>
    Response.json({}, { status: 401, headers: { "retry-after": encodeURI(body), "www-authenticate": authorization } }),
  "tokens of another shape": ({ body }) =>
    Response.json({
      status: "success",
      data: { access_token: body, refreshToken: [body], accessTokenExpiresAt: body }
    }),
  "tokens with blanks": ({ body }) =>
    Response.json({
      access_token: `${body} x`,
      refresh_token: `${body} x`,
      expires_in: 1800,
      data: { accessToken: `${body} x`, refreshToken: `${body} x`, accessTokenExpiresAt: World.epoch + 3_600_000 }
    }),
  "tokens as names of fields": ({ authorization, body }) =>
    Response.json({ status: "success", data: { [authorization]: authorization, [body]: { [body]: body } } }),
  "tokens where JSON breaks": ({ body }) => new Response(`{"data":{"accessToken":"${body}`, { status: 200 }),
  "a client that dies with the request in its hands": ({ authorization, body, secretKey }) =>
    Object.assign(new Error(`${authorization} ${secretKey} ${body}`), { cause: { body, authorization } })
}

const scenario = (name: string, effect: Effect.Effect<void, unknown, Services>, except: ReadonlyArray<string> = []) =>
  it.effect(
    name,
    () =>
      Effect.map(Effect.zipRight(World.quicken, watch(effect, { except })), (seen) => {
        for (const channel of ["log.json", "span.name", "changes", "revalidation", "calls", "info"]) {
          assert.isAbove(seen.get(channel) ?? 0, 0, channel)
        }
      }),
    60_000
  )

/** Uses an expired token, and again after a while: the failure, what is remembered of it, and the recovery. */
const useExpired = (kind: Kind) =>
  Effect.gen(function* () {
    const { act } = yield* LeakWorld
    const tokens = yield* CalTokens
    yield* TestClock.adjust("61 minutes")
    yield* act("the first use", tokens.ensureValid(user))
    yield* act("the use that follows", tokens.ensureValid(user))
    yield* TestClock.adjust("2 minutes")
    yield* act("the use much later", tokens.ensureValid(user))
    yield* act("a forced refresh", tokens.refresh(user, { forceRefresh: true }))
    if (kind === "managed") yield* act("a reissue", tokens.refresh(user, { reissue: true }))
  })

describe("nothing is seen of a token", () => {
  for (const kind of kinds) {
    scenario(
      `in the life of a connection (${kind})`,
      Effect.gen(function* () {
        const { act } = yield* LeakWorld
        const tokens = yield* CalTokens
        const sandbox = yield* Sandbox.Sandbox
        yield* act("connecting", connect(kind))
        yield* act("a use", tokens.ensureValid(user))
        yield* TestClock.adjust(kind === "managed" ? "56 minutes" : "26 minutes")
        yield* act("a use soon before the expiry", tokens.ensureValid(user))
        yield* act("a refresh", tokens.refresh(user))
        for (const n of [1, 2, 3, 4]) yield* act(`forced refresh ${n}`, tokens.refresh(user, { forceRefresh: true }))
        yield* act("a reissue", tokens.refresh(user, { reissue: true }))
        yield* TestClock.adjust("61 minutes")
        yield* act(
          "fifty uses after the expiry",
          Effect.all(
            Array.from({ length: 50 }, () => tokens.ensureValid(user)),
            { concurrency: "unbounded" }
          )
        )
        const grant = yield* kind === "managed"
          ? sandbox.grantManaged({ email: `${user.toLowerCase()}@example.com` })
          : Effect.map(sandbox.grantOAuth2({ email: `${user.toLowerCase()}@example.com` }), (grant) => ({
              ...grant,
              accessTokenExpiresAt: World.epoch + 9_000_000
            }))
        yield* act("an update", tokens.update(user, grant))
        yield* act("a disconnect", tokens.disconnect(user))
        yield* act("another disconnect", tokens.disconnect(user))
        yield* act("a use of nobody", tokens.ensureValid(user))
      })
    )

    for (const [name, fault] of Object.entries(faults)) {
      scenario(
        `when a refresh meets ${name} (${kind})`,
        Effect.gen(function* () {
          const sandbox = yield* Sandbox.Sandbox
          yield* connect(kind)
          yield* sandbox.inject(fault({ kind: refreshKind[kind] }))
          yield* sandbox.inject(fault({ kind: "forceRefresh" }))
          yield* useExpired(kind)
        })
      )
    }

    for (const [name, answer] of Object.entries(answers)) {
      scenario(
        `when a refresh is answered with ${name} (${kind})`,
        Effect.gen(function* () {
          const { act, interfere } = yield* LeakWorld
          const tokens = yield* CalTokens
          const api = yield* CalApi
          yield* connect(kind)
          yield* interfere(answer)
          yield* useExpired(kind)
          yield* interfere(() => undefined)
          yield* TestClock.adjust("2 minutes")
          yield* act("a use after it", tokens.ensureValid(user))
          yield* interfere(answer)
          const schema = Schema.Struct({ data: Schema.Struct({ id: Schema.Int }) })
          yield* act("an API request", api.request(user, { path: "/me", schema }))
          const names = Schema.Struct({ data: Schema.Record({ key: Schema.String, value: Schema.Int }) })
          yield* act("an API request for anything", api.request(user, { path: "/me", schema: names }))
          yield* act(
            "an API request with a body",
            api.request(user, { method: "POST", path: "/bookings?secret=1", body: { a: 1 }, schema })
          )
        })
      )
    }

    scenario(
      `when Cal.com refuses the user or the client (${kind})`,
      Effect.gen(function* () {
        const { act } = yield* LeakWorld
        const tokens = yield* CalTokens
        const sandbox = yield* Sandbox.Sandbox
        const { calUserId } = yield* connect(kind)
        yield* Ref.update(sandbox.switches, (switches) => ({
          ...switches,
          managedSecretRejected: true,
          oauth2SecretRejected: true
        }))
        yield* useExpired(kind)
        yield* Ref.update(sandbox.switches, (switches) => ({
          ...switches,
          managedSecretRejected: false,
          oauth2SecretRejected: false,
          oauth2ClientStatus: "PENDING" as const
        }))
        yield* useExpired(kind)
        yield* Ref.update(sandbox.switches, (switches) => ({ ...switches, oauth2ClientStatus: "APPROVED" as const }))
        yield* sandbox.revokeRefreshTokens(calUserId)
        yield* useExpired(kind)
        yield* sandbox.deleteUser(calUserId)
        yield* useExpired(kind)
        yield* act("info", tokens.info(user))
      })
    )

    scenario(
      `when Cal.com rejects access tokens (${kind})`,
      Effect.gen(function* () {
        const { act } = yield* LeakWorld
        const tokens = yield* CalTokens
        const { accessToken } = yield* connect(kind)
        for (const status of [401, 403, 498]) {
          yield* act(`a rejection with ${status}`, tokens.reportRejected(user, { accessToken, status }))
          yield* TestClock.adjust("1 minute")
          const { accessToken: current } = yield* tokens.ensureValid(user)
          yield* act(`another with ${status}`, tokens.reportRejected(user, { accessToken: current, status }))
          yield* act(`a third with ${status}`, tokens.reportRejected(user, { accessToken: current, status }))
        }
        yield* act("a rejection of nobody's", tokens.reportRejected(World.user(2), { accessToken, status: 401 }))
      })
    )

    scenario(
      `when Cal.com's API quotes the token (${kind})`,
      Effect.gen(function* () {
        const { act, interfere } = yield* LeakWorld
        const api = yield* CalApi
        const sandbox = yield* Sandbox.Sandbox
        const grant = yield* connect(kind)
        const bookings = HttpClientRequest.get("/bookings")
        const schema = Schema.Struct({ data: Schema.Array(Schema.Struct({ id: Schema.Never })) })
        yield* act("a good request", api.client(user).execute(HttpClientRequest.get("/me")))
        // Every token is dead from here on, and every new one dies at once.
        yield* sandbox.deleteUser(grant.calUserId)
        yield* act("a dead token", api.request(user, { path: "/bookings", schema }))
        yield* act("a dead token through the client", api.client(user).execute(bookings))
        yield* act("a dead token for an edge", api.send(user, { method: "GET", path: "/bookings" }))
        const token = Redacted.value(grant.accessToken)
        yield* interfere(() => new Response(`Cannot GET /v2/bookings/${token}`, { status: 404 }))
        yield* act("a token in the path", api.request(user, { path: `/bookings/${token}`, schema }))
        yield* act("a token in the query", api.request(user, { path: `/bookings?t=${token}`, schema }))
        yield* act("a token where none may be", api.request(user, { path: `//${token}@x`, schema }))
        yield* act("a request of nobody", api.request(undefined, { path: "/me", schema }))
      })
    )

    const outages: ReadonlyArray<Outage> = ["fails", "fails after it was done"]
    for (const outage of outages) {
      scenario(
        `when the storage ${outage} (${kind})`,
        Effect.gen(function* () {
          const world = yield* LeakWorld
          const tokens = yield* CalTokens
          yield* connect(kind)
          for (const operation of ["find", "claim", "spend", "commit", "fail"] as const) {
            yield* world.outage(outage, operation)
            yield* TestClock.adjust("61 minutes")
            yield* world.act(`a use while ${operation} ${outage}`, tokens.ensureValid(user))
            yield* world.noOutage
            yield* TestClock.adjust("2 minutes")
            yield* world.act("a use after it", tokens.ensureValid(user))
          }
          yield* world.outage(outage, "connect", "update", "disconnect")
          yield* world.act("connecting", connect(kind, World.user(2)))
          yield* world.act("disconnecting", tokens.disconnect(user))
        })
      )
    }
  }

  for (const outage of ["dies", "fails and shows the row"] as const) {
    scenario(
      `by the service when the storage ${outage} against its contract`,
      Effect.gen(function* () {
        const world = yield* LeakWorld
        const tokens = yield* CalTokens
        yield* World.connectManaged()
        for (const operation of ["find", "claim", "spend", "commit", "fail"] as const) {
          yield* world.outage(outage, operation)
          yield* TestClock.adjust("61 minutes")
          yield* world.actUnseen(tokens.ensureValid(user))
          yield* world.noOutage
          yield* TestClock.adjust("2 minutes")
          yield* world.act("a use after it", tokens.ensureValid(user))
        }
        yield* world.outage(outage, "connect", "update", "disconnect")
        yield* world.actUnseen(World.connectOAuth2(World.user(2)))
        yield* world.actUnseen(tokens.disconnect(user))
      }),
      // Spans end with the very error, of which exporters tell the message.
      ["span.failure"]
    )
  }

  for (const [name, fault] of Object.entries(faults)) {
    scenario(
      `when a code, a new user or a profile meets ${name}`,
      Effect.gen(function* () {
        const { act, witness } = yield* LeakWorld
        const client = yield* CalClient
        const sandbox = yield* Sandbox.Sandbox
        const { accessToken } = yield* World.connectManaged()
        const exchange = Effect.gen(function* () {
          const code = yield* sandbox.authorizationCode({ email: "code@example.com" })
          witness.secrets.add("code", code)
          const codeVerifier = Redacted.make("verifier-0123456789-abcdefghijklmnopqrstuvwxyz")
          witness.secrets.add("verifier", Redacted.value(codeVerifier))
          return yield* client.exchange({ code: Redacted.make(code), codeVerifier })
        })
        const newcomer = { email: "new@example.com", name: "New" }
        for (const n of [1, 2]) {
          yield* act(`exchange ${n}`, exchange)
          yield* act(`creation ${n}`, client.createManagedUser(newcomer))
          yield* act(`profile ${n}`, client.me(accessToken))
          if (n > 1) break
          for (const kind of ["oauth2Code", "createManaged", "api"] as const) yield* sandbox.inject(fault({ kind }))
        }
        yield* act("a code that is none", client.exchange({ code: Redacted.make(bad) }))
        witness.secrets.add("code", bad)
      })
    )
  }

  for (const [name, answer] of Object.entries(answers)) {
    scenario(
      `when a code, a new user or a profile is answered with ${name}`,
      Effect.gen(function* () {
        const { act, interfere, witness } = yield* LeakWorld
        const client = yield* CalClient
        const sandbox = yield* Sandbox.Sandbox
        const { accessToken } = yield* World.connectManaged()
        const code = yield* sandbox.authorizationCode({ email: "code@example.com" })
        witness.secrets.add("code", code)
        yield* interfere(answer)
        yield* act("an exchange", client.exchange({ code: Redacted.make(code) }))
        yield* act("a creation", client.createManagedUser({ email: "new@example.com", name: "New" }))
        yield* act("a profile", client.me(accessToken))
      })
    )
  }

  scenario(
    "when it is handed in wrong",
    Effect.gen(function* () {
      const { act, witness } = yield* LeakWorld
      const tokens = yield* CalTokens
      const sandbox = yield* Sandbox.Sandbox
      const grant = yield* World.connectManaged()
      const other = yield* sandbox.grantManaged({ email: "other@example.com" })
      witness.secrets.add("bad token", bad)
      const wrong: ReadonlyArray<object> = [
        { accessToken: `${bad} ` },
        { refreshToken: `${bad}\r\n` },
        { accessToken: "" },
        { accessToken: { token: bad } },
        { refreshToken: [bad] },
        { accessTokenExpiresAt: bad },
        { accessTokenExpiresAt: grant.accessTokenExpiresAt / 1000 },
        { refreshTokenExpiresAt: `${bad}Z` }
      ]
      const managed = { _tag: "ManagedUser", calUserId: grant.calUserId } as const
      for (const [n, change] of wrong.entries()) {
        yield* act(`connect ${n}`, tokens.connect(user, managed, { ...grant, ...change }))
        yield* act(`update ${n}`, tokens.update(user, { ...grant, ...change }))
      }
      yield* act("an update with another's", tokens.update(user, other))
      yield* act("a connection with another's", tokens.connect(user, managed, other))
      yield* act("an account in use", tokens.connect(World.user(2), managed, grant))
      yield* act("an account taken over", tokens.connect(World.user(2), managed, grant, { replace: true }))
      yield* act("an update of nobody", tokens.update(user, grant))
      yield* act("a client of another kind", tokens.connect(user, { ...managed, clientId: "other" }, grant))
    })
  )

  it.effect("when the program stops with a pair that could not be stored", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(
        watch(
          Effect.gen(function* () {
            const world = yield* LeakWorld
            const tokens = yield* CalTokens
            yield* World.connectManaged()
            yield* TestClock.adjust("61 minutes")
            yield* world.outage("fails", "commit")
            const used = yield* world.act("a use", tokens.ensureValid(user))
            assert.strictEqual(errorOf(used)._tag, "None")
            // The end of the scope waits on this clock.
            yield* Effect.forkDaemon(Effect.forever(Effect.zipRight(Effect.yieldNow(), TestClock.adjust(1000))))
          })
        )
      )
      assert.isTrue(exit._tag === "Failure" && /unstored tokens/.test(JSON.stringify(exit.cause)))
    })
  )
})
