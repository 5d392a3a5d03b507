/**
 * `/_sandbox/_demo`: what the demo's page asks for beside the simulator's `/_control`. A request of a demo user's, as a backend
 * makes it, and a new consent, which `_control` has only with the tokens in its answer: here none leaves the process.
 */
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Clock, Effect, Either, Option, Schema } from "effect"
import { CalApi } from "../CalApi.js"
import type { CalTokens } from "../CalTokens.js"
import { isForeign } from "../Sandbox/Foreign.js"
import { Sandbox } from "../Sandbox.js"
import { toFailure } from "../TokenError.js"
import * as Demo from "./Demo.js"

/** Below where the simulator is mounted. */
export const path = `${Demo.sandboxPath}/_demo` as const

const maxRequests = 100

const Requests = Schema.parseJson(Schema.Struct({ times: Schema.Int.pipe(Schema.between(1, maxRequests)) }))

const json = (status: number, body: object) => HttpServerResponse.unsafeJson(body, { status })

const success = (body: object) => json(200, { status: "success", ...body })

const refuse = (status: number, message: string) => json(status, { status: "error", message })

/** The user whom the path names. */
const user = Effect.flatMap(HttpRouter.params, ({ user }) =>
  Effect.mapError(Option.fromNullable(Demo.users.find(({ userUlid }) => userUlid === user)), () =>
    refuse(404, "The demo has no such user: GET /_demo lists them")
  )
)

/** All that a refresh may ask of Cal.com. */
const refreshKinds = ["refresh", "oauth2Refresh", "forceRefresh"] as const

const refreshesOf = (sandbox: Sandbox["Type"], calUserId: number) =>
  Effect.map(
    Effect.forEach(refreshKinds, (kind) => sandbox.count(kind, calUserId)),
    (counts) => counts.reduce((sum, count) => sum + count, 0)
  )

const list = Effect.gen(function* () {
  const sandbox = yield* Sandbox
  const users = yield* Effect.forEach(Demo.users, ({ kind, name, userUlid }) =>
    Effect.map(sandbox.find(Demo.emailOf(name)), (calUserId) => ({
      userUlid,
      name,
      kind,
      calUserId: Option.getOrNull(calUserId)
    }))
  )
  return success({ users })
})

/** Requests at the same moment, and what became of them: `answered` by Cal.com, or failed with `code` and `error`. */
const requests = Effect.gen(function* () {
  const { name, userUlid } = yield* user
  const { text } = yield* HttpServerRequest.HttpServerRequest
  const sent = yield* Effect.orElseSucceed(text, () => "")
  const { times } = yield* Effect.mapError(Schema.decode(Requests)(sent), () =>
    refuse(400, `The body must be {"times": 20}, a whole number from 1 to ${maxRequests}`)
  )
  const api = yield* CalApi
  const sandbox = yield* Sandbox
  const calUserId = Option.getOrElse(yield* sandbox.find(Demo.emailOf(name)), () => -1)
  const before = yield* refreshesOf(sandbox, calUserId)
  const began = yield* Clock.currentTimeMillis
  const ask = Effect.either(api.request(userUlid, { path: "/me", schema: Schema.Unknown }))
  const results = yield* Effect.all(
    Array.from({ length: times }, () => ask),
    { concurrency: "unbounded" }
  )
  const failed = results.flatMap((result) => (Either.isLeft(result) ? [toFailure(result.left)] : []))
  return success({
    answered: results.length - failed.length,
    refreshes: (yield* refreshesOf(sandbox, calUserId)) - before,
    took: (yield* Clock.currentTimeMillis) - began,
    ...(failed[0] === undefined ? {} : { failure: failed[0] })
  })
})

/** The user consents again, or is created anew, and is connected with what Cal.com grants. */
const consent = Effect.gen(function* () {
  const connected = yield* Effect.either(Demo.connect({ ...(yield* user), lasts: undefined }))
  return Either.match(connected, {
    onLeft: (error) => json(503, { status: "error", message: toFailure(error).error }),
    onRight: () => success({})
  })
})

export type Services = CalApi | CalTokens | Sandbox

const routed = HttpRouter.empty.pipe(
  HttpRouter.get("/", list),
  HttpRouter.post("/users/:user/requests", Effect.merge(requests)),
  HttpRouter.post("/users/:user/consent", Effect.merge(consent)),
  Effect.catchTag("RouteNotFound", () =>
    Effect.succeed(
      refuse(404, "There is: GET /_demo, POST /_demo/users/{user}/requests, POST /_demo/users/{user}/consent")
    )
  )
)

/** Where Cal.com is played; nothing like it stands beside a real one. No page of another origin makes a browser ask it. */
export const app = Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
  isForeign(request)
    ? Effect.succeed(refuse(403, "Pages of other origins may not do anything to the demo's users"))
    : routed
)
