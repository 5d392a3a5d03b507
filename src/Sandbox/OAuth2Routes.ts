/**
 * OAuth 2.0: the token endpoint and what it tells about a client. Facts: `auth/oauth2` controller of Cal.com API v2, its
 * input pipe, and `OAuthService`.
 */
import { createHash } from "node:crypto"
import { Effect, Either, Option, Schema } from "effect"
import { authenticate } from "./Auth.js"
import { hasSecret, ownerId, type OAuth2Client } from "./Clients.js"
import { json, noStore, notFound, oauth2, success, type Refusal } from "./Errors.js"
import { param, route, type Params } from "./Route.js"
import * as Tokens from "./Tokens.js"
import { bearerOf, isRecord, type Incoming } from "./World.js"

const token = (request: Incoming) =>
  Effect.gen(function* () {
    const pair = yield* grant(request, yield* parse(request))
    const scope = request.switches.line === "L" ? { scope: pair.scope.join(" ") } : {}
    return json(200, { ...toAnswer(pair), ...scope }, noStore)
  })

/**
 * The web application's older endpoints for the same grants, one for each. They read forms only, take the refresh token
 * from the `Authorization` header too, accept a secret beside a verifier, and say less.
 */
const legacy = (grantType: Input["grant_type"]) => (request: Incoming) => {
  const form = request.body._tag === "Form" ? request.body.value : {}
  const input = Schema.decodeUnknownOption(Input)({ refresh_token: bearerOf(request.headers), ...form })
  if (Option.isNone(input) || input.value.client_id === "" || input.value.grant_type !== grantType) {
    return Effect.succeed(json(400, { error: "invalid_request" }))
  }
  return Effect.match(grant(request, input.value), {
    onSuccess: (pair) => json(200, toAnswer(pair)),
    onFailure: ({ error, status }) => {
      if (error._tag === "Platform") return json(status, { error: "server_error" })
      const description = request.switches.line === "L" ? { error_description: error.description } : {}
      return json(status, { error: error.error, ...description })
    }
  })
}

const grant = (request: Incoming, input: Input): Effect.Effect<Tokens.OAuth2Pair, Refusal> =>
  Effect.gen(function* () {
    const client = yield* clientOf(request, input)
    const pair = yield* input.grant_type === "authorization_code"
      ? codeGrant(request, client, input)
      : refreshGrant(request, client, input)
    request.note.issuedRefreshTokenHash = Tokens.sha256(pair.refreshToken)
    return pair
  })

const toAnswer = (pair: Tokens.OAuth2Pair) => ({
  access_token: pair.accessToken,
  token_type: "bearer",
  refresh_token: pair.refreshToken,
  expires_in: pair.expiresIn
})

const clientOf = (request: Incoming, input: Input): Either.Either<OAuth2Client, Refusal> => {
  const refuse = (status: number, error: string, description: string) =>
    Either.left(oauth2(request, status, error, description))
  const client = request.world.clients.oauth2.get(input.client_id)
  if (client === undefined) return refuse(401, "invalid_client", "client_not_found")
  if (input.grant_type === "authorization_code" && !client.redirectUris.includes(input.redirect_uri ?? "")) {
    return refuse(400, "invalid_grant", "redirect_uri_mismatch")
  }
  const { clientSecret } = client
  const { oauth2SecretRejected, revokedSecrets } = request.switches
  return clientSecret === undefined ||
    (!oauth2SecretRejected && hasSecret(clientSecret, input.client_secret, revokedSecrets))
    ? Either.right(client)
    : refuse(401, "invalid_client", "invalid_client_credentials")
}

const codeGrant = (request: Incoming, client: OAuth2Client, input: Input) =>
  Effect.gen(function* () {
    const code = Tokens.takeCode(request.world, client, input.code ?? "", request.now)
    if (code === undefined) {
      return yield* Effect.fail(oauth2(request, 400, "invalid_grant", "code_invalid_or_expired"))
    }
    request.note.calUserId = code.userId
    yield* approved(request, code.userId)
    yield* proofOfPossession(request, client, code.codeChallenge, input.code_verifier)
    return Tokens.issueOAuth2(request.world, client.clientId, code.userId, code.scope, request, code.codeChallenge)
  })

const refreshGrant = (request: Incoming, client: OAuth2Client, input: Input) =>
  Effect.gen(function* () {
    const refuse = (error: string) => Effect.fail(oauth2(request, 400, "invalid_grant", error))
    const claims = Tokens.verifyOAuth2(request.world, input.refresh_token ?? "", "Refresh Token", request.now)
    if (claims === undefined) return yield* refuse("invalid_refresh_token")
    request.note.calUserId = claims.userId
    if (claims.clientId !== client.clientId) return yield* refuse("client_id_mismatch")
    yield* approved(request, claims.userId)
    const { line, oauth2RaceLoser } = request.switches
    const row = request.world.store.grants.get(claims.secret ?? "")
    if (!Tokens.isStored(request.world, claims, line) || !Tokens.isReplicated(row, request))
      return yield* refuse("refresh_token_revoked")
    // Cal.com checks the row and rotates in two steps, without a transaction around them.
    if (request.raceWindow > 0) {
      yield* Effect.sleep(request.raceWindow)
      const lost = !Tokens.isStored(request.world, claims, line)
      // The new row refers to its user: nobody who was deleted meanwhile gets one.
      const isGone = !request.world.store.users.has(claims.userId)
      if (isGone || (lost && oauth2RaceLoser === "revoked")) return yield* refuse("refresh_token_revoked")
    }
    return Tokens.rotateOAuth2(request.world, claims, { ...request, now: request.now + request.raceWindow })
  })

const client = (request: Incoming, params: Params) =>
  Effect.gen(function* () {
    yield* authenticate(request)
    const found = request.world.clients.oauth2.get(param(params, "clientId"))
    if (found === undefined) return yield* Effect.fail(notFound("unauthorized_client"))
    return success({
      client_id: found.clientId,
      redirect_uris: found.redirectUris,
      redirect_uri: found.redirectUris[0],
      name: found.name ?? found.clientId,
      logo: null,
      is_trusted: false,
      client_type: found.clientSecret === undefined ? "PUBLIC" : "CONFIDENTIAL"
    })
  })

/** A client that waits for approval serves only its owner; a rejected one nobody. */
const approved = (request: Incoming, userId: number): Either.Either<void, Refusal> => {
  const status = request.switches.oauth2ClientStatus
  if (status === "REJECTED") return Either.left(oauth2(request, 401, "unauthorized_client", "client_rejected"))
  return status === "PENDING" && userId !== ownerId
    ? Either.left(oauth2(request, 401, "unauthorized_client", "client_not_approved"))
    : Either.void
}

/** PKCE with S256: always for public clients, and whenever a challenge came with the authorization. */
const proofOfPossession = (
  request: Incoming,
  client: OAuth2Client,
  challenge: string | null,
  verifier: string | undefined
): Either.Either<void, Refusal> => {
  if (client.clientSecret !== undefined && challenge === null) return Either.void
  if (challenge === null || !verifier) {
    return Either.left(oauth2(request, 400, "invalid_request", "pkce_missing_parameters_or_invalid_method"))
  }
  return createHash("sha256").update(verifier).digest("base64url") === challenge
    ? Either.void
    : Either.left(oauth2(request, 400, "invalid_grant", "pkce_verification_failed"))
}

const GrantType = Schema.Literal("authorization_code", "refresh_token")

const Input = Schema.Struct({
  client_id: Schema.String,
  grant_type: GrantType,
  code: Schema.optional(Schema.String),
  redirect_uri: Schema.optional(Schema.String),
  client_secret: Schema.optional(Schema.String),
  code_verifier: Schema.optional(Schema.String),
  refresh_token: Schema.optional(Schema.String)
})
type Input = typeof Input.Type

/** The fields that a grant takes, and no others. A `client_secret` key selects the confidential shape by its presence. */
const fieldsOf = (grantType: Input["grant_type"], confidential: boolean) => [
  "client_id",
  "grant_type",
  ...(grantType === "authorization_code" ? ["code", "redirect_uri"] : ["refresh_token"]),
  ...(confidential ? ["client_secret"] : grantType === "authorization_code" ? ["code_verifier"] : [])
]

const parse = (request: Incoming): Either.Either<Input, Refusal> => {
  const refuse = (description: string) => Either.left(oauth2(request, 400, "invalid_request", description))
  if (request.body._tag === "None" || request.body._tag === "Malformed") return refuse("Body is required")
  const body = request.body.value
  if (!isRecord(body)) return refuse("Body should be an object")
  if (typeof body.client_id !== "string" || body.client_id === "") return refuse("client_id is required")
  const grantType = body.grant_type
  if (!Schema.is(GrantType)(grantType)) {
    return refuse("grant_type must be 'authorization_code' or 'refresh_token'")
  }
  const fields = fieldsOf(grantType, "client_secret" in body)
  const wrong = [
    ...Object.keys(body).flatMap((key) => (fields.includes(key) ? [] : [[key, `property ${key} should not exist`]])),
    ...fields.flatMap((key) => (typeof body[key] === "string" ? [] : [[key, `${key} must be a string`]]))
  ]
  if (wrong.length > 0) {
    return refuse(wrong.map(([key, reason]) => `${key} property is wrong,${reason} `).join(", "))
  }
  return Either.right(Schema.decodeUnknownSync(Input)(body))
}

export const routes = [
  route("POST", "/v2/auth/oauth2/token", token),
  route("POST", "/api/auth/oauth/token", legacy("authorization_code")),
  route("POST", "/api/auth/oauth/refreshToken", legacy("refresh_token")),
  route("GET", "/v2/auth/oauth2/clients/:clientId", client)
]
