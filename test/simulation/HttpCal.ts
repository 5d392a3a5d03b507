/**
 * Cal.com at full length: `CalClient` makes HTTP requests, the sandbox answers them. Between the two is the same line as
 * in short, with the same mishaps.
 */
import {
  HttpClient,
  HttpClientError,
  HttpClientRequest,
  type HttpClientResponse,
  HttpServerRequest,
  HttpServerResponse
} from "@effect/platform"
import { Effect, Exit, Redacted, Ref } from "effect"
import * as CalClient from "../../src/CalClient.js"
import * as Sandbox from "../../src/Sandbox.js"
import * as InProcess from "../../src/Sandbox/InProcess.js"
import * as Wire from "../../src/Sandbox/Wire.js"
import { hash, unverifiedClaims } from "../../src/Token.js"
import { type Authorised, type Cal, exchange, watched } from "./Cal.js"
import type { CalFault } from "./Plan.js"
import type { Grant } from "./Oracle.js"
import type { World } from "./World.js"

const apiUrl = "https://api.cal.com/v2"

const clientOptions: CalClient.Options = {
  apiUrl,
  managed: Sandbox.demoManaged,
  oauth2: {
    clientId: Sandbox.demoOAuth2.clientId,
    clientSecret: Sandbox.demoOAuth2.clientSecret,
    redirectUrl: Sandbox.demoOAuth2.redirectUris[0]
  }
}

export const make = (world: World, patience: number): Cal => {
  const { driver, oracle, plan } = world
  const now = <A, E>(effect: Effect.Effect<A, E>): A => {
    const exit = world.runSync(effect)
    if (Exit.isFailure(exit)) throw new Error("the sandbox failed")
    return exit.value
  }
  const sandbox = now(
    Sandbox.make({
      accessTokenLifetime: plan.lifetime,
      switches: {
        raceWindow: plan.raceWindow,
        rateLimits: { ...Sandbox.defaultSwitches.rateLimits, enabled: false }
      }
    })
  )
  const calCom = InProcess.make(sandbox.app)
  const kinds = new Map<number, "managed" | "oauth2">()

  const grantOf = (accessToken: string, refreshToken: string, expiresAt: number): Grant => {
    const account = unverifiedClaims(Redacted.make(accessToken)).calUserId ?? 0
    const grant = oracle.granted({
      refreshToken,
      accessToken,
      hash: hash(Redacted.make(refreshToken)),
      account,
      // An OAuth2 token carries whole seconds.
      expiresAt: kinds.get(account) === "managed" ? expiresAt : Math.floor(driver.now / 1000) * 1000 + plan.lifetime
    })
    world.note("Cal.com", `grants ${grant.name}`)
    return grant
  }

  /** The pair in an answer, if there is one. */
  const granted = (body: string): Grant | undefined => {
    const json: unknown = JSON.parse(body)
    const pair = (isRecord(json) && isRecord(json["data"]) ? json["data"] : json) as Record<string, unknown>
    const access = pair["accessToken"] ?? pair["access_token"]
    const refresh = pair["refreshToken"] ?? pair["refresh_token"]
    return typeof access === "string" && typeof refresh === "string"
      ? grantOf(access, refresh, Number(pair["accessTokenExpiresAt"] ?? 0))
      : undefined
  }

  /** What arrives in place of Cal.com's own answer, and whether Cal.com did its work nevertheless. */
  const instead = (fault: CalFault | undefined) => {
    const date = new Date(driver.now).toUTCString()
    const failed = (status: number, commits: boolean) => ({
      commits,
      response: HttpServerResponse.text("<h1>not now</h1>", { status, headers: { date } })
    })
    switch (fault) {
      case "status429":
        return failed(429, false)
      case "status500":
        return failed(500, false)
      case "status503":
        return failed(503, false)
      case "status500Committed":
        return failed(500, true)
      case "garbage":
        return { commits: true, response: HttpServerResponse.text('{"status":', { headers: { date } }) }
      case "truncated":
        return {
          commits: true,
          response: HttpServerResponse.text('{"status":"success","data":{', { headers: { date } })
        }
      case undefined:
      case "refused":
      case "dropBefore":
      case "dropAfter":
      case "silentBefore":
      case "silentAfter":
      case "slowBefore":
      case "slowAfter":
        return undefined
    }
  }

  const authorise = (account: number): Authorised => {
    const grant =
      kinds.get(account) === "managed"
        ? now(
            Effect.map(
              sandbox.grantManaged({ calUserId: account }),
              ({ accessToken, accessTokenExpiresAt, refreshToken }) =>
                grantOf(Redacted.value(accessToken), Redacted.value(refreshToken), accessTokenExpiresAt)
            )
          )
        : now(
            Effect.map(sandbox.grantOAuth2({ calUserId: account }), ({ accessToken, refreshToken }) =>
              grantOf(Redacted.value(accessToken), Redacted.value(refreshToken), 0)
            )
          )
    return { grant, accessToken: grant.accessToken, refreshToken: grant.refreshToken, expiresAt: grant.expiresAt }
  }

  return {
    createAccount: (kind) => {
      const { calUserId } = kind === "managed" ? now(sandbox.grantManaged()) : now(sandbox.grantOAuth2())
      now(sandbox.revokeRefreshTokens(calUserId))
      kinds.set(calUserId, kind)
      return calUserId
    },
    authorise,
    isLive: (token) => now(sandbox.isLive(token)),
    respond: (request) => Effect.orDie(calCom.execute(request)),
    api: (token) =>
      now(calCom.execute(HttpClientRequest.get(`${apiUrl}/me`).pipe(HttpClientRequest.bearerToken(token)))).status,
    revoke: (account) => now(sandbox.revokeRefreshTokens(account)),
    killAccess: (account) => now(sandbox.expireAccessTokens(account)),
    deleteAccount: (account) => {
      kinds.delete(account)
      now(sandbox.deleteUser(account))
    },
    hasAccount: (account) => kinds.has(account),
    setSecretRejected: (rejected) =>
      now(
        Ref.update(sandbox.switches, (switches) => ({
          ...switches,
          managedSecretRejected: rejected,
          oauth2SecretRejected: rejected
        }))
      ),
    connect: (node) => {
      const transport = (request: HttpClientRequest.HttpClientRequest, code: string) =>
        Effect.fail(
          new HttpClientError.RequestError({
            request,
            reason: "Transport",
            cause: Object.assign(new Error(code), { code })
          })
        )
      const http = HttpClient.make((request) =>
        exchange<HttpClientResponse.HttpClientResponse, HttpClientError.HttpClientError>(world, node, {
          op: request.url.includes("force-refresh") ? "reissue" : "refresh",
          patience,
          refused: transport(request, "ECONNREFUSED"),
          reset: transport(request, "ECONNRESET"),
          execute: (fault, answer) => {
            const other = instead(fault)
            if (other !== undefined && !other.commits)
              return answer(InProcess.make(Effect.succeed(other.response)).execute(request))
            world.server.fork(
              Effect.flatMap(calCom.execute(request), (response) =>
                Effect.map(response.text, (body) => ({ response, body }))
              ),
              (exit) => {
                if (Exit.isFailure(exit)) return answer(Effect.failCause(exit.cause))
                const { body, response } = exit.value
                const grant = response.status === 200 ? granted(body) : undefined
                if (other === undefined) return answer(Effect.succeed(response), grant)
                const broken = Effect.map(HttpServerRequest.HttpServerRequest, (served) =>
                  fault === "truncated" ? Wire.truncate(served, other.response) : other.response
                )
                answer(InProcess.make(broken).execute(request), grant)
              }
            )
          }
        })
      )
      const client = now(Effect.provideService(CalClient.make(clientOptions), HttpClient.HttpClient, http))
      return watched(world, node, client)
    }
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null
