/**
 * `/_control`: for a person with curl, and for tests in any language. Not part of Cal.com; neither throttled nor recorded,
 * and but for the pairs that it is asked for free of tokens. README.md beside this file shows it at work.
 */
import { type HttpMethod, HttpRouter, HttpServerRequest, type HttpServerResponse } from "@effect/platform"
import { Clock, Effect, Either, Ref } from "effect"
import { eventTypesOf } from "./ApiRoutes.js"
import { type Calls } from "./Calls.js"
import { ownerId } from "./Clients.js"
import * as Input from "./ControlInput.js"
import { json } from "./Errors.js"
import { millis, type Fault, type Queue } from "./Faults.js"
import { isForeign } from "./Foreign.js"
import { type ManagedGrant, type OAuth2Grant, type Person, toPlain } from "./Grants.js"
import { queryOf } from "./Incoming.js"
import { Kind } from "./Kind.js"
import { names, oddAnswers } from "./OddAnswers.js"
import { type Switches } from "./Switches.js"
import * as Users from "./Users.js"
import { type World } from "./World.js"

export const prefix = "/_control"

type Consenting = Person & { readonly scope?: string | undefined }

export interface Controls {
  readonly world: World
  /** Cal.com's time. */
  readonly now: Effect.Effect<number>
  readonly calls: Calls
  readonly faults: Queue
  readonly switches: Ref.Ref<Switches>
  /** As they were at the start. */
  readonly initialSwitches: Switches
  readonly grantManaged: (person?: Person) => Effect.Effect<ManagedGrant>
  readonly grantOAuth2: (person?: Consenting) => Effect.Effect<OAuth2Grant>
  readonly authorizationCode: (
    person?: Consenting & { readonly codeChallenge?: string | undefined }
  ) => Effect.Effect<string>
  readonly expireAccessTokens: (calUserId: number) => Effect.Effect<void>
  readonly revokeRefreshTokens: (calUserId: number) => Effect.Effect<void>
  readonly deleteUser: (calUserId: number) => Effect.Effect<void>
}

type Response = HttpServerResponse.HttpServerResponse
type Params = Readonly<Record<string, string | undefined>>

/** What the request says, and what comes of it. Either may be an answer that refuses. */
type Handler = (params: Params) => Effect.Effect<Response, Response, HttpServerRequest.HttpServerRequest>

const refuse = (status: number, message: string) => json(status, { status: "error", message })

const success = (body: object) => json(200, { status: "success", ...body })

/** Where somebody begins who knows nothing of this. */
const endpoints = {
  "GET /_control": "This list.",
  "GET /_control/state":
    "Cal.com's time, the clients, and the users with their event type and the number of their tokens.",
  "POST /_control/grants":
    "A pair for somebody, new or known: {kind?, email?, name?, timeZone?, calUserId?, clientId?, scope?}, where kind is " +
    "managed (default) or oauth2. The answer is what PUT /api/cal/connections/{userUlid} takes. A managed user's earlier " +
    "tokens end.",
  "POST /_control/authorization-codes":
    "A code as the redirect after consent carries it: {email?, name?, timeZone?, calUserId?, clientId?, scope?, codeChallenge?}.",
  "POST /_control/users/{user}/expire": "Expires the access tokens of a user, who is named by calUserId or email.",
  "POST /_control/users/{user}/revoke":
    "Ends their refresh tokens. An OAuth2 user has to consent again; a managed one is issued a new pair.",
  "DELETE /_control/users/{user}": "Deletes them at Cal.com: a managed user has to be created and connected anew.",
  "GET /_control/switches": "What can be turned, as it stands: src/Sandbox/Switches.ts explains each.",
  "PATCH /_control/switches": 'Turns some: {line: "D", managedSecretRejected: true, rateLimits: {client: 3}, …}.',
  "DELETE /_control/switches": "All as at the start.",
  "GET /_control/faults": "The mishaps that there are, and those that wait for a request.",
  "POST /_control/faults":
    "Queues one: {fault, kind?, calUserId?, method?, pathPrefix?, times?, for?, before?, after?} and what that fault takes.",
  "DELETE /_control/faults": "Forgets them all.",
  "GET /_control/odd-answers": "Answers that no contract knows, and those that wait.",
  "POST /_control/odd-answers": "Queues one: {answer, kind?, calUserId?, times?, for?, at?, committed?}.",
  "DELETE /_control/odd-answers": "Forgets those.",
  "GET /_control/calls": "The last requests that reached Cal.com, oldest first; ?kind= and ?calUserId= select.",
  "DELETE /_control/calls": "Begins to count anew."
}

/** Nothing at all counts as an empty object. */
const body = Effect.gen(function* () {
  const { text } = yield* HttpServerRequest.HttpServerRequest
  const sent = yield* Effect.orElseSucceed(Effect.interruptible(text), () => "")
  return yield* Effect.try({
    try: () => (sent.trim() === "" ? {} : (JSON.parse(sent) as unknown)),
    catch: () => refuse(400, "The body is no JSON")
  })
})

const given = <A>(read: (input: unknown) => Input.Read<A>) =>
  Effect.flatMap(body, (input) => Either.mapLeft(read(input), (problem) => refuse(400, problem)))

export const make = (controls: Controls): Effect.Effect<Response, never, HttpServerRequest.HttpServerRequest> => {
  const { calls, faults, now, switches, world } = controls
  const { clients, store } = world

  // --- people ---------------------------------------------------------------------------------------------------------

  const toUser =
    (act: (calUserId: number) => Effect.Effect<void>): Handler =>
    ({ user = "" }) => {
      const found = Users.find(world, user)
      return found === undefined
        ? Effect.fail(refuse(404, "This sandbox has no such Cal.com user: GET /_control/state lists them"))
        : Effect.as(act(found.id), success({ calUserId: found.id }))
    }

  /** Whoever is named has to exist, and to be of that kind. */
  const check = (kind: (typeof Input.Kinds)[number], { calUserId, clientId }: Person) => {
    const known = clients[kind]
    if (clientId !== undefined && !known.has(clientId)) {
      return Effect.fail(refuse(400, `clientId must be one of ${[...known.keys()].join(", ")}`))
    }
    const [first] = known.keys()
    if (first === undefined) return Effect.fail(refuse(400, `This sandbox has no client for kind ${kind}`))
    if (calUserId === undefined) return Effect.void
    const user = store.users.get(calUserId)
    if (user === undefined) return Effect.fail(refuse(404, "This sandbox has no Cal.com user of this calUserId"))
    const managedBy = kind === "managed" ? (clientId ?? first) : null
    return user.managedBy === managedBy
      ? Effect.void
      : Effect.fail(
          refuse(
            400,
            `calUserId is that of ${user.managedBy === null ? "an OAuth2 user" : `a user of ${user.managedBy}`}`
          )
        )
  }

  const grant = Effect.gen(function* () {
    const { kind, scope, ...person } = yield* given(Input.grant)
    yield* check(kind, person)
    if (kind === "managed") {
      if (scope !== undefined) return yield* Effect.fail(refuse(400, "scope is for kind oauth2"))
      return json(200, toPlain(yield* controls.grantManaged(person)))
    }
    return json(200, toPlain(yield* controls.grantOAuth2({ ...person, ...(scope === undefined ? {} : { scope }) })))
  })

  const code = Effect.gen(function* () {
    const person = yield* given(Input.code)
    yield* check("oauth2", person)
    return success({ code: yield* controls.authorizationCode(person) })
  })

  const state = Effect.map(now, (now) =>
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
            eventTypes: eventTypesOf(user).map(({ id, slug }) => ({ id, slug })),
            accessTokens: { live: live.length, expired: access.length - live.length },
            accessTokenExpiresAt: instant(Math.max(...live.map((row) => row.expiresAt))),
            refreshTokens: store.refresh.ofUser(user.id).length + store.grants.ofUser(user.id).length
          }
        })
    })
  )

  // --- mishaps --------------------------------------------------------------------------------------------------------

  const queued = Effect.map(Clock.currentTimeMillis, (now) =>
    success({
      queued: faults.all(now).map((queued) => Input.faultToJson(queued, now)),
      faults: Object.entries(Input.faults).map(([fault, { takes, what }]) => ({ fault, what, takes }))
    })
  )
  const oddOnes = Effect.map(Clock.currentTimeMillis, (now) =>
    success({
      queued: faults.all(now).flatMap(({ fault, left, until }) => {
        if (fault._tag !== "Odd") return []
        const { answer, at, calUserId, committed, kind } = fault
        return [{ answer, kind, calUserId, at, committed, ...Input.rest(left, until, now) }]
      }),
      answers: names.map((answer) => ({
        answer,
        what: oddAnswers[answer].what,
        kinds: oddAnswers[answer].kinds ?? Kind.literals
      }))
    })
  )
  const add = (read: (input: unknown) => Input.Read<Fault>) =>
    Effect.zipWith(given(read), Clock.currentTimeMillis, (fault, now) => faults.add(fault, now))
  const forget = (tag?: Fault["_tag"]) => Effect.sync(() => faults.clear(tag))

  const turned = Effect.map(Ref.get(switches), (switches) => success({ switches: switchesToJson(switches) }))

  // --- calls ----------------------------------------------------------------------------------------------------------

  const listCalls = Effect.gen(function* () {
    const { url } = yield* HttpServerRequest.HttpServerRequest
    const { calUserId, kind } = yield* Either.mapLeft(Input.calls(Object.fromEntries(queryOf(url))), (problem) =>
      refuse(400, problem)
    )
    return success({
      calls: calls
        .all()
        .filter(
          (call) => (kind === undefined || call.kind === kind) && (calUserId ?? call.calUserId) === call.calUserId
        )
    })
  })

  const handlers: Readonly<Record<keyof typeof endpoints, Handler>> = {
    "GET /_control": () => Effect.succeed(success({ endpoints })),
    "GET /_control/state": () => state,
    "POST /_control/grants": () => grant,
    "POST /_control/authorization-codes": () => code,
    "POST /_control/users/{user}/expire": toUser(controls.expireAccessTokens),
    "POST /_control/users/{user}/revoke": toUser(controls.revokeRefreshTokens),
    "DELETE /_control/users/{user}": toUser(controls.deleteUser),
    "GET /_control/switches": () => turned,
    "PATCH /_control/switches": () =>
      Effect.flatMap(given(Input.switches), (changes) =>
        Effect.zipRight(Ref.update(switches, Input.turn(changes)), turned)
      ),
    "DELETE /_control/switches": () => Effect.zipRight(Ref.set(switches, controls.initialSwitches), turned),
    "GET /_control/faults": () => queued,
    "POST /_control/faults": () => Effect.zipRight(add(Input.fault), queued),
    "DELETE /_control/faults": () => Effect.zipRight(forget(), queued),
    "GET /_control/odd-answers": () => oddOnes,
    "POST /_control/odd-answers": () => Effect.zipRight(add(Input.oddAnswer), oddOnes),
    "DELETE /_control/odd-answers": () => Effect.zipRight(forget("Odd"), oddOnes),
    "GET /_control/calls": () => listCalls,
    "DELETE /_control/calls": () => Effect.as(Effect.sync(calls.reset), success({ calls: [] }))
  }

  const routes = Object.entries(handlers).map(([endpoint, handler]) => {
    const [method = "", path = ""] = endpoint.split(" ")
    return HttpRouter.makeRoute(
      method as HttpMethod.HttpMethod,
      path.replace(/\{(\w+)\}/, ":$1") as HttpRouter.PathInput,
      Effect.flatMap(HttpRouter.RouteContext, ({ params }) => Effect.merge(handler(params)))
    )
  })
  const routed = HttpRouter.fromIterable(routes).pipe(
    Effect.catchTag("RouteNotFound", () =>
      Effect.succeed(refuse(404, `There is: ${Object.keys(endpoints).join(", ")}`))
    )
  )
  return Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
    isForeign(request)
      ? Effect.succeed(refuse(403, "Pages of other origins may not tell this sandbox anything"))
      : routed
  )
}

/** Durations in milliseconds. Secrets are not shown. */
const switchesToJson = ({ rateLimits, ...switches }: Switches) => ({
  ...switches,
  raceWindow: millis(switches.raceWindow),
  replicaLag: millis(switches.replicaLag),
  refreshReplicaLag: millis(switches.refreshReplicaLag),
  rateLimits: { ...rateLimits, window: millis(rateLimits.window), block: millis(rateLimits.block) }
})

const instant = (millis: number) => (Number.isFinite(millis) ? new Date(millis).toISOString() : null)
