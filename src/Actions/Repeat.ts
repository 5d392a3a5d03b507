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
 * Repeats a request whose token was refused, at most twice: with the stored token unless that is the one refused, then with the one that
 * is to be used instead. The caller gets the last answer, or the first where no token was to be had.
 */
export const handle = async (
  response: Response,
  retry: (accessToken: string) => Promise<Response>,
  rejectedToken: string | undefined,
  tokens: Tokens
): Promise<Response> => {
  const stored = await tokens.stored()
  if (stored === undefined) return response
  let refused: Refused = { accessToken: stored, status: response.status }
  if (stored !== rejectedToken) {
    const second = await retry(stored)
    if (!(await isRefused(second))) return second
    // Nobody will read it, and an unread body holds its connection.
    second.body?.cancel().catch(() => {})
    refused = { accessToken: stored, status: second.status }
  }
  const other = await tokens.instead(refused)
  return other === undefined ? response : retry(other)
}
