/**
 * Cal.com at full length: `CalClient` makes HTTP requests, the sandbox answers them. Between the two is the same line as
 * in short, with the same mishaps.
 */
import {
  HttpBody,
  HttpClient,
  HttpClientError,
  HttpClientRequest,
  type HttpClientResponse,
  HttpServerRequest,
  HttpServerResponse
} from "@effect/platform"
import { Effect, Exit, Redacted, Ref } from "effect"
import * as CalClient from "../../src/CalClient.js"
import { TokenHttp } from "../../src/CalHttp/HttpClients.js"
import * as Sandbox from "../../src/Sandbox.js"
import * as InProcess from "../../src/Sandbox/InProcess.js"
import * as Wire from "../../src/Sandbox/Wire.js"
import { hash, unverifiedClaims } from "../../src/Token.js"
import * as Answers from "./Answers.js"
import { type Authorised, authorised, type Cal, exchange, type Given, holdsFor, watched } from "./Cal.js"
import type { CalFault } from "./Plan.js"
import type { Grant } from "./Oracle.js"
import type { World } from "./World.js"

const apiUrl = "https://api.cal.com/v2"

/** Cal.com keeps two alive while one replaces the other. */
const secrets = [Redacted.make("the old secret"), Redacted.make("the new secret")] as const

const clientOptions = (clientSecret: CalClient.ClientSecret): CalClient.Options => ({
  apiUrl,
  managed: { ...Sandbox.demoManaged, clientSecret },
  oauth2: {
    clientId: Sandbox.demoOAuth2.clientId,
    clientSecret,
    redirectUrl: Sandbox.demoOAuth2.redirectUris[0]
  }
})

const wrong = Redacted.make("not the secret that Cal.com knows")

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
      managed: { ...Sandbox.demoManaged, clientSecret: secrets },
      oauth2: { ...Sandbox.demoOAuth2, clientSecret: secrets },
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
      expiresAt: endOf(accessToken, expiresAt)
    })
    world.note("Cal.com", `grants ${grant.name}`)
    return grant
  }

  /** The pair in an answer, if there is one. */
  const granted = (body: string, request: HttpClientRequest.HttpClientRequest): Grant | undefined => {
    const pair = fieldsOf(body)
    const access = pair["accessToken"] ?? pair["access_token"]
    const refresh = pair["refreshToken"] ?? pair["refresh_token"]
    const expiresAt = Number(pair["accessTokenExpiresAt"] ?? 0)
    if (typeof access === "string" && typeof refresh === "string") return grantOf(access, refresh, expiresAt)
    if (typeof access === "string") {
      const sent = sentToken(request)
      oracle.renewed(hash(Redacted.make(sent)), { accessToken: access, expiresAt: endOf(access, expiresAt) })
    }
    return undefined
  }

  const endOf = (accessToken: string, expiresAt: number): number =>
    kinds.get(unverifiedClaims(Redacted.make(accessToken)).calUserId ?? 0) === "managed"
      ? expiresAt
      : Math.floor(driver.now / 1000) * 1000 + plan.lifetime

  /** A live pair of somebody whom nobody here knows, in place of the one in the answer. */
  const somebodyElses = (body: string): string => {
    const { grant } = authorise(createAccount("refresh_token" in fieldsOf(body) ? "oauth2" : "managed"))
    oracle.lost(grant, "it was given to somebody else")
    const pair = fieldsOf(body)
    const access = pair["accessToken"] ?? pair["access_token"]
    const refresh = pair["refreshToken"] ?? pair["refresh_token"]
    return body.replace(String(access), grant.accessToken).replace(String(refresh), grant.refreshToken)
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
      case undefined:
      case "odd":
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
    return authorised(grant)
  }

  const createAccount = (kind: "managed" | "oauth2"): number => {
    const { calUserId } = kind === "managed" ? now(sandbox.grantManaged()) : now(sandbox.grantOAuth2())
    now(sandbox.revokeRefreshTokens(calUserId))
    kinds.set(calUserId, kind)
    return calUserId
  }

  return {
    createAccount,
    authorise,
    refreshElsewhere: (token, answer) => {
      const account = oracle.grants.get(hash(Redacted.make(token)))?.account ?? 0
      const request = kinds.get(account) === "managed" ? refreshManaged(token) : refreshOAuth2(token)
      world.server.fork(
        Effect.flatMap(calCom.execute(request), ({ status, text }) => (status === 200 ? text : Effect.succeed(""))),
        (exit) => {
          const grant = Exit.isSuccess(exit) && exit.value !== "" ? granted(exit.value, request) : undefined
          answer(grant && authorised(grant))
        }
      )
    },
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
    revokeSecret: (which) =>
      now(Ref.update(sandbox.switches, (switches) => ({ ...switches, revokedSecrets: [secrets[which]] }))),
    connect: (node) => {
      const transport = (request: HttpClientRequest.HttpClientRequest, code: string) =>
        Effect.fail(
          new HttpClientError.RequestError({
            request,
            reason: "Transport",
            cause: Object.assign(new Error(code), { code })
          })
        )
      const http = HttpClient.make((request) => {
        const op = request.url.includes("force-refresh") ? "reissue" : "refresh"
        return exchange<HttpClientResponse.HttpClientResponse, HttpClientError.HttpClientError>(world, node, {
          op,
          kind: request.url.includes("/auth/oauth2/") ? "oauth2" : "managed",
          patience,
          refused: transport(request, "ECONNREFUSED"),
          reset: transport(request, "ECONNRESET"),
          execute: (mishap, answer) => {
            const other = instead(mishap?.fault)
            const odd = mishap?.odd
            const show = (response: HttpServerResponse.HttpServerResponse, given?: Given) =>
              answer(InProcess.make(Effect.succeed(response)).execute(request), given)
            /** An odd answer travels like any other, until it is cut. */
            const showOdd = ({ bytes, isWhole, response }: Answers.Sent, given?: Given) => {
              const { contentType } = response.body
              const body = HttpBody.uint8Array(Answers.understood(bytes), contentType)
              if (isWhole) return show(node.isNewer ? HttpServerResponse.setBody(response, body) : response, given)
              const broken = Effect.map(HttpServerRequest.HttpServerRequest, (served) =>
                Wire.truncate(served, response, bytes.length)
              )
              answer(InProcess.make(broken).execute(request), given)
            }
            if (other !== undefined && !other.commits) return show(other.response)
            if (odd?.isDone === false) return showOdd(Answers.send(odd.answer, "", driver.now))
            // Cal.com itself has a part in this one.
            if (odd?.answer === "refreshTokenKept" && op === "refresh") now(sandbox.inject(keepToken))
            world.server.fork(
              Effect.flatMap(calCom.execute(request), (response) =>
                Effect.map(response.text, (body) => ({ response, body }))
              ),
              (exit) => {
                if (Exit.isFailure(exit)) return answer(Effect.failCause(exit.cause))
                const { body, response } = exit.value
                const grant = response.status === 200 ? granted(body, request) : undefined
                if (other !== undefined) return show(other.response, grant && { grant, holds: "pair" })
                if (odd === undefined || response.status !== 200) {
                  return answer(Effect.succeed(response), grant && { grant, holds: "pair" })
                }
                const text = odd.answer === "otherUser" ? somebodyElses(body) : body
                showOdd(
                  Answers.send(odd.answer, text, driver.now),
                  grant && { grant, holds: holdsFor(node, odd.answer) }
                )
              }
            )
          }
        })
      })
      const client = now(
        Effect.provideService(
          CalClient.make(clientOptions(node.hasWrongSecret ? wrong : node.hasBothSecrets ? secrets : secrets[0])),
          TokenHttp,
          http
        )
      )
      return watched(world, node, client)
    }
  }
}

/** As a program would ask that knows nothing of ours. */
const refreshManaged = (refreshToken: string) =>
  HttpClientRequest.post(`${apiUrl}/oauth/${Sandbox.demoManaged.clientId}/refresh`, {
    headers: { "x-cal-secret-key": Redacted.value(secrets[0]) },
    body: HttpBody.unsafeJson({ refreshToken })
  })

const refreshOAuth2 = (refreshToken: string) =>
  HttpClientRequest.post(`${apiUrl}/auth/oauth2/token`, {
    body: HttpBody.unsafeJson({
      grant_type: "refresh_token",
      client_id: Sandbox.demoOAuth2.clientId,
      client_secret: Redacted.value(secrets[0]),
      refresh_token: refreshToken
    })
  })

/** The next refresh leaves its refresh token in use. */
const keepToken = Sandbox.Fault.odd("refreshTokenKept")

/** Where a token answer has its tokens. */
const fieldsOf = (body: string): Record<string, unknown> => {
  const json: unknown = JSON.parse(body)
  return (isRecord(json) && isRecord(json["data"]) ? json["data"] : json) as Record<string, unknown>
}

/** The refresh token in a request. */
const sentToken = ({ body }: HttpClientRequest.HttpClientRequest): string => {
  const text = body._tag === "Uint8Array" ? new TextDecoder().decode(body.body) : ""
  const form = new URLSearchParams(text)
  const token = text.startsWith("{") ? (JSON.parse(text) as Record<string, unknown>)["refreshToken"] : undefined
  return typeof token === "string" ? token : (form.get("refresh_token") ?? "")
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null
