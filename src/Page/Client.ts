/**
 * What the service is asked, typed by its API. Paths are relative to the page, so they hold below any prefix. Whatever fails
 * is a {@link ServiceError} with the words of the service.
 */
import type { Tag } from "../Api/Failure.js"
import {
  type ConnectionFacts,
  type ListedUser,
  type Refreshed,
  ServiceError,
  type Status,
  type UserHistory
} from "./Answers.js"
import * as Clock from "./Clock.js"
import type { Overview } from "./Wire.js"

export { ServiceError }
export type { Code, ConnectionFacts, ListedUser, Refreshed, Status, UserHistory } from "./Answers.js"

const away = (status: number): ServiceError => new ServiceError("Away", "The service does not answer.", status)

/** Whatever was thrown, as what the page can show. */
export const toError = (thrown: unknown): ServiceError => (thrown instanceof ServiceError ? thrown : away(0))

interface Options {
  readonly method?: "GET" | "POST" | "DELETE"
  readonly query?: Readonly<Record<string, string | number | undefined>>
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
  readonly signal?: AbortSignal | undefined
  /** Milliseconds until it counts as away; without any it may take as long as it likes. */
  readonly patience?: number
}

const written = (query: Options["query"] = {}): string => {
  const given = Object.entries(query).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]]))
  return given.length === 0 ? "" : `?${new URLSearchParams(given).toString()}`
}

let ended: () => void = () => undefined

/** What to do when an answer says that there is no session any more. */
export const onSessionEnd = (run: () => void): void => {
  ended = run
}

const failureOf = async (response: Response): Promise<ServiceError> => {
  const body: unknown = await response.json().catch(() => undefined)
  // A proxy in front says in words of its own that nobody is behind it.
  if (typeof body !== "object" || body === null || !("code" in body)) return away(response.status)
  const { code, error, retryAfter } = body as { code: Tag; error?: string; retryAfter?: number }
  return new ServiceError(code, error ?? code, response.status, retryAfter)
}

/** An answer that succeeded, its body unread. */
export const open = async (path: string, options: Options = {}): Promise<Response> => {
  const { body, headers, method = "GET", patience, query, signal } = options
  const signals = [signal, patience === undefined ? undefined : AbortSignal.timeout(patience)].filter(
    (each) => each !== undefined
  )
  const response = await fetch(path + written(query), {
    method,
    headers: {
      "x-cal-tokens-page": "1",
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...headers
    },
    body: body === undefined ? null : JSON.stringify(body),
    credentials: "same-origin",
    redirect: "error",
    cache: "no-store",
    signal: AbortSignal.any(signals)
  }).catch((thrown: unknown) => {
    if (signal?.aborted === true) throw thrown
    throw away(0)
  })
  Clock.adjust(response.headers.get("date"))
  if (response.ok) return response
  const failure = await failureOf(response)
  if (failure.status === 401 && path !== "page/session") ended()
  throw failure
}

/** An answer as JSON. Aborted by the caller's signal it rejects with that signal's reason. */
export const request = async <A>(path: string, options: Options = {}): Promise<A> => {
  const response = await open(path, { patience: 15_000, ...options })
  return response.json().catch((thrown: unknown) => {
    if (options.signal?.aborted === true) throw thrown
    throw away(response.status)
  }) as Promise<A>
}

export interface Session {
  /** The API key's name. */
  readonly name: string
  readonly expiresAt: string
  readonly demo: boolean
  /** Where the simulator's controls are. */
  readonly sandbox?: string
}

export const overview = (signal?: AbortSignal) =>
  request<{ overview: Overview }>("api/cal/overview", { signal }).then((answer) => answer.overview)

export interface UsersQuery {
  readonly status?: Status | undefined
  /** The user's number at Cal.com. */
  readonly calUserId?: number | undefined
  /** Those who have to reconnect the latest first. */
  readonly order?: "since" | undefined
  readonly cursor?: string | undefined
  readonly limit?: number
}

export interface UsersPage {
  readonly connections: ReadonlyArray<ListedUser>
  readonly cursor?: string
}

export const users = (query: UsersQuery, signal?: AbortSignal) =>
  request<UsersPage>("api/cal/connections", { query: { ...query }, signal })

const ofUser = (room: "connections" | "history", userUlid: string): string =>
  `api/cal/${room}/${encodeURIComponent(userUlid)}`

export const user = (userUlid: string, signal?: AbortSignal) =>
  request<{ connection: ConnectionFacts }>(ofUser("connections", userUlid), { signal }).then(
    (answer) => answer.connection
  )

export const history = (userUlid: string, signal?: AbortSignal) =>
  request<{ history: UserHistory }>(ofUser("history", userUlid), { signal }).then((answer) => answer.history)

/** Before a refusal is believed, Cal.com is asked again: that takes a while. */
export const refresh = (userUlid: string) =>
  request<Refreshed>("api/cal/refresh-token", {
    method: "POST",
    body: { userUlid, forceRefresh: true },
    patience: 90_000
  })

/** Of a managed user: Cal.com ends all tokens that there are, and issues a new pair. */
export const reissue = (userUlid: string) =>
  request<Refreshed>("api/cal/refresh-managed-user-token", {
    method: "POST",
    body: { userUlid, reissue: true },
    patience: 90_000
  })

export const disconnect = (userUlid: string) => request<unknown>(ofUser("connections", userUlid), { method: "DELETE" })

export const session = (signal?: AbortSignal) => request<Session>("page/session", { signal })

export const logIn = (key: string) => request<Session>("page/session", { method: "POST", body: { key } })

export const logOut = () => request<unknown>("page/session", { method: "DELETE" })
