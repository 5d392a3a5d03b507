/**
 * Requests with a user's token, made by the real `CalApi` over a line that takes virtual time: what a node sends, what it
 * hears, and the rule that a request is not sent again with a token that was refused to it.
 */
import { HttpClient, type HttpClientRequest, type HttpClientResponse, HttpServerResponse } from "@effect/platform"
import { Context, Effect, Exit, Scope } from "effect"
import * as CalApi from "../../src/CalApi.js"
import { CalClient } from "../../src/CalClient.js"
import { ApiHttp } from "../../src/CalHttp/HttpClients.js"
import { CalTokens } from "../../src/CalTokens.js"
import * as InProcess from "../../src/Sandbox/InProcess.js"
import type { Cal } from "./Cal.js"
import type { Node, World } from "./World.js"

export const tokenOf = (request: HttpClientRequest.HttpClientRequest): string =>
  (request.headers["authorization"] ?? "").replace(/^Bearer /, "")

/** What Cal.com says to a token, with the words of its API v2. */
const words: Readonly<Record<number, string>> = {
  200: '{"status":"success","data":{}}',
  401: '{"status":"error","error":{"code":"UnauthorizedException","message":"Invalid Access Token."}}',
  498: '{"status":"error","error":{"code":"TokenExpiredException","message":"ACCESS_TOKEN_IS_EXPIRED"}}'
}

/** An answer as it travels, for whoever has only the status. */
export const answer = (
  request: HttpClientRequest.HttpClientRequest,
  status: number,
  now: number
): Effect.Effect<HttpClientResponse.HttpClientResponse> =>
  Effect.orDie(
    InProcess.make(
      Effect.succeed(
        HttpServerResponse.text(words[status] ?? "", {
          status,
          contentType: "application/json",
          headers: { date: new Date(now).toUTCString() }
        })
      )
    ).execute(request)
  )

const over = (world: World, node: Node, cal: Cal): HttpClient.HttpClient => {
  const { driver, oracle, plan } = world
  /** By request: the token that Cal.com called expired. */
  const expired = new Map<string, string>()
  return HttpClient.make((request) =>
    Effect.async<HttpClientResponse.HttpClientResponse>((resume) => {
      const process = node.process
      if (process === undefined) return
      const sentAt = driver.now
      let isListening = true
      const token = tokenOf(request)
      if (expired.get(request.url) === token) {
        oracle.report("P6", `${node.name} sends a request again with the very token that got 498`)
      }
      driver.after(world.delay(plan.latency.cal), world.server, () => {
        const exit = world.runSync(
          world.isHappening("accessRefused") ? answer(request, 401, driver.now) : cal.respond(request)
        )
        if (Exit.isFailure(exit)) throw new Error("Cal.com failed")
        const { status } = exit.value
        world.note("Cal.com", `answers a request of ${node.name} with ${status}`)
        driver.after(world.delay(plan.latency.cal), process, () => {
          if (!isListening) return
          node.clockError = Math.min(node.clockError, driver.now - sentAt)
          if (status === 498) {
            expired.set(request.url, token)
            // Not before everything is done that this answer leads to at this instant.
            driver.after(1, process, () => node.rejected.add(token))
          }
          resume(exit)
        })
      })
      return Effect.sync(() => {
        isListening = false
      })
    })
  )
}

/** A node's `CalApi`. */
export const connect = (
  world: World,
  node: Node,
  cal: Cal,
  services: {
    readonly tokens: typeof CalTokens.Service
    readonly client: typeof CalClient.Service
    readonly scope: Scope.Scope
  }
): typeof CalApi.CalApi.Service =>
  Effect.runSync(
    Effect.provide(
      CalApi.make,
      Context.empty().pipe(
        Context.add(CalTokens, services.tokens),
        Context.add(CalClient, services.client),
        Context.add(ApiHttp, over(world, node, cal)),
        Context.add(Scope.Scope, services.scope)
      )
    )
  )
