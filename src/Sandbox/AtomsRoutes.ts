/** What Cal.com's Atoms ask before anything else. Facts: `provider` and `atoms/auth/oauth2` controllers of API v2. */
import { Effect } from "effect"
import { authenticate } from "./Auth.js"
import { organizationId } from "./Clients.js"
import { json, notFound, success, unauthorized } from "./Errors.js"
import { param, route, type Params } from "./Route.js"
import { type Incoming } from "./World.js"

const provider = (request: Incoming, params: Params) => {
  const client = request.world.clients.managed.get(param(params, "clientId"))
  return client === undefined
    ? Effect.fail(unauthorized("Unauthorized"))
    : Effect.succeed(success({ clientId: client.clientId, organizationId, name: client.name ?? client.clientId }))
}

/** The client id of the path serves as a credential, but is not compared with the token's client. */
const accessToken = (request: Incoming, params: Params) =>
  Effect.map(authenticate(request, param(params, "clientId")), () => json(200, { status: "success" }))

const oauth2Client = (request: Incoming, params: Params) => {
  const client = request.world.clients.oauth2.get(param(params, "clientId"))
  return client === undefined
    ? Effect.fail(notFound("unauthorized_client"))
    : Effect.succeed(success({ clientId: client.clientId, organizationId: null }))
}

export const routes = [
  route("GET", "/v2/provider/:clientId", provider),
  route("GET", "/v2/provider/:clientId/access-token", accessToken),
  route("GET", "/v2/atoms/auth/oauth2/clients/:clientId", oauth2Client)
]
