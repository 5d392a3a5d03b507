/**
 * Who is calling: Cal.com's authentication strategy and its permission guard, with their order and their texts.
 * Facts: `ApiAuthStrategy`, `PermissionsGuard` and the third-party scope guard of Cal.com API v2.
 */
import { Duration, Either } from "effect"
import { hasSecret, isLegacy, ownerId, type ManagedClient, type OAuth2Client } from "./Clients.js"
import { forbidden, tokenExpired, unauthorized, type Refusal } from "./Errors.js"
import { type User } from "./Store.js"
import { verifyOAuth2 } from "./Tokens.js"
import { bearerOf, type Incoming } from "./World.js"

export type Principal =
  | { readonly _tag: "Client"; readonly client: ManagedClient; readonly user: User }
  | { readonly _tag: "Managed"; readonly client: ManagedClient; readonly user: User }
  | { readonly _tag: "OAuth2"; readonly client: OAuth2Client | undefined; readonly user: User; readonly scope: Scope }

type Scope = ReadonlyArray<string>
type Outcome<A> = Either.Either<A, Refusal>

/** Client credentials win over a bearer token; a client id in the path wins over the header. */
export const authenticate = (request: Incoming, pathClientId?: string): Outcome<Principal> => {
  const clientId = pathClientId ?? request.headers["x-cal-client-id"]
  const secret = request.headers["x-cal-secret-key"]
  if (clientId && secret) return Either.map(asClient(request, clientId, secret), note(request))
  const bearer = bearerOf(request.headers)
  if (bearer) return Either.map(asBearer(request, bearer), note(request))
  if (clientId) return Either.left(unauthorized(onlyOne("x-cal-client-id", "x-cal-secret-key")))
  if (secret) return Either.left(unauthorized(onlyOne("x-cal-secret-key", "x-cal-client-id")))
  return Either.left(unauthorized(noCredentials))
}

/** Endpoints for everybody: no credentials are fine, wrong ones are not. */
export const authenticateOptional = (request: Incoming): Outcome<Principal | undefined> =>
  bearerOf(request.headers) || (request.headers["x-cal-client-id"] && request.headers["x-cal-secret-key"])
    ? authenticate(request)
    : Either.right(undefined)

/** Endpoints of a client's own server: the secret is required, whatever else is sent. */
export const authenticateClient = (
  request: Incoming,
  clientId: string
): Outcome<Extract<Principal, { readonly _tag: "Client" }>> =>
  Either.flatMap(authenticate(request, clientId), (principal) =>
    principal._tag === "Client"
      ? Either.right(principal)
      : Either.left(forbidden("OrganizationRolesGuard - User must have one of the roles: ADMIN, OWNER."))
  )

/**
 * The permission guard by itself, as it stands **before** authentication on bookings and single event types. It looks
 * the token up without regard to its expiry; its refusal contains the whole token.
 */
const permit = (request: Incoming, permission: Permission): Outcome<void> => {
  const bearer = bearerOf(request.headers)
  const clientId = request.headers["x-cal-client-id"]
  if (!bearer && !clientId) return Either.left(forbidden(noPermissionCredentials))
  if (bearer && verifyOAuth2(request.world, bearer, "Access Token", request.now) !== undefined) return Either.void
  const owner = bearer ? visibleRow(request, bearer)?.clientId : clientId
  const client = owner === undefined ? undefined : request.world.clients.managed.get(owner)
  if (client !== undefined) return hasPermission(client, permission)
  if (request.switches.deadTokenOnGuardedRoutes === "unauthorized") return Either.void
  return Either.left(forbidden(`PermissionsGuard - no oAuth client found for access token=${bearer ?? ""}`))
}

/**
 * What a caller who is already known may do: the bits of a managed client, or the scopes of an OAuth2 token. Endpoints
 * without a permission are not for third parties.
 */
export const allow = (request: Incoming, principal: Principal, permission: Permission | undefined): Outcome<void> => {
  if (principal._tag !== "OAuth2") {
    return permission === undefined ? Either.void : hasPermission(principal.client, permission)
  }
  const { scope } = principal
  if (request.switches.line === "D" || isLegacy(scope)) return Either.void
  if (permission === undefined) {
    return Either.left(forbidden("insufficient_scope: this endpoint is not available for third-party OAuth tokens"))
  }
  return scope.some((item) => satisfies(item, permission))
    ? Either.void
    : Either.left(
        forbidden(
          `insufficient_scope: token does not have the required scopes. Required: ${permission}. Token has: ${scope.join(", ")}`
        )
      )
}

/** Authentication first, as on `/me` and schedules. */
export const guarded = (request: Incoming, permission: Permission): Outcome<Principal> =>
  Either.flatMap(authenticate(request), (principal) =>
    Either.map(allow(request, principal, permission), () => principal)
  )

/** The permission guard first, as on bookings and single event types. */
export const guardedLate = (request: Incoming, permission: Permission): Outcome<Principal> =>
  Either.flatMap(permit(request, permission), () => guarded(request, permission))

/** The bits of a platform client; OAuth2 scopes carry the same names. */
const permissions = {
  EVENT_TYPE_READ: 1,
  EVENT_TYPE_WRITE: 2,
  BOOKING_READ: 4,
  BOOKING_WRITE: 8,
  SCHEDULE_READ: 16,
  SCHEDULE_WRITE: 32,
  APPS_READ: 64,
  APPS_WRITE: 128,
  PROFILE_READ: 256,
  PROFILE_WRITE: 512
} as const
export type Permission = keyof typeof permissions

const hasPermission = (client: ManagedClient, permission: Permission): Outcome<void> =>
  ((client.permissions ?? 1023) & permissions[permission]) !== 0
    ? Either.void
    : Either.left(
        forbidden(
          `PermissionsGuard - oAuth client with id=${client.clientId} does not have the required permissions=${permission}. Go to platform dashboard settings and add the required permissions to the oAuth client.`
        )
      )

/** An organization's scope includes its teams', not the reverse. */
const satisfies = (held: string, required: string) =>
  held === required || (held.startsWith("ORG_") && `TEAM_${held.slice(4)}` === required)

const asClient = (request: Incoming, clientId: string, secret: string): Outcome<Principal> => {
  const client = request.world.clients.managed.get(clientId)
  if (client === undefined) {
    return Either.left(unauthorized(`ApiAuthStrategy - oAuth client - Client with ID ${clientId} not found`))
  }
  const { managedSecretRejected, revokedSecrets } = request.switches
  if (managedSecretRejected || !hasSecret(client.clientSecret, secret, revokedSecrets)) {
    return Either.left(unauthorized("ApiAuthStrategy - oAuth client - Invalid client secret"))
  }
  const user = request.world.store.users.get(ownerId)
  return user === undefined ? Either.left(noOwner) : Either.right({ _tag: "Client", client, user })
}

/** A managed token first; if it is none, an OAuth2 token; if that fails too, the managed refusal stands. */
const asBearer = (request: Incoming, token: string): Outcome<Principal> => {
  const refusal = managedRefusal(request, token)
  if (refusal === undefined) return asManaged(request, token)
  const claims = verifyOAuth2(request.world, token, "Access Token", request.now)
  if (claims === undefined) return Either.left(refusal)
  const user = request.world.store.users.get(claims.userId)
  return user === undefined
    ? Either.left(
        unauthorized("ApiAuthStrategy - third-party token - No user or team owner associated with the token.")
      )
    : Either.right({
        _tag: "OAuth2",
        client: request.world.clients.oauth2.get(claims.clientId),
        user,
        scope: claims.scope
      })
}

/** A token that was accepted once is remembered until it expires, and is not looked up again. */
const managedRefusal = (request: Incoming, token: string): Refusal | undefined => {
  const remembered = request.world.store.validated.get(token)
  if (remembered !== undefined && request.now <= remembered) return undefined
  const row = visibleRow(request, token)
  if (row === undefined) return invalidToken
  if (request.now > row.expiresAt) return tokenExpired
  request.world.store.validated.set(token, row.expiresAt)
  return undefined
}

const asManaged = (request: Incoming, token: string): Outcome<Principal> => {
  const row = request.world.store.access.get(token)
  const client = row === undefined ? undefined : request.world.clients.managed.get(row.clientId)
  if (row === undefined || client === undefined) {
    return Either.left(unauthorized("ApiAuthStrategy - access token - OAuth client not found given the access token"))
  }
  const origin = request.headers.origin
  if (origin !== undefined && !(client.redirectUris ?? []).some((pattern) => matches(pattern, origin))) {
    return Either.left(
      unauthorized(
        `ApiAuthStrategy - access token - Invalid request origin - please open https://app.cal.com/settings/platform and add the origin '${origin}' to the 'Redirect uris' of your OAuth client with ID '${client.clientId}'`
      )
    )
  }
  const user = request.world.store.users.get(row.userId)
  return user === undefined ? Either.left(noOwner) : Either.right({ _tag: "Managed", client, user })
}

/** The row as a lagging read replica shows it. */
const visibleRow = (request: Incoming, token: string) => {
  const row = request.world.store.access.get(token)
  return row !== undefined && request.now - row.createdAt < Duration.toMillis(request.switches.replicaLag)
    ? undefined
    : row
}

/** Equal, or a `*` that stands for anything. */
const matches = (pattern: string, origin: string) =>
  pattern === origin ||
  (pattern.includes("*") &&
    new RegExp(
      `^${pattern
        .split("*")
        .map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"))
        .join(".*")}$`
    ).test(origin))

const note =
  (request: Incoming) =>
  <P extends Principal>(principal: P): P => {
    if (principal._tag !== "Client") request.note.calUserId = principal.user.id
    return principal
  }

const invalidToken = unauthorized("Invalid Access Token.")
const noOwner = unauthorized("ApiAuthStrategy - access token - User associated with the access token not found.")
const noCredentials =
  "ApiAuthStrategy - No authentication method provided. Either pass an API key as 'Bearer' header or OAuth client credentials as 'x-cal-secret-key' and 'x-cal-client-id' headers"
const onlyOne = (sent: string, missing: string) =>
  `ApiAuthStrategy - Only '${sent}' header provided. Please also provide '${missing}' header or Auth bearer token as 'Authentication' header`
const noPermissionCredentials =
  "PermissionsGuard - no authentication provided. Provide either authorization bearer token containing managed user access token or oAuth client id in 'x-cal-client-id' header."
