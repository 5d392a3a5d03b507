/**
 * Token code of one's own, as an app has it before it moves: a table, a refresh when a token is about to expire, a request that
 * is repeated when Cal.com refuses the token. What goes wrong in it goes wrong here, too: nothing keeps two callers, or two
 * processes, from spending one refresh token.
 */
import type { Actions } from "cal-tokens/actions"
import type { Pool } from "pg"

/** How Cal.com knows this code. */
export const name = "the-app"

export const table = `
  create table "UserCalTokens" (
    "userUlid" text primary key,
    "calManagedUserId" integer, -- null for somebody who consented
    "calAccessToken" text not null,
    "calRefreshToken" text not null,
    "calAccessTokenExpiresAt" timestamptz not null
  )`

export interface Row {
  readonly userUlid: string
  readonly calManagedUserId: number | null
  readonly calAccessToken: string
  readonly calRefreshToken: string
  readonly calAccessTokenExpiresAt: Date
}

interface Tokens {
  readonly accessToken: string
  readonly refreshToken: string
  readonly accessTokenExpiresAt: number
}

export interface Failure {
  readonly success: false
  readonly error: string
}

type Result<A = unknown> = ({ readonly success: true } & A) | Failure

export interface Settings {
  readonly pool: Pool
  readonly apiUrl: string
  readonly clientId: string
  readonly clientSecret: string
  readonly oauth2: { readonly clientId: string; readonly clientSecret: string | undefined }
  /** Who is signed in. */
  readonly signedIn: (request: Request) => string
  readonly revalidatePath: (path: string) => void
  /** Added before the first user moves: what cares for a user who has. */
  readonly moved?: (userUlid: string) => Promise<Actions | undefined>
}

const nobody = () => Promise.resolve(undefined)

export const makeBefore = ({ moved = nobody, pool, revalidatePath, signedIn, ...cal }: Settings) => {
  const headers = { "content-type": "application/json", "user-agent": name }

  // ---- lib/cal/cal-service.ts ------------------------------------------------------------------------------------------

  const find = async (userUlid: string): Promise<Row> => {
    const { rows } = await pool.query<Row>(`select * from "UserCalTokens" where "userUlid" = $1`, [userUlid])
    const [row] = rows
    if (row === undefined) throw new Error(`User ${userUlid} has no Cal.com tokens`)
    return row
  }

  const save = (userUlid: string, { accessToken, accessTokenExpiresAt, refreshToken }: Tokens) =>
    pool.query(
      `update "UserCalTokens" set "calAccessToken" = $2, "calRefreshToken" = $3, "calAccessTokenExpiresAt" = $4
       where "userUlid" = $1`,
      [userUlid, accessToken, refreshToken, new Date(accessTokenExpiresAt)]
    )

  const isExpiringSoon = ({ calAccessTokenExpiresAt }: Row) =>
    calAccessTokenExpiresAt.getTime() - new Date().getTime() < 5 * 60_000

  const ask = async <A>(path: string, headers: Record<string, string>, body: unknown): Promise<A> => {
    const response = await fetch(cal.apiUrl + path, { method: "POST", headers, body: JSON.stringify(body) })
    if (!response.ok) throw new Error(`Cal.com answered ${response.status} to a refresh`)
    return (await response.json()) as A
  }

  const askForManaged = async (refreshToken: string): Promise<Tokens> => {
    const secret = { ...headers, "x-cal-secret-key": cal.clientSecret }
    const { data } = await ask<{ readonly data: Tokens }>(`/oauth/${cal.clientId}/refresh`, secret, { refreshToken })
    return data
  }

  const askForOAuth2 = async (refreshToken: string): Promise<Tokens> => {
    const answer = await ask<Record<"access_token" | "refresh_token", string> & { readonly expires_in: number }>(
      "/auth/oauth2/token",
      headers,
      {
        grant_type: "refresh_token",
        client_id: cal.oauth2.clientId,
        client_secret: cal.oauth2.clientSecret,
        refresh_token: refreshToken
      }
    )
    return {
      accessToken: answer.access_token,
      refreshToken: answer.refresh_token,
      accessTokenExpiresAt: new Date().getTime() + answer.expires_in * 1000
    }
  }

  /** When a user was refreshed last: what keeps a token that Cal.com goes on refusing from being refreshed for ever. */
  const refreshes = new Map<string, ReadonlyArray<number>>()

  const isLooping = (userUlid: string): boolean => {
    const now = new Date().getTime()
    const recent = (refreshes.get(userUlid) ?? []).filter((at) => now - at < 30_000)
    refreshes.set(userUlid, [...recent, now])
    return recent.length >= 3
  }

  const refresh = async (userUlid: string, forceRefresh: boolean): Promise<string> => {
    const row = await find(userUlid)
    if (!forceRefresh && !isExpiringSoon(row)) return row.calAccessToken
    if (isLooping(userUlid)) throw new Error(`User ${userUlid} is refreshed too often`)
    const tokens = await (row.calManagedUserId === null ? askForOAuth2 : askForManaged)(row.calRefreshToken)
    await save(userUlid, tokens)
    return tokens.accessToken
  }

  // ---- utils/actions/cal-tokens.ts --------------------------------------------------------------------------------------

  const ensureValidCalToken = async (
    userUlid: string,
    forceRefresh = false
  ): Promise<Result<{ readonly accessToken: string }>> => {
    try {
      const instead = await moved(userUlid)
      if (instead !== undefined) return await instead.ensureValidCalToken(userUlid, forceRefresh)
      return { success: true, accessToken: await refresh(userUlid, forceRefresh) }
    } catch (error) {
      return { success: false, error: error instanceof Error ? error.message : "The token could not be refreshed" }
    }
  }

  const refreshUserCalTokens = async (userUlid: string, forceRefresh = false): Promise<Result> => {
    const instead = await moved(userUlid)
    if (instead !== undefined) return instead.refreshUserCalTokens(userUlid, forceRefresh)
    const refreshed = await ensureValidCalToken(userUlid, forceRefresh)
    if (!refreshed.success) return refreshed
    revalidatePath("/calendar")
    return { success: true }
  }

  // ---- utils/cal/token-util.ts ------------------------------------------------------------------------------------------

  const handleCalApiResponse = async (
    response: Response,
    retry: (accessToken: string) => Promise<Response>,
    userUlid: string
  ): Promise<Response> => {
    const instead = await moved(userUlid)
    if (instead !== undefined) return instead.handleCalApiResponse(response, retry, userUlid)
    if (response.status !== 401 && response.status !== 498) return response
    const refreshed = await ensureValidCalToken(userUlid, true)
    return refreshed.success ? retry(refreshed.accessToken) : response
  }

  // ---- lib/cal/cal-api.ts -----------------------------------------------------------------------------------------------

  const makeCalApiRequest = async <A>(
    endpoint: string,
    method: "GET" | "POST",
    body: unknown,
    userUlid: string
  ): Promise<A | Failure> => {
    const instead = await moved(userUlid)
    if (instead !== undefined) return instead.makeCalApiRequest<A>(endpoint, method, body, userUlid)
    const token = await ensureValidCalToken(userUlid)
    if (!token.success) return token
    const send = (accessToken: string) =>
      fetch(cal.apiUrl + endpoint, {
        method,
        headers: { ...headers, "cal-api-version": "2024-08-13", authorization: `Bearer ${accessToken}` },
        ...(body === undefined ? {} : { body: JSON.stringify(body) })
      })
    const response = await handleCalApiResponse(await send(token.accessToken), send, userUlid)
    if (!response.ok) return { success: false, error: `Cal.com answered ${response.status}` }
    return (await response.json()) as A
  }

  // ---- app/api/cal/refresh-token/route.ts -------------------------------------------------------------------------------

  const refreshToken = async (request: Request) => {
    const { forceRefresh } = (await request.json()) as { readonly forceRefresh?: boolean }
    const result = await refreshUserCalTokens(signedIn(request), forceRefresh)
    return Response.json(result, { status: result.success ? 200 : 500 })
  }

  // ---- app/api/cal/refresh-managed-user-token/route.ts ------------------------------------------------------------------

  const refreshManagedUserToken = async (request: Request) => {
    const userUlid = signedIn(request)
    const { calManagedUserId } = await find(userUlid)
    if (calManagedUserId === null)
      return Response.json({ success: false, error: "Not a managed user" }, { status: 400 })
    const result = await refreshUserCalTokens(userUlid, true)
    return Response.json(result, { status: result.success ? 200 : 500 })
  }

  return {
    ensureValidCalToken,
    refreshUserCalTokens,
    handleCalApiResponse,
    makeCalApiRequest,
    refreshToken,
    refreshManagedUserToken
  }
}
