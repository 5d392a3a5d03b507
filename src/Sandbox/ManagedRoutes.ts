/**
 * Managed users: a platform client creates them and holds their tokens. Facts: `oauth-client-users` and `oauth-flow`
 * controllers of Cal.com API v2.
 */
import { Effect, Either } from "effect"
import { authenticateClient } from "./Auth.js"
import {
  badRequest,
  conflict,
  invalid,
  notFound,
  recordNotFound,
  success,
  unauthorized,
  type Refusal
} from "./Errors.js"
import { intParam, param, route, type Params } from "./Route.js"
import { type User } from "./Store.js"
import * as Tokens from "./Tokens.js"
import * as Users from "./Users.js"
import * as Validation from "./Validation.js"
import { bearerOf, type Incoming } from "./World.js"

const create = (request: Incoming, params: Params) =>
  Effect.gen(function* () {
    const { client } = yield* authenticateClient(request, param(params, "clientId"))
    const profile = Users.toProfile(yield* Validation.body(request, Validation.createUser))
    const existing = request.world.store.userByEmail(Users.managedEmail(profile.email, client.clientId))
    if (existing !== undefined) {
      return yield* Effect.fail(
        conflict(`User with the provided e-mail already exists. Existing user ID=${existing.id}`)
      )
    }
    const user = Users.create(request.world, profile, client.clientId, request.now)
    const pair = Tokens.issueManaged(request.world, client.clientId, user.id, request.now, false)
    noteIssued(request, user.id, pair.refreshToken)
    const { accessToken, accessTokenExpiresAt, ...rest } = pair
    return success({ user: Users.toManagedUser(user), accessToken, accessTokenExpiresAt, ...rest }, 201)
  })

const list = (request: Incoming, params: Params) =>
  Effect.gen(function* () {
    const { client } = yield* authenticateClient(request, param(params, "clientId"))
    const query = Object.fromEntries(request.query)
    const emails = query.emails ? query.emails.split(",").map((email) => email.trim()) : undefined
    // While the query is read, before it is validated.
    const wrong = emails?.find((email) => !Validation.isEmail.accepts(email))
    if (wrong !== undefined) return yield* Effect.fail(badRequest(`Invalid email ${wrong}`))
    const violations = Validation.check(query, {
      limit: { rules: Validation.count(1, 250) },
      offset: { rules: Validation.count(0, 250) },
      emails: { rules: [Validation.isNotEmpty] }
    })
    if (violations.length > 0) return yield* Effect.fail(invalid(violations))
    const wanted = emails && new Set(emails.map((email) => Users.managedEmail(email, client.clientId)))
    const users = [...request.world.store.users.values()].filter(
      (user) => user.managedBy === client.clientId && (wanted === undefined || wanted.has(user.email))
    )
    const offset = Number(query.offset ?? 0)
    return success(users.slice(offset, offset + Number(query.limit ?? 50)).map(Users.toManagedUser))
  })

const get = (request: Incoming, params: Params) =>
  Effect.map(userOfClient(request, params), (user) => success(Users.toManagedUser(user)))

const update = (request: Incoming, params: Params) =>
  Effect.gen(function* () {
    const user = yield* userOfClient(request, params)
    const profile = Users.toProfileChange(yield* Validation.body(request, Validation.updateUser))
    return success(Users.toManagedUser(Users.update(request.world, user, profile)))
  })

const remove = (request: Incoming, params: Params) =>
  Effect.map(userOfClient(request, params), (user) => {
    request.world.store.removeUser(user.id)
    return success(Users.toManagedUser(user))
  })

const forceRefresh = (request: Incoming, params: Params) =>
  Effect.map(userOfClient(request, params), (user) => {
    const pair = Tokens.forceRefresh(request.world, param(params, "clientId"), user.id, request.now)
    noteIssued(request, user.id, pair.refreshToken)
    return success(pair)
  })

const refresh = (request: Incoming, params: Params) =>
  Effect.gen(function* () {
    const clientId = param(params, "clientId")
    yield* authenticateClient(request, clientId)
    const body = yield* Validation.body(request, { refreshToken: { required: true, rules: [Validation.isString] } })
    // Check and rotation are one synchronous step, unless this request is told to race.
    const token = String(body.refreshToken)
    const row = Tokens.findManagedRefresh(request.world, clientId, token, request)
    if (row === undefined || !Tokens.isReplicated(row, request)) {
      return yield* Effect.fail(badRequest("Invalid refresh token"))
    }
    if (request.raceWindow > 0) yield* Effect.sleep(request.raceWindow)
    const pair = Tokens.rotateManaged(request.world, row, request.now + request.raceWindow)
    if (pair === undefined) {
      const lost = request.switches.managedRaceLoser === "invalid"
      return yield* Effect.fail(lost ? badRequest("Invalid refresh token") : recordNotFound)
    }
    noteIssued(request, row.userId, pair.refreshToken)
    return success(pair)
  })

/** Needs a Cal.com web session, which nobody has here. */
const authorize = () => Effect.fail(unauthorized("Unauthorized"))

/** The body is validated before the header; codes come from `authorize`, so none is known. */
const exchange = (request: Incoming) =>
  Effect.gen(function* () {
    yield* Validation.body(request, { clientSecret: { required: true, rules: [Validation.isString] } })
    const code = bearerOf(request.headers)?.trim()
    return yield* Effect.fail(badRequest(code ? "Invalid OAuth Client." : "Missing 'Bearer' Authorization header."))
  })

const userOfClient = (request: Incoming, params: Params): Either.Either<User, Refusal> =>
  Either.gen(function* () {
    const { client } = yield* authenticateClient(request, param(params, "clientId"))
    const id = yield* intParam(params, "userId")
    const user = request.world.store.users.get(id)
    if (user === undefined || user.managedBy !== client.clientId) {
      return yield* Either.left(notFound(`User with ID ${id} is not part of this OAuth client.`))
    }
    return user
  })

const noteIssued = (request: Incoming, calUserId: number, refreshToken: string) => {
  request.note.calUserId = calUserId
  request.note.issuedRefreshTokenHash = Tokens.sha256(refreshToken)
}

export const routes = [
  route("POST", "/v2/oauth-clients/:clientId/users", create),
  route("GET", "/v2/oauth-clients/:clientId/users", list),
  route("GET", "/v2/oauth-clients/:clientId/users/:userId", get),
  route("PATCH", "/v2/oauth-clients/:clientId/users/:userId", update),
  route("DELETE", "/v2/oauth-clients/:clientId/users/:userId", remove),
  route("POST", "/v2/oauth-clients/:clientId/users/:userId/force-refresh", forceRefresh),
  route("POST", "/v2/oauth/:clientId/refresh", refresh),
  route("POST", "/v2/oauth/:clientId/authorize", authorize),
  route("POST", "/v2/oauth/:clientId/exchange", exchange)
]
