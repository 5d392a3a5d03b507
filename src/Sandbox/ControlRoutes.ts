/**
 * `/_control`: for a person with curl, and for tests in any language. Not part of Cal.com; neither throttled nor recorded,
 * and free of tokens.
 */
import { HttpRouter, HttpServerRequest } from "@effect/platform"
import { Effect, ParseResult, Schema } from "effect"
import { ownerId } from "./Clients.js"
import { json } from "./Errors.js"
import { Fault, problemOf, type Queue } from "./Faults.js"
import { Kind } from "./Kind.js"
import { names, oddAnswers } from "./OddAnswers.js"
import { type World } from "./World.js"

export const prefix = "/_control"

export interface Controls {
  readonly world: World
  /** Cal.com's time. */
  readonly now: Effect.Effect<number>
  readonly expireAccessTokens: (calUserId: number) => Effect.Effect<void>
  readonly faults: Queue
}

/** `Fault.odd` as JSON: `{"answer": "gzip", "kind": "refresh", "times": 3}`. */
const OddAnswer = Schema.Struct({
  answer: Schema.Literal(...names),
  kind: Schema.optional(Kind),
  calUserId: Schema.optional(Schema.Int),
  /** How many requests it strikes, or all until it is switched off. Default 1. */
  times: Schema.optional(Schema.Union(Schema.Int.pipe(Schema.positive()), Schema.Literal("always"))),
  at: Schema.optional(Schema.NonNegativeInt),
  committed: Schema.optional(Schema.Boolean)
})

const badRequest = (message: string) => json(400, { status: "error", message })

export const make = ({ expireAccessTokens, faults, now, world: { clients, store } }: Controls) => {
  /** Those that wait for a request. */
  const queued = Effect.sync(() =>
    json(200, {
      status: "success",
      queued: faults.all().flatMap(({ fault, left }) => {
        if (fault._tag !== "Odd") return []
        const { answer, at, calUserId, committed, kind } = fault
        return [{ answer, kind, calUserId, at, committed, left: left === Infinity ? "always" : left }]
      }),
      answers: names.map((answer) => ({
        answer,
        what: oddAnswers[answer].what,
        kinds: oddAnswers[answer].kinds ?? Kind.literals
      }))
    })
  )
  return HttpRouter.empty.pipe(
    HttpRouter.get("/_control/odd-answers", queued),
    HttpRouter.post(
      "/_control/odd-answers",
      HttpServerRequest.schemaBodyJson(OddAnswer, { onExcessProperty: "error" }).pipe(
        Effect.flatMap(({ answer, times, ...script }) => {
          const problem = problemOf(answer, script)
          if (problem !== undefined) return Effect.succeed(badRequest(problem))
          faults.add(Fault.odd(answer, { ...script, times: times === "always" ? Infinity : times }))
          return queued
        }),
        Effect.catchTags({
          ParseError: (error) => Effect.succeed(badRequest(ParseResult.TreeFormatter.formatErrorSync(error))),
          RequestError: () => Effect.succeed(badRequest("The body is no JSON."))
        })
      )
    ),
    HttpRouter.del(
      "/_control/odd-answers",
      Effect.zipRight(
        Effect.sync(() => faults.clear("Odd")),
        queued
      )
    ),
    HttpRouter.post(
      "/_control/users/:calUserId/expire",
      Effect.flatMap(HttpRouter.RouteContext, ({ params }) => {
        const calUserId = Number(params.calUserId)
        return store.users.has(calUserId)
          ? Effect.as(expireAccessTokens(calUserId), json(200, { status: "success", calUserId }))
          : Effect.succeed(json(404, { status: "error", message: "This sandbox has no such Cal.com user." }))
      })
    ),
    HttpRouter.get(
      "/_control/state",
      Effect.map(now, (now) =>
        json(200, {
          now: new Date(now).toISOString(),
          clients: { managed: [...clients.managed.keys()], oauth2: [...clients.oauth2.keys()] },
          users: [...store.users.values()]
            .filter((user) => user.id !== ownerId)
            .map((user) => {
              const access = [...store.access.ofUser(user.id), ...store.stateless.ofUser(user.id)]
              const live = access.filter((row) => now < row.expiresAt && !store.revoked.has(row.token))
              return {
                calUserId: user.id,
                kind: user.managedBy === null ? "oauth2" : "managed",
                email: user.email,
                name: user.name,
                accessTokens: { live: live.length, expired: access.length - live.length },
                accessTokenExpiresAt: instant(Math.max(...live.map((row) => row.expiresAt))),
                refreshTokens: store.refresh.ofUser(user.id).length + store.grants.ofUser(user.id).length
              }
            })
        })
      )
    ),
    HttpRouter.all(
      "*",
      Effect.succeed(
        json(404, {
          status: "error",
          message:
            "GET /_control/state, POST /_control/users/{calUserId}/expire, or GET, POST, DELETE /_control/odd-answers"
        })
      )
    )
  )
}

const instant = (millis: number) => (Number.isFinite(millis) ? new Date(millis).toISOString() : null)
