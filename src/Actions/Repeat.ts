/**
 * The rules after a refusal, for callers that send their requests themselves.
 */
import { isTokenRefusal } from "../CalHttp/Refusal.js"

/** Where the next access token comes from; `undefined` when there is none to be had. */
export interface Tokens {
  /** The stored token, refreshed first if it has expired. */
  readonly stored: () => Promise<string | undefined>
  /** What to use instead of a token that Cal.com refused. */
  readonly instead: (refused: Refused) => Promise<string | undefined>
}

export interface Refused {
  readonly accessToken: string
  readonly status: number
  /** The request was sent twice: see `CalTokens.Refusal`. */
  readonly isSecond?: boolean
}

/** Whether Cal.com refused the token. The body is read from a copy; one that was read before cannot be judged. */
export const isRefused = async (response: Response): Promise<boolean> => {
  if (response.ok) return false
  const needsBody = response.status === 401 || response.status === 403
  const body = needsBody ? await readCopy(response) : ""
  return isTokenRefusal(response.status, body)
}

const readCopy = async (response: Response): Promise<string> => {
  try {
    return await response.clone().text()
  } catch {
    return ""
  }
}

/**
 * Repeats a request whose token was refused, at most twice: with the stored token unless that is the one refused, then
 * with the one that is to be used instead. Where that is what it began with, it is repeated once more with the same token
 * if that is so young that Cal.com may not know it everywhere. The caller gets the last answer, or the first where no
 * token was to be had.
 */
export const handle = async (
  response: Response,
  retry: (accessToken: string) => Promise<Response>,
  rejectedToken: string | undefined,
  tokens: Tokens
): Promise<Response> => {
  const stored = await tokens.stored()
  if (stored === undefined) return response
  if (stored !== rejectedToken) {
    const second = await retry(stored)
    if (!(await isRefused(second))) return second
    discard(second)
    const other = await tokens.instead({ accessToken: stored, status: second.status })
    return other === undefined ? response : retry(other)
  }
  const other = await tokens.instead({ accessToken: stored, status: response.status })
  if (other === undefined) return response
  const second = await retry(other)
  if (!(await isRefused(second))) return second
  const same = await tokens.instead({ accessToken: other, status: second.status, isSecond: true })
  if (same !== other) return second
  discard(second)
  return retry(same)
}

/** Nobody will read it, and an unread body holds its connection. */
const discard = (response: Response) => {
  response.body?.cancel().catch(() => {})
}
