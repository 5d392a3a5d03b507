/** The endpoints of `Api/Connections`. */
import { HttpApiBuilder } from "@effect/platform"
import { DateTime, Effect } from "effect"
import { Api } from "../Api.js"
import { type Connection, PutConnection } from "../Api/Connections.js"
import { CalTokens, type ConnectionInfo, type NewConnection } from "../CalTokens.js"
import { InvalidInput } from "../TokenError.js"
import * as TokenInput from "../TokenInput.js"
import * as Body from "./Body.js"
import * as Edge from "./Edge.js"

/** What a connection looks like from outside. */
export const describe = ({ connection, status, ...info }: ConnectionInfo): Connection => ({
  kind: connection._tag === "ManagedUser" ? "managed" : "oauth2",
  ...(status._tag === "Active"
    ? { status: "active" }
    : { status: "reauthorizationRequired", cause: status.cause, since: DateTime.unsafeMake(status.since) }),
  calUserId: connection.calUserId ?? null,
  isExpired: info.isExpired,
  isExpiringSoon: info.isExpiringSoon,
  accessTokenExpiresAt: DateTime.unsafeMake(info.accessTokenExpiresAt),
  refreshTokenExpiresAt:
    info.refreshTokenExpiresAt === undefined ? null : DateTime.unsafeMake(info.refreshTokenExpiresAt),
  version: info.version,
  updatedAt: DateTime.unsafeMake(info.updatedAt)
})

const account = (input: typeof PutConnection.Type): Effect.Effect<NewConnection, InvalidInput> =>
  Effect.gen(function* () {
    const calUserId = input.calUserId === undefined ? undefined : yield* TokenInput.calUserId(input.calUserId)
    if (input.kind === "oauth2") return { _tag: "OAuth2", calUserId, scope: input.scope }
    if (calUserId === undefined) {
      return yield* new InvalidInput({ field: "calUserId", expected: "is required for managed users" })
    }
    return { _tag: "ManagedUser", calUserId }
  })

const done = { success: true } as const

export const layer = HttpApiBuilder.group(Api, "connections", (handlers) =>
  Effect.map(CalTokens, (tokens) =>
    handlers
      .handleRaw("getConnection", ({ path }) =>
        Effect.gen(function* () {
          yield* Edge.operation("getConnection")
          const info = yield* tokens.info(yield* Edge.user(path.userUlid))
          return { success: true as const, connection: describe(info) }
        }).pipe(Edge.refuseAll)
      )
      .handleRaw("putConnection", ({ path }) =>
        Effect.gen(function* () {
          yield* Edge.operation("putConnection")
          const userUlid = yield* Edge.user(path.userUlid)
          const input = yield* Body.json(PutConnection)
          yield* tokens.connect(userUlid, yield* account(input), input)
          return done
        }).pipe(Edge.refuseAll)
      )
      .handleRaw("deleteConnection", ({ path }) =>
        Effect.gen(function* () {
          yield* Edge.operation("deleteConnection")
          yield* tokens.disconnect(yield* Edge.user(path.userUlid))
          return done
        }).pipe(Edge.refuseAll)
      )
  )
)
