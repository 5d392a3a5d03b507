/** Connections as the doors tell of them: a page of them, and what may be told of one. No tokens. */
import { Effect } from "effect"
import type { UserUlid } from "../Token.js"
import { InvalidInput, likelyCause, type ReauthorizationCause, type StorageUnavailable } from "../TokenError.js"
import * as TokenInput from "../TokenInput.js"
import { type ConnectionSummary, TokenStorage } from "../TokenStorage.js"

/** Instants are milliseconds since the epoch. */
export interface Standing {
  readonly kind: "managed" | "oauth2"
  readonly clientId: string
  readonly status: "active" | "reauthorizationRequired"
  readonly cause?: ReauthorizationCause
  readonly since?: number
  /** What probably became of the user, for people. */
  readonly hint?: string
  /** Null where nobody knows it. */
  readonly calUserId: number | null
  readonly scope?: string
  readonly isExpired: boolean
  readonly accessTokenExpiresAt: number
  readonly refreshTokenExpiresAt: number | null
  readonly version: number
  readonly updatedAt: number
}

export const standing = (
  { connection, status, ...row }: Omit<ConnectionSummary, "userUlid">,
  isExpired: boolean
): Standing => ({
  kind: connection._tag === "ManagedUser" ? "managed" : "oauth2",
  clientId: connection.clientId,
  ...(status._tag === "Active"
    ? { status: "active" }
    : { status: "reauthorizationRequired", cause: status.cause, since: status.since, ...hintOf(status) }),
  calUserId: connection.calUserId ?? null,
  ...(connection._tag === "OAuth2" && connection.scope !== undefined ? { scope: connection.scope } : {}),
  isExpired,
  accessTokenExpiresAt: row.accessTokenExpiresAt,
  refreshTokenExpiresAt: row.refreshTokenExpiresAt ?? null,
  version: row.version,
  updatedAt: row.updatedAt
})

const hintOf = (status: Parameters<typeof likelyCause>[0]) => {
  const hint = likelyCause(status)
  return hint === undefined ? {} : { hint }
}

/** The same with instants as a door writes them. */
export const withInstants = <I>({ since, ...standing }: Standing, instant: (millis: number) => I) => ({
  ...standing,
  ...(since === undefined ? {} : { since: instant(since) }),
  accessTokenExpiresAt: instant(standing.accessTokenExpiresAt),
  refreshTokenExpiresAt: standing.refreshTokenExpiresAt === null ? null : instant(standing.refreshTokenExpiresAt),
  updatedAt: instant(standing.updatedAt)
})

export interface Query {
  readonly status?: Standing["status"] | undefined
  /** The user at Cal.com. */
  readonly calUserId?: number | undefined
  /** `since`: those who have to reconnect, the latest first. */
  readonly order?: "since" | undefined
  /** That of the page before. */
  readonly cursor?: string | undefined
  readonly limit: number
}

export interface Page {
  readonly connections: ReadonlyArray<Standing & { readonly userUlid: UserUlid }>
  /** Asks for the next page; absent on the last one. */
  readonly cursor?: string
}

const statuses = { active: "Active", reauthorizationRequired: "ReauthorizationRequired" } as const

/** A cursor is the last user of the page before, and in the order of `since` that instant before it. */
const position = (cursor: string): Effect.Effect<UserUlid, InvalidInput> =>
  Effect.mapError(
    TokenInput.userUlid(cursor),
    () => new InvalidInput({ field: "cursor", expected: "must be the cursor of the page before" })
  )

const positionSince = (cursor: string) => {
  const [, since, user = ""] = /^(\d{1,15})\.(.*)$/.exec(cursor) ?? []
  return Effect.map(position(user), (userUlid) => ({ since: Number(since), userUlid }))
}

const inOrder = ({ calUserId, cursor, limit, order, status }: Query) =>
  Effect.gen(function* () {
    const storage = yield* TokenStorage
    if (order === undefined) {
      const after = cursor === undefined ? undefined : yield* position(cursor)
      return yield* storage.list({ status: status && statuses[status], calUserId, after, limit })
    }
    if (status === "active" || calUserId !== undefined) {
      const expected =
        "must be left out with status=active and with calUserId: it is that of users who have to reconnect"
      return yield* new InvalidInput({ field: "order", expected })
    }
    return yield* storage.reconnecting({
      before: cursor === undefined ? undefined : yield* positionSince(cursor),
      limit
    })
  })

const cursorOf = ({ status, userUlid }: ConnectionSummary, order: Query["order"]): string =>
  order === undefined || status._tag === "Active" ? userUlid : `${status.since}.${userUlid}`

/** In the order of the users' ULIDs, unless another one is asked for. `now`: Cal.com's time. */
export const page = (
  query: Query,
  now: Effect.Effect<number>
): Effect.Effect<Page, InvalidInput | StorageUnavailable, TokenStorage> =>
  Effect.gen(function* () {
    const { limit, order } = query
    // One more than asked for tells whether there is another page.
    const rows = yield* inOrder({ ...query, limit: limit + 1 })
    const instant = yield* now
    const page = rows.slice(0, limit)
    const last = page.at(-1)
    const next = rows.length > limit && last !== undefined ? cursorOf(last, order) : undefined
    return {
      connections: page.map((row) => ({
        userUlid: row.userUlid,
        ...standing(row, row.accessTokenExpiresAt <= instant)
      })),
      ...(next === undefined ? {} : { cursor: next })
    }
  })
