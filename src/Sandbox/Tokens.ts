/**
 * How Cal.com issues, rotates and forgets tokens. Every function is one synchronous step over the database.
 *
 * Facts: Cal.com API v2, tokens repository and OAuth flow service (managed users), and the OAuth service of
 * `packages/features/oauth` (OAuth2).
 */
import { Duration } from "effect"
import { createHash, randomBytes, randomUUID } from "node:crypto"
import { type OAuth2Client } from "./Clients.js"
import * as Jwt from "./Jwt.js"
import { removeAll, type Code, type TokenRow } from "./Store.js"
import { type Incoming, type World } from "./World.js"

/** As it goes over the wire: both expiries are milliseconds since the epoch. */
export interface ManagedPair {
  readonly accessToken: string
  readonly refreshToken: string
  readonly accessTokenExpiresAt: number
  readonly refreshTokenExpiresAt: number
}

export const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex")

// ---------------------------------------------------------------------------------------------------------------------
// Managed users
// ---------------------------------------------------------------------------------------------------------------------

/** One more pair. Only tokens that come from a refresh carry `userId`. */
export const issueManaged = (
  world: World,
  clientId: string,
  userId: number,
  now: number,
  refreshed: boolean
): ManagedPair => {
  const accessTokenExpiresAt =
    world.accessTokenLifetimeMillis === undefined
      ? Math.floor((now + 3_600_000) / 60_000) * 60_000
      : now + world.accessTokenLifetimeMillis
  const refreshTokenExpiresAt = startOfDayInOneYear(now)
  const issue = (type: "access_token" | "refresh_token", expiresAt: number) =>
    Jwt.sign(
      {
        type,
        clientId,
        ownerId: userId,
        ...(refreshed ? { userId } : {}),
        expiresAt,
        jti: randomUUID(),
        iat: Math.floor(now / 1000)
      },
      world.store.signingKey
    )
  const accessToken = issue("access_token", accessTokenExpiresAt)
  const refreshToken = issue("refresh_token", refreshTokenExpiresAt)
  world.store.access.set({ token: accessToken, clientId, userId, expiresAt: accessTokenExpiresAt, createdAt: now })
  world.store.refresh.set({ token: refreshToken, clientId, userId, expiresAt: refreshTokenExpiresAt, createdAt: now })
  return { accessToken, refreshToken, accessTokenExpiresAt, refreshTokenExpiresAt }
}

/** The row of a refresh token that this client may spend now. */
export const findManagedRefresh = (
  world: World,
  clientId: string,
  token: string,
  request: Pick<Incoming, "now" | "switches">
): TokenRow | undefined => {
  const row = world.store.refresh.get(token)
  if (row === undefined || row.clientId !== clientId) return undefined
  return row.expiresAt <= request.now && !request.switches.expiredRefreshTokenAccepted ? undefined : row
}

/**
 * One transaction: forget every expired access token of the whole client, delete the spent refresh token, create a
 * pair. Undefined if the row is gone by now. The user's unexpired access tokens and other refresh tokens stay.
 */
export const rotateManaged = (world: World, row: TokenRow, now: number): ManagedPair | undefined => {
  if (!world.store.refresh.remove(row.token)) return undefined
  const expired = world.store.access.expired(now).filter((access) => access.clientId === row.clientId)
  removeAll(world.store.access, expired)
  for (const access of expired) world.store.validated.delete(access.token)
  return issueManaged(world, row.clientId, row.userId, now, true)
}

/**
 * Takes back what a refresh did to refresh tokens, of either kind: the spent one is stored again, and the issued one,
 * which nobody was told of, is not. The new access token stays.
 */
export const unrotate = (world: World, spent: string, issued: string): void => {
  rowOf(world, issued).remove()
  rowOf(world, spent).store()
}

/** The row that stands for a refresh token of either kind, made from its claims. */
const rowOf = ({ store }: World, token: string) => {
  const { clientId, exp, expiresAt, iat, ownerId, secret, userId } = Jwt.decode(token) ?? {}
  const [table, key] = typeof secret === "string" ? [store.grants, secret] : [store.refresh, token]
  return {
    remove: () => table.remove(key),
    store: () => {
      table.set({
        token: key,
        clientId: String(clientId),
        userId: Number(ownerId ?? userId),
        expiresAt: Number(expiresAt ?? Number(exp) * 1000),
        createdAt: Number(iat) * 1000
      })
    }
  }
}

/** One transaction: delete all tokens of this user, create a pair. */
export const forceRefresh = (world: World, clientId: string, userId: number, now: number): ManagedPair => {
  removeAll(world.store.access, world.store.access.ofUser(userId))
  removeAll(world.store.refresh, world.store.refresh.ofUser(userId))
  return issueManaged(world, clientId, userId, now, false)
}

/** Luxon's `plus({ years: 1 }).startOf("day")` on a server that runs in UTC. */
const startOfDayInOneYear = (now: number) => {
  const date = new Date(now)
  const month = date.getUTCMonth()
  const inOneYear = new Date(Date.UTC(date.getUTCFullYear() + 1, month, date.getUTCDate()))
  return inOneYear.getUTCMonth() === month ? inOneYear.getTime() : inOneYear.getTime() - 86_400_000
}

// ---------------------------------------------------------------------------------------------------------------------
// OAuth2
// ---------------------------------------------------------------------------------------------------------------------

export interface OAuth2Pair {
  readonly accessToken: string
  readonly refreshToken: string
  /** Seconds. */
  readonly expiresIn: number
  readonly scope: ReadonlyArray<string>
}

const refreshTokenSeconds = 30 * 86_400
const codeLifetime = 10 * 60_000

/** One more grant; earlier refresh tokens stay. `challenge` is remembered in the token by the first issue only. */
export const issueOAuth2 = (
  world: World,
  clientId: string,
  userId: number,
  scope: ReadonlyArray<string>,
  request: Pick<Incoming, "now" | "switches">,
  challenge: string | null = null
): OAuth2Pair => {
  const { signingKey } = world.store
  const iat = Math.floor(request.now / 1000)
  const expiresIn = Math.max(1, Math.round((world.accessTokenLifetimeMillis ?? 1_800_000) / 1000))
  const claims = { userId, teamId: null, scope }
  const access = (from: number) =>
    Jwt.sign({ ...claims, token_type: "Access Token", clientId, iat: from, exp: from + expiresIn }, signingKey)
  // These tokens have no `jti`: two of one second are the same string. One that a test declared expired must not come
  // back to life in the second in which it was issued, so the next one is dated a second later.
  let from = iat
  let accessToken = access(from)
  while (world.store.revoked.has(accessToken)) accessToken = access(++from)
  const secret = randomBytes(32).toString("base64url")
  const single = request.switches.line === "L"
  const refreshToken = Jwt.sign(
    {
      ...claims,
      token_type: "Refresh Token",
      clientId,
      ...(single ? { secret } : {}),
      ...(challenge === null ? {} : { codeChallenge: challenge, codeChallengeMethod: "S256" }),
      iat,
      exp: iat + refreshTokenSeconds
    },
    signingKey
  )
  if (single) {
    const expiresAt = (iat + refreshTokenSeconds) * 1000
    world.store.grants.set({ token: secret, clientId, userId, expiresAt, createdAt: request.now })
  }
  const dead = world.store.stateless.ofUser(userId).filter((row) => row.expiresAt <= request.now)
  removeAll(world.store.stateless, dead)
  for (const row of dead) world.store.revoked.delete(row.token)
  const expiresAt = (from + expiresIn) * 1000
  world.store.stateless.set({ token: accessToken, clientId, userId, expiresAt, createdAt: request.now })
  return { accessToken, refreshToken, expiresIn, scope }
}

/** The claims of an OAuth2 token of this type that has not expired. */
export const verifyOAuth2 = (
  world: World,
  token: string,
  type: "Access Token" | "Refresh Token",
  now: number
): OAuth2Claims | undefined => {
  const claims = Jwt.verify(token, world.store.signingKey, now)
  if (claims === undefined || claims.token_type !== type || world.store.revoked.has(token)) return undefined
  const { clientId, scope, secret, userId } = claims
  if (typeof clientId !== "string" || typeof userId !== "number" || !Array.isArray(scope)) return undefined
  return {
    clientId,
    userId,
    scope: scope.filter((item) => typeof item === "string"),
    secret: typeof secret === "string" ? secret : undefined
  }
}

export interface OAuth2Claims {
  readonly clientId: string
  readonly userId: number
  readonly scope: ReadonlyArray<string>
  readonly secret: string | undefined
}

/** Whether the row of a refresh token is stored. Tokens of the old format, without a secret, have none to look for. */
export const isStored = (world: World, claims: OAuth2Claims, line: "L" | "D"): boolean =>
  line === "D" || claims.secret === undefined || world.store.grants.get(claims.secret) !== undefined

/** Whether a lagging read replica knows a refresh token's row by now. */
export const isReplicated = (
  row: Pick<TokenRow, "createdAt"> | undefined,
  { now, switches }: Pick<Incoming, "now" | "switches">
): boolean => row === undefined || now - row.createdAt >= Duration.toMillis(switches.refreshReplicaLag)

/** Removes every refresh token of this client and user (line L) and issues the next pair with the same scope. */
export const rotateOAuth2 = (
  world: World,
  claims: OAuth2Claims,
  request: Pick<Incoming, "now" | "switches">
): OAuth2Pair => {
  if (request.switches.line === "L") {
    const rows = world.store.grants.ofUser(claims.userId).filter((row) => row.clientId === claims.clientId)
    removeAll(world.store.grants, rows)
  }
  return issueOAuth2(world, claims.clientId, claims.userId, claims.scope, request)
}

/** 54 characters that are safe in a URL, good for ten minutes and one use. */
export const issueCode = (
  world: World,
  client: OAuth2Client,
  userId: number,
  scope: ReadonlyArray<string>,
  codeChallenge: string | null,
  now: number
): string => {
  const code = randomBytes(41).toString("base64url").slice(0, 54)
  const row: Code = { code, clientId: client.clientId, userId, scope, codeChallenge, expiresAt: now + codeLifetime }
  world.store.codes.set(code, row)
  return code
}

/** Consumes a code: whatever happens to it afterwards, it is spent. */
export const takeCode = (world: World, client: OAuth2Client, code: string, now: number): Code | undefined => {
  const row = world.store.codes.get(code)
  if (row === undefined || row.clientId !== client.clientId || row.expiresAt <= now) return undefined
  world.store.codes.delete(code)
  return row
}
