/** The endpoints of `Api/Connections`. */
import { DateTime, Effect } from "effect"
import { type Connection, type ListedConnection, pageSize, type PutConnection } from "../Api/Connections.js"
import { CalClient } from "../CalClient.js"
import { CalTokens, type ConnectionInfo, type NewConnection } from "../CalTokens.js"
import type { UserUlid } from "../Token.js"
import { InvalidInput } from "../TokenError.js"
import * as TokenInput from "../TokenInput.js"
import { type ConnectionSummary, TokenStorage } from "../TokenStorage.js"
import * as Audit from "./Audit.js"
import * as Edge from "./Edge.js"
import * as Group from "./Group.js"

/** What a connection looks like from outside. */
const describe = (info: ConnectionInfo): Connection => ({
  ...standing(info, info.isExpired),
  isExpiringSoon: info.isExpiringSoon
})

/** The same in a list, as stored. */
const listed = (row: ConnectionSummary, now: number): ListedConnection => ({
  userUlid: row.userUlid,
  ...standing(row, row.accessTokenExpiresAt <= now)
})

const standing = ({ connection, status, ...info }: ConnectionSummary, isExpired: boolean) => ({
  kind: connection._tag === "ManagedUser" ? ("managed" as const) : ("oauth2" as const),
  clientId: connection.clientId,
  ...(status._tag === "Active"
    ? { status: "active" as const }
    : { status: "reauthorizationRequired" as const, cause: status.cause, since: DateTime.unsafeMake(status.since) }),
  calUserId: connection.calUserId ?? null,
  ...(connection._tag === "OAuth2" && connection.scope !== undefined ? { scope: connection.scope } : {}),
  isExpired,
  accessTokenExpiresAt: DateTime.unsafeMake(info.accessTokenExpiresAt),
  refreshTokenExpiresAt:
    info.refreshTokenExpiresAt === undefined ? null : DateTime.unsafeMake(info.refreshTokenExpiresAt),
  version: info.version,
  updatedAt: DateTime.unsafeMake(info.updatedAt)
})

const account = (input: typeof PutConnection.Type): Effect.Effect<NewConnection, InvalidInput> =>
  Effect.gen(function* () {
    const { clientId, kind, scope } = input
    const calUserId = input.calUserId === undefined ? undefined : yield* TokenInput.calUserId(input.calUserId)
    if (kind === "oauth2") return { _tag: "OAuth2", clientId, calUserId, scope }
    if (calUserId === undefined) {
      return yield* new InvalidInput({ field: "calUserId", expected: "is required for managed users" })
    }
    return { _tag: "ManagedUser", clientId, calUserId }
  })

const statuses = { active: "Active", reauthorizationRequired: "ReauthorizationRequired" } as const

/** A cursor is the last user of the page before. */
const position = (cursor: string | undefined): Effect.Effect<UserUlid | undefined, InvalidInput> =>
  cursor === undefined
    ? Effect.succeed(undefined)
    : Effect.mapError(
        TokenInput.userUlid(cursor),
        () => new InvalidInput({ field: "cursor", expected: "must be the cursor of the page before" })
      )

const done = { success: true } as const

export const layer = Group.make("connections", (handlers) =>
  Effect.gen(function* () {
    const tokens = yield* CalTokens
    const storage = yield* TokenStorage
    const client = yield* CalClient
    return handlers
      .handleRaw(
        "getConnection",
        Edge.endpoint("getConnection", (_, userUlid) =>
          Effect.map(tokens.info(userUlid), (info) => ({ success: true as const, connection: describe(info) }))
        )
      )
      .handleRaw(
        "putConnection",
        Edge.endpoint("putConnection", (input, userUlid) =>
          Effect.gen(function* () {
            const connect = tokens.connect(userUlid, yield* account(input), input)
            yield* Audit.changing(userUlid, connect, Audit.connected)
            return done
          })
        )
      )
      .handleRaw(
        "deleteConnection",
        Edge.endpoint("deleteConnection", (_, userUlid) =>
          Effect.as(
            Audit.changing(userUlid, tokens.disconnect(userUlid), () => "connection.deleted"),
            done
          )
        )
      )
      .handleRaw(
        "listConnections",
        Edge.endpoint("listConnections", ({ cursor, limit = pageSize.default, status }) =>
          Effect.gen(function* () {
            const rows = yield* storage.list({
              status: status && statuses[status],
              after: yield* position(cursor),
              // One more than asked for tells whether there is another page.
              limit: limit + 1
            })
            const now = yield* client.now
            const page = rows.slice(0, limit)
            const next = rows.length > limit ? page.at(-1)?.userUlid : undefined
            return {
              success: true as const,
              connections: page.map((row) => listed(row, now)),
              ...(next === undefined ? {} : { cursor: next })
            }
          })
        )
      )
  })
)
