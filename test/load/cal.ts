/**
 * Cal.com for a fleet under load: the sandbox in a process of its own, with a port for each process of the fleet, so that
 * it knows whom it answered.
 */
import * as Http from "node:http"
import { HttpServerRequest, type HttpServerResponse } from "@effect/platform"
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Duration, Effect, Redacted, Ref, Schedule } from "effect"
import * as Sandbox from "../../src/Sandbox.js"
import { hash, unverifiedClaims } from "../../src/Token.js"
import { portOf } from "../fleet/Port.js"
import * as Prng from "../simulation/Prng.js"
import { cpu, now } from "./Instant.js"
import * as Ipc from "./Ipc.js"
import * as Mishaps from "./Mishaps.js"
import type { Answer, Kind, Pair, Spending, Truth } from "./Truth.js"

export interface CalClients {
  readonly managed: { readonly clientId: string; readonly clientSecret: string }
  readonly oauth2: { readonly clientId: string; readonly clientSecret: string }
}

export interface Options {
  readonly clients: CalClients
  readonly seed: number
  readonly slots: number
  /** Of access tokens, in ms. */
  readonly lifetime: number
  /** How long each call takes at least, in ms. */
  readonly latency: number
  /** How late late answers are, in ms. */
  readonly late: number
  /** Calls of one client in a minute, which Cal.com takes. */
  readonly perMinute: number
}

const tokenCalls: ReadonlySet<Sandbox.Kind> = new Set(["refresh", "oauth2Refresh", "forceRefresh"])

const make = (options: Options) =>
  Effect.gen(function* () {
    const { clients, late, latency, lifetime, perMinute, seed, slots } = options
    const { managed, oauth2 } = clients
    const { rateLimits } = Sandbox.defaultSwitches
    const sandbox = yield* Sandbox.make({
      managed: { clientId: managed.clientId, clientSecret: Redacted.make(managed.clientSecret) },
      oauth2: {
        clientId: oauth2.clientId,
        clientSecret: Redacted.make(oauth2.clientSecret),
        redirectUris: ["http://127.0.0.1/callback"],
        scopes: ["PROFILE_READ", "BOOKING_READ"]
      },
      accessTokenLifetime: Duration.millis(lifetime),
      switches: { rateLimits: { ...rateLimits, client: perMinute } }
    })

    const answers: Array<Answer> = []
    const spendings: Array<Spending> = []
    /** OAuth2 refresh tokens are found by a part of theirs. */
    const hashes = new Map<string, string>()
    const note = (answer: Answer, refreshToken: string) => {
      answers.push(answer)
      hashes.set(rowOf(refreshToken), answer.hash)
    }

    // -----------------------------------------------------------------------------------------------------------------
    // The fleet's calls
    // -----------------------------------------------------------------------------------------------------------------

    const prng = Prng.make(seed, "mishaps")
    let share = 0
    const serving = (slot: number) =>
      Effect.gen(function* () {
        const request = yield* HttpServerRequest.HttpServerRequest
        const begunAt = now()
        if (prng.chance(share)) yield* sandbox.inject(Mishaps.any(prng, late))
        yield* Effect.sleep(latency)
        const response = yield* sandbox.app
        const pair = request.method === "POST" ? pairOf(response) : undefined
        if (pair !== undefined) {
          const answer = { calUserId: pair.calUserId, hash: hash(Redacted.make(pair.refreshToken)), slot }
          note({ ...answer, begunAt, at: now(), expiresAt: pair.accessTokenExpiresAt }, pair.refreshToken)
        }
        return response
        // Cal.com goes on when its caller dies.
      }).pipe(Effect.uninterruptible)
    const ports = yield* Effect.forEach(Array.from({ length: slots }).keys(), (slot) =>
      Effect.flatMap(NodeHttpServer.makeHandler(serving(slot)), (handler) => portOf(Http.createServer(handler)))
    )

    /** The sandbox keeps the last calls only. */
    let last: Sandbox.Call | undefined
    let granted = 0
    const collect = Effect.map(sandbox.calls, (calls) => {
      for (const call of calls.slice(last === undefined ? 0 : calls.lastIndexOf(last) + 1)) {
        last = call
        if (!tokenCalls.has(call.kind)) continue
        const { at, calUserId, fault, issuedRefreshTokenHash: issued, refreshTokenHash: presented } = call
        spendings.push({ at, calUserId, presented, issued, fault })
        if (issued !== undefined) granted++
      }
    })
    yield* Effect.forkScoped(Effect.repeat(collect, Schedule.spaced("200 millis")))

    // -----------------------------------------------------------------------------------------------------------------
    // What is done to users from outside
    // -----------------------------------------------------------------------------------------------------------------

    const skew = (millis: number) =>
      Ref.update(sandbox.switches, (switches) => ({ ...switches, clockSkewMillis: millis }))

    /** A pair that was granted `age` ms ago, of somebody new or of this user. */
    const grant = (kind: Kind, age: number, calUserId?: number): Effect.Effect<Pair> =>
      Effect.gen(function* () {
        // Granting takes no time, so nobody else sees this clock.
        yield* skew(-age)
        const at = yield* sandbox.now
        const granted: Effect.Effect<Sandbox.ManagedGrant | Sandbox.OAuth2Grant> =
          kind === "managed" ? sandbox.grantManaged({ calUserId }) : sandbox.grantOAuth2({ calUserId })
        const pair = yield* Effect.zipLeft(granted, skew(0))
        // The claims of OAuth2 tokens are in whole seconds.
        const issuedAt = kind === "managed" ? at : Math.floor(at / 1000) * 1000
        const given = {
          calUserId: pair.calUserId,
          accessToken: Redacted.value(pair.accessToken),
          refreshToken: Redacted.value(pair.refreshToken),
          issuedAt,
          accessTokenExpiresAt: issuedAt + lifetime
        }
        const answer = { calUserId: pair.calUserId, hash: hash(pair.refreshToken), slot: undefined }
        note({ ...answer, begunAt: at, at, expiresAt: given.accessTokenExpiresAt }, given.refreshToken)
        return given
      })

    const truth: Effect.Effect<Truth> = Effect.gen(function* () {
      yield* collect
      const { oauth2RefreshTokens, refreshTokens } = yield* sandbox.snapshot
      const live = [...refreshTokens, ...oauth2RefreshTokens].map(({ token, userId }) => ({
        calUserId: userId,
        hash: hashes.get(token)
      }))
      return {
        answers,
        spendings,
        live: live.flatMap(({ calUserId, hash }) => (hash === undefined ? [] : [{ calUserId, hash }])),
        unknownToAll: live.filter(({ hash }) => hash === undefined).length
      }
    })

    return {
      ports: () => Effect.succeed(ports),
      /** People who were never here, by the ages of their pairs in ms. */
      grant: (people: ReadonlyArray<{ readonly kind: Kind; readonly age: number }>) =>
        Effect.forEach(people, ({ age, kind }) => grant(kind, age)),
      /** Somebody who consents anew. */
      renew: ({ calUserId, kind }: { readonly calUserId: number; readonly kind: Kind }) => grant(kind, 0, calUserId),
      /** Both answer when it was done. */
      revoke: (calUserId: number) => Effect.map(sandbox.revokeRefreshTokens(calUserId), now),
      remove: (calUserId: number) => Effect.map(sandbox.deleteUser(calUserId), now),
      /** Which share of all calls is struck from now on. */
      strike: (share_: number) =>
        Effect.zipRight(
          Effect.sync(() => (share = share_)),
          sandbox.clearFaults
        ),
      /** Pairs that were granted to the fleet so far, and the processor time that this took, in ms. */
      counts: () => Effect.map(collect, () => ({ granted, cpu: cpu() })),
      truth: () => truth
    }
  })

/** What a table of the sandbox knows a refresh token by. */
const rowOf = (refreshToken: string): string => {
  const [, payload = ""] = refreshToken.split(".")
  const { secret } = JSON.parse(Buffer.from(payload, "base64url").toString()) as { readonly secret?: string }
  return secret ?? refreshToken
}

/** The pair in an answer, if it is one of a token endpoint's that is as it should be. */
const pairOf = ({ body, status }: HttpServerResponse.HttpServerResponse): Omit<Pair, "issuedAt"> | undefined => {
  if (status >= 300 || body._tag !== "Uint8Array") return undefined
  const text = Buffer.from(body.body).toString()
  if (!text.includes("efresh")) return undefined
  const answer = JSON.parse(text) as {
    readonly access_token?: string
    readonly refresh_token?: string
    readonly expires_in?: number
    readonly data?: {
      readonly accessToken?: string
      readonly refreshToken?: string
      readonly accessTokenExpiresAt?: number
    }
  }
  const accessToken = answer.data?.accessToken ?? answer.access_token
  const refreshToken = answer.data?.refreshToken ?? answer.refresh_token
  if (accessToken === undefined || refreshToken === undefined) return undefined
  const { calUserId, issuedAt } = unverifiedClaims(Redacted.make(accessToken))
  if (calUserId === undefined || issuedAt === undefined) throw new Error("a pair of nobody's")
  return {
    calUserId,
    accessToken,
    refreshToken,
    accessTokenExpiresAt: answer.data?.accessTokenExpiresAt ?? issuedAt + (answer.expires_in ?? 0) * 1000
  }
}

export type Functions = Effect.Effect.Success<ReturnType<typeof make>>

make(JSON.parse(process.argv[2] ?? "{}") as Options).pipe(
  Effect.map(Ipc.serve),
  Effect.zipRight(Effect.never),
  Effect.scoped,
  NodeRuntime.runMain
)
